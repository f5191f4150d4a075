"""Fetching from a publisher that the test plays itself: verified, unpacked safely, whole or not at all."""

import hashlib
import io
import os
import zipfile
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest
from recloom.data.prepare import public_datasets as download
from recloom.data.prepare.public_datasets import (
    KNOWN,
    PublicDataset,
    fetch,
    public_dataset,
    published_md5,
    unpack,
)
from recloom.data.prepare.source import prepare_source, readers
from recloom.errors import DataError

RATINGS = "userId,movieId,rating,timestamp\n1,2,3,4\n"


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture
def publisher(tmp_path, monkeypatch):
    """A folder served on the local machine as the publisher of the set `toy`."""
    folder = tmp_path / "www"
    folder.mkdir()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}"
    toy = PublicDataset("movielens", "free", "page of the toy", (f"{url}/toy.zip",), "toy", True)
    monkeypatch.setitem(KNOWN, "toy", toy)
    monkeypatch.setenv(download.CACHE, str(tmp_path / "cache"))
    yield folder
    server.shutdown()


def publish(folder, md5=None, members=(("toy/ratings.csv", RATINGS),)):
    (folder / "toy.zip").write_bytes(zipped(*members))
    digest = md5 or hashlib.md5((folder / "toy.zip").read_bytes()).hexdigest()
    (folder / "toy.zip.md5").write_text(f"MD5 (toy.zip) = {digest}\n")


def zipped(*members):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in members:
            archive.writestr(name, text)
    return buffer.getvalue()


def test_a_known_set_is_fetched_once_and_prepared(publisher, tmp_path):
    publish(publisher)
    _, data, card = prepare_source("movielens", tmp_path / "out", None, "toy")
    assert data.interactions.rows() == [("1", "2", 4, 3.0)]
    assert (card.licence, card.source.url) == ("free", "page of the toy")
    (publisher / "toy.zip").unlink()
    assert sorted(os.listdir(fetch("toy"))) == ["ratings.csv"]
    assert sorted(os.listdir(tmp_path / "cache" / "raw")) == ["toy"]


def test_a_wrong_checksum_leaves_nothing(publisher, tmp_path):
    publish(publisher, md5="0" * 32)
    with pytest.raises(
        DataError, match=r"toy.zip: the publisher's MD5 is 0{32}, the file fetched has [0-9a-f]{32}"
    ):
        fetch("toy")
    assert os.listdir(tmp_path / "cache" / "raw") == []
    (publisher / "toy.zip.md5").write_text("sorry")
    with pytest.raises(DataError, match=r"md5 holds no MD5 digest but 'sorry'"):
        fetch("toy")


def test_what_the_publisher_lacks_is_named(publisher):
    with pytest.raises(DataError, match=r"toy.zip: the publisher answered 404"):
        fetch("toy")


def test_no_network_is_said_plainly(monkeypatch, tmp_path):
    monkeypatch.setitem(KNOWN, "gone", PublicDataset("movielens", "", "", ("http://127.0.0.1:9/x.zip",)))
    with pytest.raises(DataError, match=r"x.zip cannot be reached .*Check the network.*--path"):
        fetch("gone", tmp_path)


def test_a_login_is_said_plainly():
    with pytest.raises(DataError, match=r"mind-small cannot be fetched by a program.*msnews.*--path FOLDER"):
        fetch("mind-small")


def test_an_unknown_name_lists_the_known():
    with pytest.raises(DataError, match=r"no known set is called 'ml-2m'. Known: ml-100k, ml-1m"):
        public_dataset("ml-2m")


@pytest.mark.parametrize("name", ["../evil.txt", "/etc/evil", "a/../../evil", "..\\evil", "C:evil"])
def test_members_never_leave_the_folder(tmp_path, name):
    (tmp_path / "x.zip").write_bytes(zipped(("fine.txt", "x"), (name, "evil")))
    with pytest.raises(DataError, match=r"x.zip holds the unsafe member"):
        unpack(tmp_path / "x.zip", tmp_path / "out")
    assert not list(tmp_path.rglob("*evil*"))


def test_links_are_refused(tmp_path):
    link = zipfile.ZipInfo("link")
    link.external_attr = 0o120777 << 16
    (tmp_path / "x.zip").write_bytes(zipped((link, "/etc/passwd")))
    with pytest.raises(DataError, match="unsafe member 'link'"):
        unpack(tmp_path / "x.zip", tmp_path / "out")


def test_the_unpacked_size_is_bounded(tmp_path):
    (tmp_path / "x.zip").write_bytes(zipped(("bomb", "0" * 5_000_000)))
    with pytest.raises(DataError, match=r"unpacks to more than 1,000,000 bytes: refused"):
        unpack(tmp_path / "x.zip", tmp_path / "out", largest=1_000_000)
    (tmp_path / "y.zip").write_bytes(b"no zip")
    with pytest.raises(DataError, match=r"y.zip is not a readable zip file"):
        unpack(tmp_path / "y.zip", tmp_path / "out")


@pytest.mark.parametrize("form", ["{}  ml.zip\n", "MD5 (ml.zip) = {}", "{}"])
def test_both_forms_of_md5_files(form):
    digest = "0123456789ABCDEF0123456789abcdef"
    assert published_md5(form.format(digest), "x") == digest.lower()


def test_every_known_set_has_a_reader_a_licence_and_a_page():
    assert len(KNOWN) > 8
    for name, one in KNOWN.items():
        assert one.reader in readers(), name
        assert one.licence, name
        assert one.page.startswith("https://"), name
        assert bool(one.urls) != bool(one.manual), name
        assert all(url.startswith("https://") for url in one.urls), name
    assert KNOWN["ml-1m"].checksums
