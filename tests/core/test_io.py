"""Files and folders appear whole or not at all, whoever is killed, beside whomever else writes."""

from __future__ import annotations

import errno
import hashlib
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from recloom import io
from recloom.errors import DataError, RecloomError

WRITER = """
import os, sys, time
from pathlib import Path
from recloom import io
target = Path(sys.argv[1])
with io.whole_file(target) as partial:
    partial.write_text("new")
    print(partial.name, flush=True)
    time.sleep(60)
"""


def writer(target: Path) -> tuple[subprocess.Popen[str], str]:
    """A process that has written all of a file and has not given it its name, and the file's name."""
    process = subprocess.Popen([sys.executable, "-c", WRITER, str(target)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    return process, process.stdout.readline().strip()


def test_a_file_is_replaced_at_the_end_and_an_error_leaves_the_old(tmp_path):
    target = tmp_path / "a.txt"
    with io.whole_file(target) as partial:
        assert partial.parent == tmp_path
        assert io.is_temporary(partial.name)
        partial.write_text("old")
        assert not target.exists()
    with pytest.raises(ZeroDivisionError):
        _fail_half_way(target)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"a.txt": "old"}


def _fail_half_way(target: Path) -> None:
    with io.whole_file(target) as partial:
        partial.write_text("half")
        raise ZeroDivisionError


def test_a_file_and_a_folder_are_on_the_disk_before_they_get_their_names(tmp_path, monkeypatch):
    done = []
    synced, replaced, renamed = os.fsync, os.replace, os.rename
    monkeypatch.setattr(os, "fsync", lambda fd: (done.append(os.readlink(f"/proc/self/fd/{fd}")), synced(fd)))
    monkeypatch.setattr(os, "replace", lambda one, two: (done.append(str(two)), replaced(one, two)))
    monkeypatch.setattr(os, "rename", lambda one, two: (done.append(str(two)), renamed(one, two)))
    io.write_text(tmp_path / "a", "x")
    assert [io.is_temporary(Path(path).name) for path in done] == [True, False]
    assert done.pop() == str(tmp_path / "a")
    done.clear()
    with io.whole_folder(tmp_path / "f") as partial:
        (partial / "inner").mkdir()
        (partial / "inner" / "b").touch()
    below = ["inner/b", "inner", "."]
    assert sorted(done[:3]) == sorted(str(partial / name) for name in below)
    assert done[3:] == [str(tmp_path / "f"), str(tmp_path)]


def test_two_writers_of_a_file_do_not_share_a_name_and_the_last_one_wins(tmp_path):
    target = tmp_path / "a"
    with io.whole_file(target) as one, io.whole_file(target) as two:
        assert one != two
        one.write_text("one")
        two.write_text("two")
    assert target.read_text() == "one"  # its context ends last
    assert os.listdir(tmp_path) == ["a"]


def test_a_killed_writer_leaves_the_old_file_and_the_next_one_removes_what_it_left(tmp_path):
    target = tmp_path / "a"
    target.write_text("old")
    process, name = writer(target)
    io.write_text(target, "newer")  # what a living process writes is not touched
    assert (tmp_path / name).read_text() == "new"
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert target.read_text() == "newer"
    io.write_text(tmp_path / "b", "another target")
    assert (tmp_path / name).exists()
    io.write_text(target, "newest")
    assert sorted(os.listdir(tmp_path)) == ["a", "b"]


def test_a_file_of_another_machine_or_of_a_user_is_left_alone(tmp_path):
    process, name = writer(tmp_path / "a")
    process.kill()
    process.wait()
    os.rename(tmp_path / name, tmp_path / f".a.{'0' * 8}-{process.pid}-{'1' * 8}.tmp")
    (tmp_path / ".a.notes.tmp").touch()
    io.write_text(tmp_path / "a", "x")
    assert sorted(os.listdir(tmp_path)) == [f".a.{'0' * 8}-{process.pid}-{'1' * 8}.tmp", ".a.notes.tmp", "a"]


def test_sigterm_leaves_the_old_file_and_no_other(tmp_path):
    target = tmp_path / "a"
    target.write_text("old")
    stopped = WRITER.replace(
        "with io", "from recloom.training import stopped_by_sigterm\nwith stopped_by_sigterm(), io"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", stopped, str(target)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline()
    process.terminate()
    assert process.wait() != 0
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"a": "old"}


def test_a_full_disk_leaves_the_old_file_and_is_named(tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    target = tmp_path / "a"
    target.write_text("old")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left on device"):
        io.write_text(target, "new")
    with pytest.raises(OSError, match="No space left on device"), io.whole_folder(tmp_path / "f"):
        pass
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"a": "old"}


def test_who_looks_for_leftovers_never_removes_the_folder_of_one_who_begins(tmp_path, monkeypatch):
    """One has the lock's file open, another removes it, a writer begins under the same name, the first one goes on."""
    fcntl = pytest.importorskip("fcntl")
    flock, opened, begun = fcntl.flock, threading.Event(), threading.Event()
    prefix = ".recloom-x-"
    monkeypatch.setattr(io.secrets, "token_hex", lambda size: "0" * 8)
    io.try_lock(tmp_path / f"{prefix}{'0' * 8}{io.LOCK}").release()  # of one who was killed
    late = threading.Thread(target=io.remove_leftovers, args=(tmp_path, prefix))

    def slow(descriptor, how):
        if threading.current_thread() is late:
            opened.set()
            begun.wait(10)
        return flock(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", slow)
    (tmp_path / f"{prefix}{'0' * 8}{io.LOCK}").touch()
    late.start()
    assert opened.wait(10)
    io.remove_leftovers(tmp_path, prefix)
    assert os.listdir(tmp_path) == []
    folder, lock = io._new_scratch(tmp_path, prefix)
    (folder / "work").touch()
    begun.set()
    late.join()
    assert (folder / "work").exists()
    io._remove_scratch(folder, lock)
    assert os.listdir(tmp_path) == []


def test_a_name_whose_lock_another_one_took_is_not_used(tmp_path, monkeypatch):
    held = io.try_lock(tmp_path / f"p-{'0' * 8}{io.LOCK}")
    names = iter(["0" * 8, "1" * 8])
    monkeypatch.setattr(io.secrets, "token_hex", lambda size: next(names))
    folder, lock = io._new_scratch(tmp_path, "p-")
    assert folder == tmp_path / f"p-{'1' * 8}"
    io._remove_scratch(folder, lock)
    held.release()


def test_a_folder_is_replaced_in_two_steps_where_the_system_has_no_exchange(tmp_path, monkeypatch):
    monkeypatch.setattr(io, "_exchange", lambda one, other: False)
    out = tmp_path / "data"
    for content in ("old", "new"):
        with io.whole_folder(out, overwrite=True) as partial:
            (partial / "dataset.json").write_text(content)
    assert os.listdir(tmp_path) == ["data"]
    assert (out / "dataset.json").read_text() == "new"


def test_a_kill_between_the_two_steps_leaves_the_old_folder_for_the_next_writer(tmp_path, monkeypatch):
    monkeypatch.setattr(io, "_exchange", lambda one, other: False)
    out = tmp_path / "data"
    with io.whole_folder(out) as partial:
        (partial / "dataset.json").write_text("old")
    os.rename(out, io._set_aside(out))  # so far it came
    with pytest.raises(DataError, match="exists already"), io.whole_folder(out):
        pass
    assert (out / "dataset.json").read_text() == "old"
    assert os.listdir(tmp_path) == ["data"]


def test_an_error_between_the_two_steps_puts_the_old_folder_back(tmp_path, monkeypatch):
    monkeypatch.setattr(io, "_exchange", lambda one, other: False)
    out, renamed = tmp_path / "data", os.rename
    with io.whole_folder(out) as partial:
        (partial / "dataset.json").write_text("old")

    def rename(one, other):
        if Path(one).name != "data" and (Path(one) / "dataset.json").read_text() == "new":
            raise OSError(errno.EACCES, "refused")
        renamed(one, other)

    monkeypatch.setattr(os, "rename", rename)
    with (
        pytest.raises(DataError, match="appeared meanwhile"),
        io.whole_folder(out, overwrite=True) as partial,
    ):
        (partial / "dataset.json").write_text("new")
    assert (out / "dataset.json").read_text() == "old"
    assert os.listdir(tmp_path) == ["data"]


HOLDER = """
import sys
from pathlib import Path
from recloom.io import try_lock
lock = try_lock(Path(sys.argv[1]))
print("held" if lock else "refused", flush=True)
sys.stdin.read()
"""


def test_a_lock_is_held_until_its_process_ends_in_whatever_way(tmp_path):
    path = tmp_path / "run" / io.LOCK
    path.parent.mkdir()
    words = [sys.executable, "-c", HOLDER, str(path)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "held\n"
        assert io.try_lock(path) is None
        holder.kill()
    lock = io.try_lock(path)
    assert lock is not None
    assert io.try_lock(path) is None  # not even this process has it twice
    done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True)
    assert done.stdout == "refused\n"
    lock.release()
    assert io.try_lock(path) is not None


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("v.csv", r"--out .*v\.csv: expected a name that ends in \.parquet or \.json"),
        ("no/v.parquet", r"--out .*no/v\.parquet: .*no is not a folder; make it, or choose another --out"),
        ("folder.parquet", r"--out .*folder\.parquet is a folder; choose another --out"),
        ("old.parquet", r"old\.parquet exists\. Choose another --out, or replace it with --overwrite"),
    ],
)
def test_what_cannot_be_written_is_said_before_the_work(tmp_path, name, message):
    (tmp_path / "folder.parquet").mkdir()
    (tmp_path / "old.parquet").write_text("kept")
    with pytest.raises(RecloomError, match=message):
        io.writable(tmp_path / name, endings=(".parquet", ".json"), overwrite=False)
    io.writable(tmp_path / "old.parquet")
    io.writable(tmp_path / "new")
    assert sorted(os.listdir(tmp_path)) == ["folder.parquet", "old.parquet"]


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs /proc, where not even root makes files")
def test_a_folder_that_takes_no_file_is_named():
    with pytest.raises(
        RecloomError, match=r"--to /proc/v: the folder cannot be written to \(.+\); choose another --to"
    ):
        io.writable(Path("/proc/v"), "--to")
    assert io.unwritable(Path("/proc"))
    assert io.unwritable(Path.cwd()) is None


