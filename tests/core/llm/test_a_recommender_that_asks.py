"""A plugin whose recommender asks a language model: fitted, planned, tested, killed, compared; what a run stores."""

import importlib.util
import json
import shutil
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest
import recloom
import torch
import yaml
from recloom.batch import Batch
from recloom.cli.main import main
from recloom.errors import Finished, LLMRequestError, RecloomError
from recloom.evaluation import read_results
from recloom.llm import Ledger, LLMCallOptions, LLMOptions, PromptTemplate
from recloom.llm.client.options import PER_CALL, llm_options, without_call_options
from recloom.llm.fake import Fake
from recloom.plugins import manager
from recloom.schemas import RunRecord
from recloom.testing import RecommenderTests, toy_dataset

PLUGIN = Path(__file__).with_name("asking_plugin.py")
USERS = 24
SPEC = importlib.util.spec_from_file_location("asking_plugin", PLUGIN)
asking_plugin = sys.modules["asking_plugin"] = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(asking_plugin)
METADATA = "Metadata-Version: 2.1\nName: asking-plugin\nVersion: 1.0\n"


class TestAskingRanker(RecommenderTests):
    recommender = asking_plugin.AskingRanker
    config: ClassVar = {"llm": LLMOptions(Fake())}
    deviations: ClassVar = {
        "test_it_learns_the_checkerboard": "it ranks popular items, whatever their colour"
    }


@dataclass(frozen=True)
class Refusing(Fake):
    """Fake that does not answer whoever watched this."""

    title: str = ""

    def score_batch(self, prompts, options):
        found = super().score_batch(prompts, options)
        refused = [self.title in messages[-1]["content"] for messages in prompts]
        return [
            LLMRequestError("no such thing") if no else one for no, one in zip(refused, found, strict=True)
        ]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a dataset, the installed plugin, and the run that `recloom fit` left."""
    folder = tmp_path_factory.mktemp("asks")
    installed = folder / "site" / "asking_plugin-1.0.dist-info"
    installed.mkdir(parents=True)
    shutil.copy(PLUGIN, folder / "site")
    (installed / "METADATA").write_text(METADATA)
    (installed / "entry_points.txt").write_text("[recloom]\nasking = asking_plugin\n")
    toy_dataset(folder / "toy", num_users=USERS)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.syspath_prepend(str(folder / "site"))
        manager.cache_clear()
        fit = "fit --model AskingRanker --data toy --run run --model.recommender.llm.model Fake"
        main(
            [
                *fit.split(),
                "--model.recommender.llm.max_calls",
                "7",
                "--model.recommender.llm.ledger",
                "a.sqlite",
            ]
        )
        yield folder
    manager.cache_clear()


@pytest.fixture
def run(place, tmp_path):
    """A copy of the run, so that each test has a ledger and results of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        shutil.copytree(place / "run", tmp_path / "run")
        shutil.copytree(place / "toy", tmp_path / "toy")
        yield tmp_path / "run"


def usage_of(run):
    return json.loads((run / "metrics.json").read_text())["usage"]


def held(path="llm-ledger.sqlite"):
    return sum(total.responses for total in Ledger(path, offline=True).totals())


def test_the_plugin_is_short():
    assert len(PLUGIN.read_text().splitlines()) <= 60


def test_a_run_stores_the_model_and_the_prompt_and_nothing_that_is_given_at_each_command(run):
    model = {"class": "Fake", "policy": "overlap", "labels": {}, "share": 0.5, "seed": 0}
    config = yaml.safe_load((run / "config.yaml").read_text())
    assert list(config["model"]["recommender"]["init_args"]["llm"]) == ["model"]
    record = RunRecord.model_validate_json((run / "run.json").read_text())
    assert record.llm["models"] == [model]
    assert list(record.llm["prompts"]) == ["which-next"]
    assert list(record.recommender["init_args"]["llm"]["init_args"]) == ["model"]
    assert record.recommender["init_args"]["llm"]["class_path"] == "recloom.llm.LLMOptions"
    (options,) = llm_options(recloom.load(run).recommender.modules())
    assert options.identity == model
    assert options == LLMOptions(Fake())


def test_a_plan_counts_all_users_of_the_test_and_sends_nothing(run, capsys):
    prices = "--model.recommender.llm.prices.prompt 1 --model.recommender.llm.prices.completion 2"
    main(["test", str(run), "--model.recommender.llm.run", "plan", *prices.split(), "--data.eval_rows", "10"])
    said = capsys.readouterr().out
    rows = {tuple(line.rsplit(maxsplit=1)) for line in said.splitlines()}
    assert {
        ("requests", str(USERS)),
        ("calls", str(USERS)),
        ("completion tokens at most", str(USERS)),
    } <= rows
    tokens = int(
        next(line for line in said.splitlines() if "prompt tokens" in line).split()[-1].replace(",", "")
    )
    money = (tokens + 2 * USERS) / 1e6
    assert f"money at most {money:.4f} USD" in " ".join(said.split())
    assert "Nothing was sent." in said
    assert "--model.recommender.llm.rate 2" in said
    assert not Path("llm-ledger.sqlite").exists()
    assert not (run / "metrics.json").exists()


