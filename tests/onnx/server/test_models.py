"""Names, versions, and loads that leave what is served alone until the new one has shown that it works."""

from __future__ import annotations

import asyncio
import gc
import re
import shutil
import time
import weakref

import numpy as np
import pytest
from recloom.errors import RecloomError
from recloom_onnx.server.http_errors import HttpError
from recloom_onnx.server.models import Models, Source, files_of, find_sources
from recloom_onnx.server.settings import Settings


def put(path, titled, name="first"):
    """A copy of an artefact as `path`/model.onnx."""
    from recloom_onnx.artifact.manifest import read_manifest

    path.mkdir(parents=True, exist_ok=True)
    manifest = read_manifest(titled[name])
    files = {}
    for old, digest in manifest.files.items():
        files[old.replace(name, "model", 1)] = digest
        shutil.copy(titled[name].with_name(old), path / old.replace(name, "model", 1))
    manifest.model_copy(update={"files": files}).write(path / "model.onnx")
    return path / "model.onnx"


def slowed(run):
    """The same, but it takes a while."""
    return lambda given, k: (time.sleep(0.3), run(given, k))[1]


def test_names_come_from_files_folders_or_the_command_line(titled, tmp_path, monkeypatch):
    put(tmp_path / "many" / "b" / "2", titled)
    put(tmp_path / "many" / "b" / "10", titled)
    put(tmp_path / "many" / "a" / "1", titled)
    (tmp_path / "many" / "notes").mkdir()
    put(tmp_path / "plain", titled)
    assert find_sources([str(titled["first"])]) == [Source("first", titled["first"])]
    assert [source.name for source in find_sources([str(tmp_path / "many")])] == ["a", "b"]
    (alone,) = find_sources([str(tmp_path / "many" / "b")])
    assert list(files_of(alone)) == ["2", "10"]
    (named,) = find_sources([f"mine={tmp_path / 'plain'}"])
    assert (named.name, list(files_of(named))) == ("mine", ["1"])
    monkeypatch.chdir(tmp_path / "plain")
    assert find_sources(["."])[0].name == "plain"


def test_what_cannot_be_named_or_found_is_said(titled, tmp_path):
    first = str(titled["first"])
    with pytest.raises(RecloomError, match="name at least one artefact to serve"):
        find_sources([])
    with pytest.raises(RecloomError, match="would both be called first; choose names with NAME=PATH"):
        find_sources([first, f"first={first}"])
    with pytest.raises(RecloomError, match=r"would be called 'a b'; a name has letters.*NAME=PATH"):
        find_sources([str(tmp_path / "a b.onnx")])
    with pytest.raises(RecloomError, match=r"holds no model.onnx, no VERSION/model.onnx and no NAME/VERSION"):
        find_sources([str(tmp_path)])
    with pytest.raises(RecloomError, match=r"gone.onnx does not exist. Serve the file that `recloom export"):
        files_of(Source("gone", tmp_path / "gone.onnx"))
    with pytest.raises(RecloomError, match=r"holds no VERSION/model.onnx any more"):
        files_of(Source("empty", tmp_path))


def test_versions_are_found_and_the_highest_is_usual(titled, tmp_path):
    put(tmp_path / "m" / "2", titled)
    put(tmp_path / "m" / "10", titled, "second")
    models = Models(find_sources([str(tmp_path / "m")]), Settings(max_batch=2))
    assert not models.ready
    with pytest.raises(HttpError, match="model m is being loaded") as stop:
        models.find("m")
    assert stop.value.status == 503
    asyncio.run(models.load_all())
    assert models.ready
    assert models.find().version == "10"
    assert models.find("m", "2").version == "2"
    assert [served.version for served in models] == models.versions("m") == ["2", "10"]
    models.draining = True
    assert not models.ready


