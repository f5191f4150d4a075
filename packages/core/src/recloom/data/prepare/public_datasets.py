"""Public datasets: where their publishers keep them, and how they are fetched and unpacked, atomically.

Nothing is mirrored. A file is verified where its publisher gives a checksum; an archive is unpacked below its folder
or not at all.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import zipfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from ...errors import DataError
from ...io import whole_folder
from ...progress import Progress

CACHE = "RECLOOM_CACHE"
LARGEST = 20 << 30
"""Bytes that an archive may unpack to."""
_PIECE = 1 << 20
GROUPLENS = "https://files.grouplens.org/datasets/movielens"
AMAZON_2014 = "https://snap.stanford.edu/data/amazon/productGraph/categoryFiles"
AMAZON_2023 = "https://mcauleylab.ucsd.edu/public_datasets/data/amazon_2023/raw"
_MOVIELENS = "GroupLens: research use, no commercial use without permission; see the README inside"
_AMAZON = "published by the McAuley Lab (UCSD) for research; the site states no licence"
_MIND = "Microsoft Research Licence: non-commercial use"


@dataclass(frozen=True)
class PublicDataset:
    """One public set."""

    reader: str
    licence: str
    page: str
    """Where the publisher describes it."""
    urls: tuple[str, ...] = ()
    inner: str = ""
    """Folder inside the archive."""
    checksums: bool = False
    """Whether the publisher puts a `.md5` file beside each file."""
    manual: str = ""
    """Why it cannot be fetched by a program, where that is so."""


def _movielens(name: str) -> PublicDataset:
    page = "https://grouplens.org/datasets/movielens/"
    return PublicDataset("movielens", _MOVIELENS, page, (f"{GROUPLENS}/{name}.zip",), name, True)


_MIND_SET = PublicDataset(
    "mind", _MIND, "https://msnews.github.io/", manual="its terms are accepted on the publisher's page"
)

KNOWN: dict[str, PublicDataset] = {
    "ml-100k": _movielens("ml-100k"),
    "ml-1m": _movielens("ml-1m"),
    "ml-10m": PublicDataset(
        "movielens", _MOVIELENS, "https://grouplens.org/datasets/movielens/10m/",
        (f"{GROUPLENS}/ml-10m.zip",), "ml-10M100K", True,
    ),
    "ml-20m": _movielens("ml-20m"),
    "ml-25m": _movielens("ml-25m"),
    "ml-32m": _movielens("ml-32m"),
    "ml-latest-small": _movielens("ml-latest-small"),
    "ml-latest": _movielens("ml-latest"),
    "amazon-2014-beauty": PublicDataset(
        "amazon", _AMAZON, "https://jmcauley.ucsd.edu/data/amazon/",
        (f"{AMAZON_2014}/reviews_Beauty_5.json.gz", f"{AMAZON_2014}/meta_Beauty.json.gz"),
    ),
    "amazon-2023-beauty": PublicDataset(
        "amazon", _AMAZON, "https://amazon-reviews-2023.github.io/",
        (
            f"{AMAZON_2023}/review_categories/All_Beauty.jsonl.gz",
            f"{AMAZON_2023}/meta_categories/meta_All_Beauty.jsonl.gz",
        ),
    ),
    "mind-small": _MIND_SET,
    "mind-large": _MIND_SET,
}  # fmt: skip
"""Name on the command line to set."""


def public_dataset(name: str) -> PublicDataset:
    """The known set of that name. Raises DataError that lists the names."""
    if name not in KNOWN:
        raise DataError(
            f"no known set is called {name!r}. Known: {', '.join(KNOWN)}. Or give your own files: --path."
        )
    return KNOWN[name]


def cache_folder() -> Path:
    """Where fetched sets are kept: `RECLOOM_CACHE`, else `~/.cache/recloom`."""
    return Path(os.environ.get(CACHE) or Path.home() / ".cache" / "recloom") / "raw"


def fetch(name: str, into: Path | None = None) -> Path:
    """The folder of a known set, fetched if it is not there yet.

    Args:
        into: folder to keep it in, by default `cache_folder()`.

    Raises DataError where the set needs a login, the network fails, or a checksum differs.
    """
    known = public_dataset(name)
    if known.manual:
        raise DataError(
            f"{name} cannot be fetched by a program: {known.manual}. Download it from {known.page}, unpack "
            f"it, and run `recloom data prepare {known.reader} --path FOLDER --out DIR`."
        )
    folder = (into or cache_folder()) / name
    if not folder.exists():
        with whole_folder(folder) as partial:
            for url in known.urls:
                _fetch_file(url, partial, known)
    return folder / known.inner if known.inner else folder


def fetch_zip(url: str, folder: Path, inner: str = "") -> None:
    """Fetch a zip file and unpack it into a new folder, whole or not at all.

    Args:
        inner: folder inside the archive whose contents are kept, without it.

    Raises DataError where the network fails, the archive is unsafe, or it holds no such folder.
    """
    with whole_folder(folder) as partial:
        archive = partial / url.rpartition("/")[2]
        _download(url, archive)
        unpack(archive, partial)
        archive.unlink()
        if inner and not (partial / inner).is_dir():
            raise DataError(f"{url} holds no folder {inner!r}; it may have changed. Unpack it by hand.")
        for child in list((partial / inner).iterdir()) if inner else ():
            shutil.move(child, partial / child.name)
        if inner:
            (partial / inner).rmdir()


def _fetch_file(url: str, folder: Path, known: PublicDataset) -> None:
    target = folder / url.rpartition("/")[2]
    found = _download(url, target)
    if known.checksums:
        published = published_md5(_open(f"{url}.md5").read(4096).decode("ascii", "replace"), f"{url}.md5")
        if found != published:
            raise DataError(
                f"{target.name}: the publisher's MD5 is {published}, the file fetched has {found}. "
                "The transfer was damaged or altered: run the command again."
            )
    if target.suffix == ".zip":
        unpack(target, folder)
        target.unlink()


def published_md5(text: str, source: str) -> str:
    """The digest in a `.md5` file, in either of the usual forms (`HEX  name` or `MD5 (name) = HEX`)."""
    match = re.search(r"\b[0-9a-fA-F]{32}\b", text)
    if match is None:
        raise DataError(
            f"{source} holds no MD5 digest but {text[:60]!r}, so the file cannot be verified. Try later."
        )
    return match[0].lower()


def _open(url: str) -> IO[bytes]:
    try:
        found: IO[bytes] = urlopen(Request(url, headers={"User-Agent": "recloom"}), timeout=60)
    except HTTPError as error:
        raise DataError(
            f"{url}: the publisher answered {error.code} {error.reason}. See whether it moved."
        ) from error
    except (URLError, OSError) as error:
        raise DataError(
            f"{url} cannot be reached ({getattr(error, 'reason', error)}). Check the network, or download it "
            "elsewhere and give it with --path."
        ) from error
    return found


def _download(url: str, target: Path) -> str:
    """Write the file and return its MD5."""
    digest = hashlib.md5(usedforsecurity=False)
    with contextlib.ExitStack() as stack:
        source = stack.enter_context(_open(url))
        total = getattr(source, "headers", {}).get("Content-Length")
        file = stack.enter_context(open(target, "wb"))
        progress = stack.enter_context(Progress(target.name, int(total) if total else None, of_bytes=True))
        try:
            while piece := source.read(_PIECE):
                file.write(piece)
                digest.update(piece)
                progress.advance(len(piece))
        except OSError as error:
            raise DataError(f"{url}: the transfer broke off ({error}). Run the command again.") from error
        size = file.tell()
    if total and size != int(total):
        raise DataError(f"{url}: {size:,} of {int(total):,} bytes arrived. Run the command again.")
    return digest.hexdigest()


def unpack(archive: Path, folder: Path, largest: int = LARGEST) -> None:
    """Unpack a zip file below `folder`.

    Raises DataError for a member that would land outside, is no plain file, or makes the whole larger
    than `largest` bytes; sizes are counted while unpacking, not taken from the archive.
    """
    written = 0
    try:
        with zipfile.ZipFile(archive) as members:
            for member in members.infolist():
                target = _safe_target(archive, folder, member)
                if member.is_dir():
                    continue
                target.parent.mkdir(parents=True, exist_ok=True)
                with members.open(member) as source, open(target, "xb") as file:
                    while piece := source.read(_PIECE):
                        written += len(piece)
                        if written > largest:
                            raise DataError(
                                f"{archive.name} unpacks to more than {largest:,} bytes: refused. "
                                "Unpack it yourself if you trust it."
                            )
                        file.write(piece)
    except zipfile.BadZipFile as error:
        raise DataError(f"{archive.name} is not a readable zip file ({error}). Fetch it again.") from error


def _safe_target(archive: Path, folder: Path, member: zipfile.ZipInfo) -> Path:
    path = PurePosixPath(member.filename.replace("\\", "/"))
    link = (member.external_attr >> 16) & 0o170000 == 0o120000
    if path.is_absolute() or ".." in path.parts or ":" in member.filename or link:
        raise DataError(
            f"{archive.name} holds the unsafe member {member.filename!r}: refused. Do not trust this file."
        )
    return folder.joinpath(*path.parts)
