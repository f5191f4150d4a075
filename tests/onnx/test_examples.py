"""The examples in other languages print what `Session` gives; each is skipped where its toolchain is absent."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import onnxruntime
import pytest
from recloom_onnx.artifact.session import Session

FOLDER = Path(__file__).parents[2] / "examples" / "serve"
INCLUDE = "ONNXRUNTIME_INCLUDE"
HISTORIES = [["7", "item 1", "nobody", "\N{PILE OF POO} ä"], ["item 3"], []]


def printed(path: Path, history: list[str], k: int) -> str:
    (places,) = Session(path).recommend([history], k)
    return "".join(f"{place.item_id}\t{place.score:.4f}\n" for place in places)


def check(words: list[str], path: Path, **environment: str) -> None:
    """The program prints the lists of a session, and no more places than the catalogue has items."""
    for history in HISTORIES:
        for k in (3, 100):
            done = subprocess.run(
                [*words, str(path), str(k), *history], capture_output=True, env=os.environ | environment
            )
            assert done.returncode == 0, done.stderr.decode()
            assert done.stdout.decode() == printed(path, history, k)


def test_python(verified):
    check([sys.executable, str(FOLDER / "recommend.py")], verified.path)


def test_python_needs_nothing_of_ours():
    lines = (FOLDER / "recommend.py").read_text("utf-8").splitlines()
    assert [line for line in lines if line.startswith(("import ", "from "))] == [
        "import sys",
        "import numpy as np",
        "import onnxruntime",
    ]


def test_node(verified):
    node = shutil.which("node")
    if not node or not (FOLDER / "node_modules" / "onnxruntime-node").is_dir():
        pytest.skip(f"needs node, and npm install --ignore-scripts in {FOLDER}")
    check([node, str(FOLDER / "recommend.mjs")], verified.path)


def test_cpp(verified, tmp_path):
    places = [os.environ.get(INCLUDE, ""), "/usr/include/onnxruntime", "/usr/local/include/onnxruntime"]
    headers = next((one for one in places if one and Path(one, "onnxruntime_cxx_api.h").is_file()), None)
    compiler = shutil.which("g++")
    libraries = [*Path(onnxruntime.__file__).parent.glob("capi/libonnxruntime.so.*")]
    if not (headers and compiler and libraries):
        pytest.skip(f"needs g++ and the headers of onnxruntime, whose folder {INCLUDE} names")
    (tmp_path / "libonnxruntime.so.1").symlink_to(libraries[0])
    (tmp_path / "libonnxruntime.so").symlink_to("libonnxruntime.so.1")
    program = tmp_path / "recommend"
    flags = ["-std=c++17", "-O1", f"-I{headers}", f"-L{tmp_path}", "-lonnxruntime", f"-Wl,-rpath,{tmp_path}"]
    built = subprocess.run(
        [compiler, str(FOLDER / "recommend.cpp"), *flags, "-o", str(program)], capture_output=True, text=True
    )
    assert built.returncode == 0, built.stderr
    check([str(program)], verified.path)
