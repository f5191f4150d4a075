"""A process of the warm Python is one that was started as usual, in all that tests ask of it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

TOLD = """
import json, os, sys
print(json.dumps([sys.argv, os.getcwd(), os.environ.get("ASKED"), __name__, sys.stdin.read()]))
print("to the other", file=sys.stderr)
import beside
print(beside.VALUE)
sys.exit(int(sys.argv[1]))
"""


@pytest.mark.parametrize("way", ["-c", "-m", "file"])
def test_words_folder_environment_streams_and_status_are_those_of_a_started_one(way, warm_python, tmp_path):
    (tmp_path / "beside.py").write_text("VALUE = 8\n")
    (tmp_path / "told.py").write_text(TOLD)
    words = {"-c": ["-c", TOLD], "-m": ["-m", "told"], "file": [str(tmp_path / "told.py")]}[way]
    environment = {"ASKED": "yes", "PYTHONPATH": str(tmp_path), "PATH": os.environ["PATH"]}
    ask = {"cwd": tmp_path, "env": environment}
    warm = warm_python.run(*words, "7", "word", **ask)
    usual = subprocess.run(
        [sys.executable, *words, "7", "word"], **ask, text=True, capture_output=True, stdin=subprocess.DEVNULL
    )
    assert (warm.returncode, warm.stderr) == (usual.returncode, usual.stderr) == (7, "to the other\n")
    assert warm.stdout.splitlines()[1:] == usual.stdout.splitlines()[1:] == ["8"]
    if way != "-m":  # a started one has the file's path there
        assert warm.stdout == usual.stdout
    assert '"yes", "__main__", ""]' in warm.stdout


def test_an_error_is_a_traceback_and_1(warm_python):
    done = warm_python.run("-c", "raise KeyError('nothing')")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.endswith("KeyError: 'nothing'\n")


def test_what_is_registered_for_the_end_is_run_and_threads_are_waited_for(warm_python):
    code = (
        "import atexit, threading, time\n"
        "atexit.register(print, 'at the end')\n"
        "threading.Thread(target=lambda: (time.sleep(0.05), print('thread'))).start()\n"
        "raise SystemExit('said')\n"
    )
    done = warm_python.run("-c", code)
    assert (done.returncode, done.stdout, done.stderr) == (1, "thread\nat the end\n", "said\n")


def test_what_ends_by_a_signal_says_which(warm_python, tmp_path):
    with open(tmp_path / "out", "w") as out, open(os.devnull) as nothing:
        code = "print('begun', flush=True); import time; time.sleep(60)"
        for number in (signal.SIGKILL, signal.SIGTERM):
            process = warm_python.start("-c", code, stdin=nothing, stdout=out, stderr=out)
            assert process.poll() is None
            process.send_signal(number)
            assert process.wait() == -number


def test_it_has_loaded_torch_and_no_plugin(warm_python):
    code = "import sys; print('torch' in sys.modules, [n for n in sys.modules if n.startswith('recloom_')])"
    assert warm_python.run("-c", code).stdout == "True []\n"
