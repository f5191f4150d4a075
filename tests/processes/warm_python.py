"""A Python that has imported what takes long, and forks a process for whatever is run in it.

A forked process is as new as one that was started but for those imports: it has the words, folder, environment and
streams that it was given, its own exit status and signals, and `PYTHONPATH` is before all else on its path. Run as a
program, this file is that Python; its two arguments are the number of its socket and the modules it imports, in which
`module:function` is called, too.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import runpy
import signal
import site
import socket
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
from pathlib import Path

HEAVY = (
    "recloom.cli.deferred_imports:defer_heavy_imports,"
    "recloom.fitting.fit,recloom.runs.run,recloom.evaluation.compare,rich.table,scipy.sparse"
)
"""What nearly every command that trains or tests imports, as the command does; none of it loads a plugin."""
RUNNING = 1 << 20
SIZE = 8


class WarmPython:
    """The side of the tests; the other is started when it is first needed, and ends with `close`."""

    def __init__(self, python: str = sys.executable, imports: str = HEAVY) -> None:
        self.python, self.imports = python, imports
        self.server: subprocess.Popen[bytes] | None = None

    def start(self, *words: str, cwd=None, env=None, stdin=None, stdout=None, stderr=None) -> WarmProcess:
        """Run `-c CODE ...`, `-m MODULE ...` or `FILE ...`; each stream is an open file or a number of one.

        Where a system cannot fork, a process is started as usual.
        """
        if not hasattr(os, "fork"):
            return subprocess.Popen(
                [self.python, *words], cwd=cwd, env=env, stdin=stdin, stdout=stdout, stderr=stderr
            )
        if self.server is None:
            self._start_server()
        streams = [given if isinstance(given, int) else given.fileno() for given in (stdin, stdout, stderr)]
        asked = json.dumps(
            {"words": words, "cwd": str(cwd or os.getcwd()), "env": dict(env or os.environ)}
        ).encode()
        socket.send_fds(self.channel, [len(asked).to_bytes(SIZE, "big")], streams)
        self.channel.sendall(asked)
        return WarmProcess(self, self.answer())

    def run(self, *words: str, cwd=None, env=None, timeout: float = 200) -> subprocess.CompletedProcess[str]:
        """Run to the end, as `subprocess.run([python, ...], text=True, capture_output=True)` does."""
        with (
            tempfile.TemporaryFile("w+") as out,
            tempfile.TemporaryFile("w+") as err,
            open(os.devnull) as nothing,
        ):
            process = self.start(*words, cwd=cwd, env=env, stdin=nothing, stdout=out, stderr=err)
            code = process.wait(timeout)
            out.seek(0)
            err.seek(0)
            return subprocess.CompletedProcess([self.python, *words], code, out.read(), err.read())

    def _start_server(self) -> None:
        self.channel, theirs = socket.socketpair()
        with theirs:
            words = [self.python, str(Path(__file__).resolve()), str(theirs.fileno()), self.imports]
            self.server = subprocess.Popen(words, pass_fds=[theirs.fileno()], cwd="/")

    def answer(self) -> int:
        found = self.channel.recv(SIZE)
        assert len(found) == SIZE, f"{self.python}, with {self.imports}, has ended"
        return int.from_bytes(found, "big", signed=True)

    def close(self) -> None:
        """Wait for the other side, so that its CPU time counts as that of a child."""
        if self.server is not None:
            self.channel.close()
            self.server.wait()
            self.server = None


class WarmProcess:
    """A process that a `WarmPython` forked, with the parts of `subprocess.Popen` that tests use."""

    def __init__(self, owner: WarmPython, pid: int) -> None:
        self.owner, self.pid, self.returncode = owner, pid, None

    def poll(self) -> int | None:
        """The exit status, negative for a signal; None while it runs."""
        if self.returncode is None:
            self.owner.channel.sendall((-self.pid).to_bytes(SIZE, "big", signed=True))
            found = self.owner.answer()
            self.returncode = None if found == RUNNING else found
        return self.returncode

    def wait(self, timeout: float = 200) -> int:
        deadline = time.monotonic() + timeout
        while self.poll() is None:
            if time.monotonic() > deadline:
                self.kill()
                raise subprocess.TimeoutExpired(f"process {self.pid}", timeout)
            time.sleep(0.005)
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def serve(channel: socket.socket) -> dict | None:
    """Answer until the channel closes: None then, or, in a new process, what that process was asked to run."""
    while True:
        head, streams, _, _ = socket.recv_fds(channel, SIZE, 3)
        if not head:
            return None
        number = int.from_bytes(head, "big", signed=True)
        if number < 0:
            ended, status = os.waitpid(-number, os.WNOHANG)
            answer = os.waitstatus_to_exitcode(status) if ended else RUNNING
        else:
            asked = bytearray()
            while len(asked) < number:
                asked += channel.recv(number - len(asked))
            answer = os.fork()
            if not answer:
                channel.close()
                for place, stream in enumerate(streams):
                    os.dup2(stream, place)
                    os.close(stream)
                return json.loads(asked)
            for stream in streams:
                os.close(stream)
        channel.sendall(answer.to_bytes(SIZE, "big", signed=True))


def become(asked: dict) -> None:
    """Run what was asked in this new process, as Python would with these words, this folder and this environment."""
    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, signal.default_int_handler if name == signal.SIGINT else signal.SIG_DFL)
    os.environ.clear()
    os.environ.update(asked["env"])
    os.chdir(asked["cwd"])
    way, *rest = asked["words"]
    added = [one for one in os.environ.get("PYTHONPATH", "").split(os.pathsep) if one]
    site.addsitedir(sysconfig.get_path("purelib"))  # packages may have come since this Python began
    sys.path[0:1] = [str(Path(way).resolve().parent) if way not in ("-c", "-m") else os.getcwd(), *added]
    importlib.invalidate_caches()
    if way == "-c":
        sys.argv = ["-c", *rest[1:]]
        names = {"__name__": "__main__"}
        exec(compile(rest[0], "<string>", "exec"), names)
    elif way == "-m":
        sys.argv = ["-m", *rest[1:]]
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    else:
        sys.argv = [way, *rest]
        runpy.run_path(way, run_name="__main__")


def end(status: int | str | None) -> None:
    """End this process as Python would, but for taking its memory apart: all of it would be copied for that."""
    if isinstance(status, str):
        print(status, file=sys.stderr)
    threading._shutdown()
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(status if isinstance(status, int) else int(status is not None))


if __name__ == "__main__":
    signal.signal(
        signal.SIGINT, signal.SIG_IGN
    )  # a terminal's Ctrl-C is for the tests; they close the channel
    for module, _, function in (one.partition(":") for one in sys.argv[2].split(",")):
        found = importlib.import_module(module)
        if function:
            getattr(found, function)()
    gc.freeze()  # what is imported is not looked through again, which would copy it
    asked = serve(socket.socket(fileno=int(sys.argv[1])))
    try:
        if asked is not None:
            become(asked)
    except SystemExit as error:
        end(error.code)
    except BaseException:
        sys.excepthook(*sys.exc_info())
        end(1)
    end(0)