def test_a_test_keeps_its_usage_and_a_second_one_sends_nothing(run, capsys):
    main(["test", str(run)])
    assert (
        f"{USERS} requests: 0 from the ledger, {USERS} sent, 0 without a response" in capsys.readouterr().out
    )
    first, usage = read_results(run), usage_of(run)
    assert (usage["requests"], usage["calls"], usage["cached"], usage["failures"]) == (USERS, USERS, 0, 0)
    assert usage["prompt_tokens"] > USERS
    main(["test", str(run)])
    assert f"{USERS} requests: {USERS} from the ledger, 0 sent" in capsys.readouterr().out
    assert (usage_of(run)["calls"], usage_of(run)["cached"]) == (0, USERS)
    assert read_results(run).metrics == first.metrics
    main(["test", str(run), "--model.recommender.llm.run=plan"])
    assert f"Nothing is left to send: the ledger holds all {USERS} responses." in capsys.readouterr().out
    main(
        ["validate", str(run), "--model.recommender.llm.offline=false"]
    )  # other histories, so other requests
    assert "requests: " in capsys.readouterr().out


def test_in_python_too_and_what_no_session_is_open_for_is_refused(run):
    loaded = recloom.load(run, llm=LLMCallOptions(ledger=Path("own.sqlite"), max_calls=USERS))
    results = loaded.test()
    assert results.usage.calls == USERS == held("own.sqlite")
    assert len(loaded.recommend(["i1", "i2"], k=3)) == 3
    assert loaded.module.usage.calls == 1
    with pytest.raises(RecloomError, match=r"no session with Fake is open.*with options.open"):
        loaded.recommender.llm.session  # noqa: B018 - raises
    planned = recloom.load(run, llm=LLMCallOptions(run="plan"))
    with pytest.raises(Finished):
        planned.recommend(["i1", "i3"])


def test_recommendations_ask_and_take_the_options_of_the_command(run, capsys):
    words = ["recommend", str(run), "--users", "u1", "u2", "--k", "3"]
    main([*words, "--llm.run", "plan", "--llm.rate", "2"])
    said = " ".join(capsys.readouterr().out.split())
    assert "calls 2 " in said
    assert "time 1.0 s" in said
    main([*words, "--llm.ledger", "mine.sqlite"])
    assert "2 requests: 0 from the ledger, 2 sent" in capsys.readouterr().out
    assert held("mine.sqlite") == 2
    main(["recommend", str(run), "--all", "--out", "all.parquet", "--llm.ledger", "mine.sqlite"])
    assert f"{USERS} requests: 2 from the ledger, {USERS - 2} sent" in capsys.readouterr().out


def test_a_budget_that_ends_a_test_leaves_no_figure_and_the_next_one_goes_on(run, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["test", str(run), "--model.recommender.llm.max_calls", "9", "--data.eval_rows", "5"])
    assert stop.value.code == 2
    said = capsys.readouterr().err
    assert "the budget is used up (9 of 9 calls" in said
    assert (
        "\n9 of 10 responses so far are kept in llm-ledger.sqlite, 1 are still to be sent, and those of"
        in said
    )
    assert "its limits (--model.recommender.llm.max_calls) count anew" in said
    assert not (run / "metrics.json").exists()
    main(["test", str(run), "--data.eval_rows", "5"])
    assert usage_of(run)["calls"] == USERS - 9


def test_a_request_without_a_response_leaves_no_figure(run):
    loaded = recloom.load(run)
    vars(loaded.recommender)["llm"] = LLMOptions(Refusing(title="amber amber 0"))
    with pytest.raises(
        RecloomError, match=r"\d+ of 24 requests got no response.*first: no such thing.*same command"
    ):
        loaded.test()
    assert not (run / "metrics.json").exists()
    assert 0 < held() < USERS
    assert not loaded.recommender.llm.is_open
    with pytest.raises(RecloomError, match=r"1 of 1 requests got no response"):
        loaded.recommend(["amber amber 0", "i1"])


def test_nothing_is_sent_for_a_user_of_whom_nothing_is_known(run):
    loaded = recloom.load(run)
    history = torch.tensor([[0, 0], [0, 3], [0, 0]])
    batch = Batch.of(history, candidates=torch.arange(1, 31)[None])
    with loaded.module.llm_sessions() as sessions:
        scores = loaded.module.rank(batch, mask_seen=False)
        alone = loaded.module.rank(batch.rows(slice(1, 2)), mask_seen=False)
        assert sessions.usage.calls == 1
    assert torch.equal(scores[0], loaded.module.popularity[1:])
    assert torch.equal(scores[1:2], alone)
    with loaded.module.llm_sessions() as sessions:
        loaded.module.rank(batch.rows(slice(0, 1)))
        assert sessions.usage.requests == 0