def test_digests_of_files(tmp_path, monkeypatch):
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_bytes(b"abc")
    two.write_bytes(b"")
    abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert io.sha256(one) == abc
    wanted = hashlib.sha256(b"one 3\n" + bytes.fromhex(abc) + b"two 0\n" + hashlib.sha256(b"").digest())
    assert io.fingerprint_files([two, one]) == wanted.hexdigest()[:16]
    monkeypatch.setattr(io, "WHOLE", 8)
    monkeypatch.setattr(io, "PART", 2)
    monkeypatch.setattr(io, "PARTS", 3)
    one.write_bytes(b"abcdefghij")
    assert io.fingerprint_files([one]) == hashlib.sha256(b"one 10\nabefij").hexdigest()[:16]


def test_versions_of_what_is_installed_and_what_is_not():
    assert io.version("no-such-distribution") is None
    found = io.versions(("recloom", "no-such-distribution"))
    assert found["no-such-distribution"] == "not installed"
    assert found["recloom"][0].isdigit()


POSIX_ONLY = ("fcntl", "pty", "resource", "termios", "pwd", "grp")
IMPORTS = """
import importlib, sys
for name in [name for name in sys.modules if name.partition(".")[0] == "recloom"]:
    del sys.modules[name]
sys.modules |= dict.fromkeys({blocked!r})
for name in {modules!r}:
    importlib.import_module(name)
"""


def test_no_module_needs_at_import_what_posix_systems_alone_have(warm_python):
    found = {
        ".".join(path.relative_to(source).with_suffix("").parts).removesuffix(".__init__")
        for source in Path(__file__).parents[2].glob("packages/*/src")
        for path in source.rglob("*.py")
        if "template" not in path.parts and path.stem != "__main__"
    }
    assert {
        "recloom.io",
        "recloom_feature.seralm",
        "recloom_graph",
        "recloom_pretrain",
        "recloom_onnx",
    } <= found
    code = IMPORTS.format(blocked=POSIX_ONLY, modules=sorted(found))
    done = warm_python.run("-c", code)
    assert done.returncode == 0, done.stderr
