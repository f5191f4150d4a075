"""A module that is no recommender, of a plugin's own making: what `recloom fit` gives it, without any of its code."""

import json
import signal
from pathlib import Path

import pytest
import torch
import yaml
from recloom import run_folder as runfolder
from recloom.cli.main import main
from recloom.errors import RecloomError, Terminated
from recloom.fitting.fit import run_command
from recloom.plugins import collect_with_owner, hookimpl, manager
from recloom.training.checkpoint import read_checkpoint
from recloom.training.task import TaskData, TaskModule
from torch.utils.data import DataLoader

QUIET = ["--trainer.enable_progress_bar=false", "--trainer.accelerator=cpu"]


class Line(TaskData):
    """Points on a line whose slope stands in a file."""

    def setup(self, stage=None):
        slope = float(Path(self.path, "slope.txt").read_text())
        self.x = torch.linspace(-1, 1, 16)[:, None]
        self.y = slope * self.x

    def protocol(self):
        return {"data": "line", "slope": float(self.y[-1]), "split": "none"}

    def train_dataloader(self):
        return DataLoader(list(zip(self.x, self.y, strict=True)), batch_size=8)

    val_dataloader = test_dataloader = train_dataloader


class Slope(TaskModule):
    """Learns the slope."""

    data_class = Line
    monitor = "val/{error}"
    mode = "min"
    defaults = {"trainer.max_epochs": 4}  # noqa: RUF012

    def __init__(self, error: str = "squared", lr: float = 0.1):
        super().__init__()
        self.error, self.lr = error, lr
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def training_step(self, batch, batch_idx):
        noise = 0.01 * torch.randn(())
        return ((self.weight * batch[0] - batch[1]) ** 2).mean() + noise * self.weight.sum()

    def validation_step(self, batch, batch_idx):
        self.log(f"val/{self.error}", self.training_step(batch, batch_idx))

    def test_step(self, batch, batch_idx):
        self.log("test/slope", self.weight.detach().sum())

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=self.lr)


class Broken(Slope):
    """Is stopped by a signal."""

    def training_step(self, batch, batch_idx):
        if self.current_epoch == 2:
            signal.raise_signal(signal.SIGTERM)
        return super().training_step(batch, batch_idx)


class Plugin:
    @hookimpl
    def register_modules(self):
        return [Slope, Broken]


@pytest.fixture(autouse=True)
def plugin():
    manager().register(Plugin(), name="slopes")
    yield
    manager().unregister(name="slopes")


@pytest.fixture
def data(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "line").mkdir()
    (tmp_path / "line" / "slope.txt").write_text("2")
    return tmp_path


def weight(run, name="last"):
    return read_checkpoint(f"{run}/checkpoints/{name}.ckpt")["state_dict"]["weight"]


def test_the_hook_collects_it_by_its_name(capsys):
    assert collect_with_owner("register_modules")["Slope"] == (Slope, "slopes")
    main(["list", "modules"])
    assert "Slope                   Learns the slope. [slopes]" in capsys.readouterr().out


def test_a_kind_that_cannot_be_listed_is_answered(capsys):
    with pytest.raises(SystemExit):
        main(["list", "modles"])
    assert (
        "'modles' is not among the kinds. Did you mean modules? There are: language_models"
        in capsys.readouterr().err
    )


def test_a_run_is_a_folder_that_is_tested_at_its_best_epoch(data, capsys):
    main(["fit", "--model", "Slope", "--data", "line", *QUIET])
    told = "trained: runs/line/Slope, 4 epochs, best val/squared "
    assert capsys.readouterr().out.startswith(told)
    config = yaml.safe_load((data / "runs/line/Slope/config.yaml").read_text())
    assert (config["module"], config["model"], config["trainer"]["max_epochs"]) == (
        "Slope", {"error": "squared", "lr": 0.1}, 4,
    )  # fmt: skip
    assert (config["checkpoint"]["monitor"], config["early_stopping"]["mode"]) == ("val/squared", "min")
    main(["test", "runs/line/Slope"])
    results = json.loads((data / "runs/line/Slope/metrics.json").read_text())
    assert results["metrics"] == {"slope": pytest.approx(float(weight("runs/line/Slope", "best")))}
    assert (results["checkpoint"], results["epoch"]) == ("best", 4)
    assert results["protocol"] == {"data": "line", "slope": 2.0, "split": "none"}
    assert capsys.readouterr().out.splitlines()[-2:] == [
        "epoch 4, the best by val/squared, seed 0", "slope 2.0, split none",
    ]  # fmt: skip
    main(["validate", "runs/line/Slope"])
    assert "val/squared" in capsys.readouterr().out
    main(["fit", "--model", "Slope", "--data", "line", *QUIET])
    assert (data / "runs/line/Slope-2/run.json").is_file()


