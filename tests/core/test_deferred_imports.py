"""Lightning's metrics load neither scipy.signal nor transformers before somebody uses them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from ..source_tree import CORE, EVERYTHING

TRANSFORMERS = """
print("transformers loaded")
class AutoModel:
    from_pretrained = staticmethod(lambda name: f"model {name}")
class AutoTokenizer:
    def __new__(cls, name): return f"tokenizer {name}"
class CLIPModel: pass
class CLIPProcessor: pass
"""
UNLOAD = """
import sys
ours = ("lightning", "lightning_utilities", "torchmetrics", "transformers", "recloom", "scipy.signal")
for name in [name for name in sys.modules if name.startswith(tuple(f"{one}." for one in ours)) or name in ours]:
    del sys.modules[name]
vars(sys.modules["scipy"]).pop("signal", None)
sys.meta_path[:] = [finder for finder in sys.meta_path if getattr(finder, "__name__", "") != "Finder"]
"""
"""Makes a warm Python one that has torch and none of these."""
START = "from recloom.cli.deferred_imports import defer_heavy_imports\ndefer_heavy_imports()\n"
SCRIPT = (
    START
    + """
import sys
import recloom.training.module
import lightning, torchmetrics
assert lightning.pytorch.core.module.Metric is torchmetrics.Metric
assert not {"scipy.signal", "transformers"} & set(sys.modules)

from torchmetrics.functional.text import bert
print("bert score is", "there" if "bert_score" in vars(torchmetrics.functional.text) else "absent")
print(bert.AutoModel.from_pretrained("roberta"), "and", bert.AutoTokenizer("roberta"))
import transformers
print(sys.modules["transformers"].__file__)

import scipy.signal
assert scipy.signal.convolve([1, 2], [1, 3]).tolist() == [1, 5, 6]
value = torchmetrics.functional.accuracy(*2 * [lightning.pytorch.core.module.torch.tensor([0, 1])], task="binary")
assert value.item() == 1
"""
)


def test_lightning_loads_no_optional_library_of_its_metrics_before_it_is_used(tmp_path: Path, warm_python):
    info = tmp_path / "transformers-5.30.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: transformers\nVersion: 5.30.0\n")
    (tmp_path / "transformers.py").write_text(TRANSFORMERS)
    done = warm_python.run("-c", UNLOAD + SCRIPT, env=os.environ | {"PYTHONPATH": str(tmp_path)})
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "bert score is there",
        "transformers loaded",
        "model roberta and tokenizer roberta",
        str(tmp_path / "transformers.py"),
    ]


def test_a_torchmetrics_that_does_more_with_them_is_loaded_as_python_would(tmp_path: Path):
    """Stand-ins are modules, not packages: an import from within one fails, and the loading starts again without."""
    package = tmp_path / "torchmetrics"
    package.mkdir()
    (package / "__init__.py").write_text("from . import first\n")
    (package / "first.py").write_text("import transformers.inside\nfound = transformers.inside.VALUE\n")
    other = tmp_path / "transformers"
    other.mkdir()
    (other / "__init__.py").write_text("")
    (other / "inside.py").write_text("VALUE = 7\n")
    done = subprocess.run(
        [sys.executable, "-c", f"{START}import torchmetrics; print(torchmetrics.first.found)"],
        env=os.environ | {"PYTHONPATH": str(tmp_path)}, text=True, capture_output=True,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "7\n"), done.stderr


def test_a_program_that_imports_recloom_keeps_its_imports():
    """Only the file of the command names the function, and loading that file does not call it."""
    naming = {path for path in EVERYTHING if "defer_heavy_imports" in path.read_text("utf-8")}
    assert naming == {CORE["recloom.cli.deferred_imports"], CORE["recloom.cli.main"]}
    code = "import sys; before = list(sys.meta_path); import recloom.cli.main; assert sys.meta_path == before"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