def test_ctrl_c_in_a_test_says_what_is_kept_and_how_to_go_on(run, capsys, monkeypatch):
    score, sent = Fake.score_batch, []

    def interrupted(self, prompts, options):
        sent.append(prompts)
        if len(sent) == 5:
            raise KeyboardInterrupt
        return score(self, prompts, options)

    monkeypatch.setattr(Fake, "score_batch", interrupted)
    with pytest.raises(SystemExit) as stop:
        main(["test", str(run)])
    assert stop.value.code == 130
    said = capsys.readouterr().err
    assert (
        "interrupted.\n4 of 24 responses so far are kept in llm-ledger.sqlite, 20 are still to be sent"
        in said
    )
    assert "The same command goes on from there." in said
    assert not (run / "metrics.json").exists()


def test_results_of_a_state_without_usage_are_still_read(run):
    main(["test", str(run)])
    file = run / "metrics.json"
    old = {name: value for name, value in json.loads(file.read_text()).items() if name != "usage"}
    file.write_text(json.dumps(old))
    assert read_results(run).usage is None


def test_another_language_model_or_prompt_is_another_run(run, capsys, monkeypatch):
    with pytest.raises(SystemExit):
        main(["test", str(run), "--model.recommender.llm.model.policy", "reverse"])
    assert "asks another language model or prompt" in capsys.readouterr().err
    monkeypatch.setattr(PromptTemplate, "version", property(lambda self: "other"))
    with pytest.raises(
        RecloomError, match=r"prompts \{'which-next': '\w+'\}, found \{'which-next': 'other'\}"
    ):
        recloom.load(run)


KILLED = """
import os, signal
from recloom.cli.main import main
from recloom.llm.fake import Fake
score, sent = Fake.score_batch, []
def counting(self, prompts, options):
    sent.append(prompts[0][0]["content"])
    if len(sent) == 14:
        os.kill(os.getpid(), signal.SIGKILL)
    return score(self, prompts, options)
Fake.score_batch = counting
main(["test", "run", "--data.eval_rows", "8"])
"""


def test_a_killed_test_sends_nothing_again_that_the_ledger_holds(run, place, monkeypatch, warm_python):
    environment = {"PYTHONPATH": str(place / "site"), "OMP_NUM_THREADS": "1", "PATH": ""}
    killed = warm_python.run("-c", KILLED, env=environment)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    Ledger("llm-ledger.sqlite", offline=True).export(Path("kept.jsonl"))
    lines = [json.loads(line) for line in Path("kept.jsonl").read_text().splitlines()]
    kept = {line["question"]["messages"][0]["content"] for line in lines}
    assert len(kept) == 13  # the fourteenth was on its way
    assert not (run / "metrics.json").exists()
    sent, score = [], Fake.score_batch

    def counting(self, prompts, options):
        sent.append(prompts[0][0]["content"])
        return score(self, prompts, options)

    monkeypatch.setattr(Fake, "score_batch", counting)
    main(["test", str(run), "--data.eval_rows", "8"])
    assert not kept & set(sent)
    assert len(kept | set(sent)) == USERS == 13 + len(sent)
    assert (usage_of(run)["cached"], usage_of(run)["calls"]) == (13, USERS - 13)


def test_it_is_compared_beside_ease_and_is_not_exported(run, capsys):
    main(["test", str(run)])
    main(["fit", "--model", "EASE", "--data", "toy", "--run", "ease"])
    main(["test", "ease"])
    assert usage_of(Path("ease")) is None
    capsys.readouterr()
    main(["compare", "ease", str(run), "--metrics", "ndcg@10"])
    said = capsys.readouterr().out
    assert "AskingRanker" in said
    assert "EASE" in said
    with pytest.raises(RecloomError, match="asks a language model, which no exported graph holds"):
        recloom.load(run).recommender.export()
    with pytest.raises(SystemExit):
        main(["recommend", "ease", "--users", "u1", "--llm.max_calls", "3"])
    assert "this run asks no language model" in capsys.readouterr().err


def test_options_of_a_command_are_left_out_of_a_configuration_wherever_they_stand():
    options = {"model": {"class_path": "Fake"}, **dict.fromkeys(PER_CALL)}
    config = {"a": [{"init_args": {"llm": options, "k": 3}}], "model": {"x": 1}}
    kept = {"a": [{"init_args": {"llm": {"model": {"class_path": "Fake"}}, "k": 3}}], "model": {"x": 1}}
    assert without_call_options(config) == kept