def test_a_load_takes_the_place_of_the_old_one_which_goes_with_its_last_request(titled, tmp_path):
    path = put(tmp_path / "m", titled)
    told = []
    models = Models(find_sources([str(path)]), Settings(), loads=lambda *load: told.append(load))

    async def go():
        await models.load_all()
        old = models.find()
        old.batcher._run = slowed(old.batcher._run)
        asked = {"history": np.array([["m01"]], dtype=object)}
        request = asyncio.ensure_future(old.answer(asked, 3))
        await asyncio.sleep(0.05)
        seen = weakref.ref(old)
        put(tmp_path / "m", titled, "second")
        await models.load("model")
        new = models.find()
        assert new is not old
        ids, _ = await new.answer(asked, 3)
        del old
        before, _ = await request
        assert ids.tolist() != before.tolist()
        del request
        await asyncio.sleep(0)
        gc.collect()
        return seen()

    assert asyncio.run(go()) is None
    assert told == [("model", ["1"], ""), ("model", ["1"], "")]


def cut(path):
    path.write_bytes(path.read_bytes()[:-100])


def doubted(path):
    manifest = path.with_suffix(".json")
    manifest.write_text(manifest.read_text().replace('"verified": true', '"verified": false'))


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (cut, "is not the file that was exported"),
        (lambda path: path.unlink(), "does not exist"),
        (lambda path: path.with_suffix(".json").write_text("{}"), "is not a manifest"),
        (doubted, "never compared"),
    ],
    ids=["cut short", "gone", "no manifest", "not verified"],
)
def test_what_is_refused_changes_nothing(titled, tmp_path, harm, message):
    path = put(tmp_path / "m", titled)
    told = []
    models = Models(find_sources([str(path)]), Settings(), loads=lambda *load: told.append(load))
    asyncio.run(models.load_all())
    old = models.find()
    harm(path)
    with pytest.raises(RecloomError, match=message):
        asyncio.run(models.load("model"))
    assert models.find() is old
    first, (name, versions, reason) = told
    assert first == ("model", ["1"], "")
    assert (name, versions) == ("model", ["1"])
    assert re.search(message, reason)


def test_a_file_that_is_no_model_though_its_hash_is_right_is_refused(titled, tmp_path):
    from recloom.io import sha256
    from recloom_onnx.artifact.manifest import read_manifest

    path = put(tmp_path / "m", titled)
    path.write_bytes(b"no protobuf" * 50)
    manifest = read_manifest(path)
    manifest.model_copy(update={"files": manifest.files | {path.name: sha256(path)}}).write(path)
    models = Models(find_sources([str(path)]), Settings())
    with pytest.raises(RecloomError, match=r"model.onnx cannot be run: \w+: .*Export it again"):
        asyncio.run(models.load_all())


def test_a_load_whose_caller_has_gone_is_finished_and_queued_calls_share_one(titled, tmp_path, monkeypatch):
    path, opened = put(tmp_path / "m", titled), []
    loads = []
    models = Models([Source("m", path)], Settings(max_batch=2), loads=lambda *told: loads.append(told))
    open_ = models._open

    def slow(source):
        opened.append(time.monotonic())
        time.sleep(0.3)
        found = open_(source)
        opened.append(time.monotonic())
        return found

    monkeypatch.setattr(models, "_open", slow)

    async def go():
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await models.load("m")
        waiting = [asyncio.create_task(models.load("m")) for _ in range(20)]
        await asyncio.gather(*waiting)

    asyncio.run(go())
    assert loads == [("m", ["1"], "")] * 2
    assert len(opened) == 4
    assert opened == sorted(opened), "one at a time"


def test_a_version_whose_file_has_another_name_is_no_silent_gap(titled, tmp_path):
    put(tmp_path / "m" / "1", titled)
    put(tmp_path / "m" / "2", titled).rename(tmp_path / "m" / "2" / "small.onnx")
    with pytest.raises(
        RecloomError, match=r"2 holds small\.onnx and no model\.onnx, so it would not be served"
    ):
        find_sources([str(tmp_path / "m")])
