"""What `recloom serve` refuses before it serves, and what it says when it does."""

from __future__ import annotations

import re
import socket
import subprocess
import sys

import pytest
from recloom.cli.main import main
from recloom.errors import RecloomError
from recloom_onnx.server.settings import Settings, check_exposure, is_loopback, read_token


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"port": 70_000}, "--port is a number from 0 to 65535, found 70000"),
        ({"max_batch": 0}, "--max_batch must be 1 or more, found 0"),
        ({"threads": 0}, "--threads must be 1 or more, found 0"),
        ({"concurrency": 0}, "--concurrency must be 1 or more"),
        ({"max_body": 0}, "--max_body must be 1 or more"),
        ({"max_waiting": 0}, "--max_waiting must be 1 or more"),
        ({"max_delay_ms": -1.0}, "--max_delay_ms is milliseconds from 0 to 1000, found -1"),
        ({"max_delay_ms": float("nan")}, "--max_delay_ms is milliseconds"),
        ({"timeout": 0.0}, "--timeout is seconds above 0, found 0"),
        ({"timeout": float("inf")}, "--timeout is seconds above 0, found inf"),
    ],
    ids=str,
)
def test_an_option_out_of_bounds_is_named(options, message):
    with pytest.raises(RecloomError, match=re.escape(message)):
        Settings(**options)


def test_a_token_comes_from_the_environment_and_is_never_shown(monkeypatch):
    assert read_token(None) is None
    with pytest.raises(RecloomError, match=r"--token_env T: expected a token of 16 or more .* found none"):
        read_token("T")
    monkeypatch.setenv("T", "hunter2")
    with pytest.raises(RecloomError, match="found one of 7 characters") as stop:
        read_token("T")
    assert "hunter2" not in str(stop.value)
    monkeypatch.setenv("T", "0123456789abcdef")
    assert read_token("T") == "0123456789abcdef"


def test_other_machines_need_a_token_or_a_word():
    for host in ("127.0.0.1", "127.9.9.9", "::1", "localhost"):
        assert is_loopback(host)
        check_exposure(host, None, False)
    for host in ("0.0.0.0", "::", "", "10.0.0.1", "example.org"):
        with pytest.raises(
            RecloomError, match="can be reached from other machines, and no token is asked for"
        ):
            check_exposure(host, None, False)
        check_exposure(host, "token", False)
        check_exposure(host, None, True)


def test_the_command_refuses_with_one_line(titled, tmp_path, capsys):
    first = str(titled["first"])
    taken = socket.create_server(("127.0.0.1", 0))
    port = str(taken.getsockname()[1])
    for words, message in (
        ([first, "--host", "0.0.0.0"], "--host 0.0.0.0 can be reached from other machines"),
        (
            [first, "--port", port],
            f"cannot listen at 127.0.0.1, port {port}: Address already in use. Choose another",
        ),
        ([str(tmp_path / "gone.onnx"), "--port", "0"], "gone.onnx does not exist"),
        ([first, "--host", "no such host", "--anyone"], "cannot listen at no such host"),
    ):
        with pytest.raises(SystemExit) as stop:
            main(["serve", *words])
        assert stop.value.code == 2
        assert message in capsys.readouterr().err
    taken.close()


def test_without_the_extra_the_message_says_how_to_install_it(titled, monkeypatch, capsys):
    for name in [name for name in sys.modules if name.startswith("recloom_onnx.server.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "fastapi", None)
    with pytest.raises(SystemExit):
        main(["serve", str(titled["first"])])
    assert (
        "needs fastapi, which is not installed: pip install 'recloom-onnx[server]'" in capsys.readouterr().err
    )


def test_the_start_says_what_is_served_where_and_how_to_ask(server):
    said = "\n".join(server.said)
    assert re.search(
        r"^serving at http://127\.0\.0\.1:\d+  \(page /, API /docs, metrics /metrics\)$", said, re.M
    )
    assert re.search(r"^  first version 1: EASE, 40 items, verified, from .*first\.onnx$", said, re.M)
    assert "on cpu with 1 thread(s) a model, up to 64 requests at once" in said
    assert "without a token; bodies to 1,000,000 bytes, 5 s a request, 256 in work" in said
    line = server.said[-1].removeprefix("try: ")
    assert line.startswith("curl http://127.0.0.1:")
    found = subprocess.run(line, shell=True, text=True, capture_output=True)
    if found.returncode == 127:
        pytest.skip("curl is not installed")
    assert '"model":"first"' in found.stdout
