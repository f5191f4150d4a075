"""Several processes of one test or prediction: each measures all requests, and one writes and tells."""

from __future__ import annotations

import pytest
from recloom.cli.main import main
from recloom.fitting import fit as fitting
from recloom.runs.run import Run
from recloom.testing import cyclic_dataset


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    root = tmp_path_factory.mktemp("run")
    data = cyclic_dataset(root / "cycle", 12, num_users=20)
    main(["fit", "--model=ItemKNN", f"--data={data}", f"--run={root / 'run'}", "--trainer.accelerator=cpu"])
    return root / "run"


@pytest.mark.parametrize("verb", ["test", "predict", "validate"])
def test_only_the_first_process_writes_and_tells(run, verb, monkeypatch, capsys):
    """As a further process of a fit sees it: `is_global_zero` is False there."""
    wrote = []
    monkeypatch.setattr(Run, "write_results", lambda *_: wrote.append("results"))
    monkeypatch.setattr(fitting, "write_predictions", lambda *_: wrote.append("lists"))
    monkeypatch.setattr(fitting, "show", lambda _: None)
    capsys.readouterr()
    for first in (False, True):
        monkeypatch.setattr("lightning.pytorch.Trainer.is_global_zero", first)
        main([verb, str(run)])
        told = capsys.readouterr().out
        assert bool(wrote) == (first and verb != "validate")
        if verb != "test":
            assert bool(told) == first


def test_only_the_first_process_of_a_fit_keeps_a_record_and_tells(run, monkeypatch, capsys):
    words = ["fit", "--model=Popularity", f"--data={run.parent / 'cycle'}", "--trainer.accelerator=cpu"]
    for first in (False, True):
        monkeypatch.setattr("lightning.pytorch.Trainer.is_global_zero", first)
        folder = run.parent / f"fit-{first}"
        main([*words, f"--run={folder}"])
        assert ("trained:" in capsys.readouterr().out) == first
        assert (folder / "run.json").is_file() == first
        assert (folder / "config.yaml").is_file() == first
