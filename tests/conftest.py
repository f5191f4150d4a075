"""What all tests share: one thread, no network, and where the real data lie."""

import gc
import os

os.environ["OMP_NUM_THREADS"] = "1"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["CUDA_VISIBLE_DEVICES"] = ""

from functools import cache
from pathlib import Path

import pytest
from recloom.cli.deferred_imports import defer_heavy_imports
from warm_python import WarmPython

defer_heavy_imports()  # as the command does, so that a process that needs no transformers does not load them


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Modules with slow tests come first, so that no process works on one alone at the end."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


def pytest_collection_finish() -> None:
    """What was imported until here stays, so the collector need not look at it again; nor at the rest so often."""
    gc.freeze()
    gc.set_threshold(20_000, 10, 10)


@pytest.fixture(autouse=True)
def one_thread_and_no_terminal(monkeypatch):
    """What a test before this one may have left: threads of torch, and a width that a library has put down."""
    import torch

    torch.set_num_threads(1)
    monkeypatch.delenv("COLUMNS", raising=False)


@pytest.fixture(autouse=True, scope="session")
def one_table_of_operators():
    """torch builds its tables of operators anew for every export, which takes longer than a small model does.

    Each is kept as it was for the first: no test defines an operator.
    """
    from torch.export import decomp_utils, exported_program
    from torch.onnx._internal.exporter import _decomp
    from torch.onnx._internal.exporter._registration import ONNXRegistry

    composite = cache(exported_program._collect_all_valid_cia_ops)
    known, build = cache(ONNXRegistry.from_torchlib), _decomp.create_onnx_friendly_decomposition_table
    decompositions = cache(lambda: build(set(_decomp.get_onnx_implemented_overloads(known()))))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ONNXRegistry, "from_torchlib", staticmethod(known))
        patch.setattr(_decomp, "create_onnx_friendly_decomposition_table", lambda _: decompositions())
        for user in (exported_program, decomp_utils):
            patch.setattr(user, "_collect_all_valid_cia_ops", composite)
        yield


@pytest.fixture(autouse=True, scope="session")
def docstrings_are_parsed_once():
    """Each command line that trains or tests parses the docstrings of Trainer and others for its help."""
    import docstring_parser

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(docstring_parser, "parse", cache(docstring_parser.parse))
        yield


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data sets; a test that needs it is skipped where it is absent."""
    default = Path(__file__).resolve().parents[1].parent / "shared" / "data"
    folder = Path(os.environ.get("RECLOOM_DATA", default))
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}; set RECLOOM_DATA")
    return folder


@pytest.fixture(scope="session")
def write_dataset():
    """A function (folder, frame of user_id, item_id and maybe timestamp, items=None) that writes a dataset."""

    def make(folder: Path, frame, items=None) -> Path:
        import polars as pl
        from recloom.data.prepare.dataset import arrange, write_dataset
        from recloom.data.readers import RawTables
        from recloom.schemas import Source

        rows = frame.with_columns(pl.int_range(1, pl.len() + 1).alias("line"))
        raw = RawTables(interactions=rows, files=[folder / "made by a test"], items=items)
        write_dataset(arrange(raw), folder, name=folder.name, source=Source(reader="test"), licence="none")
        return folder

    return make


@pytest.fixture(scope="session")
def warm_python():
    """A Python with Recloom's heavy imports done, that forks a process for whatever is run in it."""
    found = WarmPython()
    yield found
    found.close()