def test_of_several_processes_only_the_first_writes_and_tells(data, monkeypatch, capsys):
    words = ["fit", "--model", "Slope", "--data", "line", *QUIET]
    main([*words, "--run", "run"])
    capsys.readouterr()
    with monkeypatch.context() as further:
        further.setattr("lightning.pytorch.Trainer.is_global_zero", False)
        main([*words, "--run", "other"])
        main(["test", "run"])
    assert not {"trained:", "slope"} & set(capsys.readouterr().out.split())
    assert not (data / "other" / "run.json").exists()
    assert not (data / "run" / "metrics.json").exists()


def test_a_config_file_says_which_module(data):
    (data / "slope.yaml").write_text("module: Slope\nmodel: {lr: 0.2}\ndata: {path: line}\n")
    run_command(["fit", "--config", "slope.yaml", "--run", "a", *QUIET])
    run_command(["fit", "--model", "Slope", "--model.lr", "0.2", "--data", "line", "--run", "b", *QUIET])
    assert torch.equal(weight("a"), weight("b"))
    (data / "slope.yaml").write_text("module: Slop\ndata: {path: line}\n")
    with pytest.raises(RecloomError, match=r"slope.yaml: 'Slop' is not among .* Did you mean Slope\?"):
        run_command(["fit", "--config", "slope.yaml", *QUIET])


def test_sigterm_stops_it_and_it_goes_on_to_the_same_weights(data):
    with pytest.raises(Terminated, match="terminated; go on with: recloom fit --run a --ckpt_path last"):
        run_command(["fit", "--model", "Broken", "--data", "line", "--run", "a", *QUIET])
    config = (data / "a/config.yaml").read_text().replace("module: Broken", "module: Slope")
    (data / "a/config.yaml").write_text(config)
    with pytest.raises(RecloomError, match="the checkpoint holds Broken, not Slope"):
        run_command(["fit", "--run", "a", "--ckpt_path", "last", *QUIET])
    run_command(["fit", "--model", "Slope", "--data", "line", "--run", "b", "--trainer.max_epochs=2", *QUIET])
    run_command(["fit", "--run", "b", "--ckpt_path", "last", "--trainer.max_epochs=4", *QUIET])
    run_command(["fit", "--model", "Slope", "--data", "line", "--run", "c", *QUIET])
    assert torch.equal(weight("b"), weight("c"))


def test_data_that_moved_are_found_or_asked_for_and_others_are_refused(data, monkeypatch):
    run_command(["fit", "--model", "Slope", "--data", "line", "--run", "deep/run", *QUIET])
    monkeypatch.chdir(data / "deep")
    run_command(["test", "run"])
    (data / "line").rename(data / "moved")
    with pytest.raises(
        RecloomError, match=r"was trained on line, which is not there now\. Say where it is with --data"
    ):
        run_command(["test", "run"])
    (data / "moved" / "slope.txt").write_text("3")
    with pytest.raises(RecloomError, match=r"trained on other data than \.\./moved: slope 2\.0, found 3\.0"):
        run_command(["test", "run", "--data", "../moved"])


def test_it_ranks_nothing(data):
    run_command(["fit", "--model", "Slope", "--data", "line", "--run", "a", *QUIET])
    with pytest.raises(RecloomError, match="Slope is no recommender, so it ranks nothing"):
        run_command(["predict", "a"])
    with pytest.raises(RecloomError, match="a is a run of Slope, which is no recommender"):
        runfolder.refuse_task(data / "a")
    runfolder.refuse_task(data)  # no run at all: somebody else says so
