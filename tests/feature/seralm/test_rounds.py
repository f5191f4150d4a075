"""`recloom seralm rounds`: stages, interruptions and results."""

from __future__ import annotations

import json
import shutil
from contextlib import redirect_stdout
from dataclasses import dataclass
from io import StringIO

import numpy as np
import polars as pl
import pytest
from recloom.cli.main import main
from recloom.data.provenance import check_split, provenance_of
from recloom.errors import DataError, RecloomError
from recloom.llm.texts.hashing import HashingNgrams
from recloom_feature.seralm import loss as seralm_loss
from recloom_feature.seralm import rounds as seralm_rounds
from recloom_feature.seralm import texts as seralm_texts
from recloom_feature.seralm.command import rounds

ENCODER = HashingNgrams(dim=64)
FIT = """
model:
  lr: 0.01
  recommender: {class_path: SASRec, init_args: {dim: 16, max_len: 8, num_layers: 1, item_input: vector}}
data: {batch_size: 32}
trainer: {enable_progress_bar: false}
"""


@dataclass(frozen=True)
class World:
    """Items of topics that follow one another, and which of two texts names the topic of an item."""

    topic: np.ndarray
    good: np.ndarray

    @classmethod
    def draw(cls, seed, items=60, topics=6):
        random = np.random.default_rng(seed)
        return cls(random.integers(topics, size=items), random.integers(2, size=items))

    def interactions(self, seed, users=200, length=8, follow=0.8):
        """A user goes from topic t to t + 1 mostly, elsewhere sometimes, and meets no item twice."""
        random, topics = np.random.default_rng(seed), self.topic.max() + 1
        rows = []
        for user in range(users):
            at, met = random.integers(topics), set()
            for step in range(length):
                free = [item for item in np.flatnonzero(self.topic == at) if item not in met]
                if free:
                    met.add(item := random.choice(free))
                    rows.append((f"u{user}", f"i{item}", step))
                at = (at + 1) % topics if random.random() < follow else random.integers(topics)
        return pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row")

    def texts(self, seed):
        """Three words of the topic, or of any."""
        random = np.random.default_rng(seed)
        words = ["".join(random.choice(list("bcdfgklmnprst"), 3)) + "o" * (n % 3) for n in range(120)]
        rows = [
            (f"i{item}", k, " ".join(random.choice(words[6 * t : 6 * t + 6] if k == good else words, 3)))
            for item, (t, good) in enumerate(zip(self.topic, self.good, strict=True))
            for k in range(2)
        ]
        return pl.DataFrame(rows, schema=["item_id", "variant", "text"], orient="row")


@pytest.fixture
def shop(tmp_path, write_dataset):
    """A dataset of 12 items with titles, texts for 11 of them, and a short fit."""
    return open_shop(tmp_path, write_dataset)


def open_shop(folder, write_dataset):
    world = World.draw(0, items=12, topics=3)
    items = pl.DataFrame({"item_id": [f"i{n}" for n in range(12)], "title": [f"Film {n}" for n in range(12)]})
    data = write_dataset(folder / "shop", world.interactions(0, users=30, length=4), items)
    world.texts(0).filter(pl.col("item_id") != "i11").write_parquet(folder / "texts.parquet")
    (folder / "fit.yaml").write_text(FIT)
    return data


@pytest.fixture(scope="module")
def done(tmp_path_factory, write_dataset):
    """A shop with two rounds done in `work`, which tests only read, or copy."""
    shop = open_shop(tmp_path_factory.mktemp("done"), write_dataset)
    given = (shop.parent / "texts.parquet").read_bytes()
    folder, said = work_said(shop)
    assert (shop.parent / "texts.parquet").read_bytes() == given
    return folder, said


@pytest.fixture
def again(done, tmp_path):
    """A copy of that shop, whose rounds a test may go on with."""
    shutil.copytree(done[0].parent, tmp_path, dirs_exist_ok=True)
    return tmp_path / "shop"


def work(shop, name="work", **options):
    """The folder of two rounds."""
    out = shop.parent / name
    given = {"texts": shop.parent / "texts.parquet", "encoder": ENCODER, "fit": shop.parent / "fit.yaml"}
    rounds(shop, out=out, **(given | {"times": 2, "draws": 1, "max_epochs": 2} | options))
    return out


def work_said(shop):
    """The folder of two rounds, and what the command said."""
    with redirect_stdout(StringIO()) as said:
        folder = work(shop)
    return folder, said.getvalue()


def files(folder):
    return {str(p.relative_to(folder)): p.stat().st_mtime_ns for p in folder.rglob("*") if p.is_file()}


@pytest.mark.fact("A5.6")
def test_rounds_choose_texts_and_state_that_no_language_model_is_trained(done):
    folder, said = done
    assert "selection only" in said
    assert "SeRALM (reconstruction" in said
    report = json.loads((folder / "report.json").read_text())
    assert "selection only" in report["language_model"]
    assert len(report["rounds"]) == 2
    vectors = pl.read_parquet(folder / "vectors.parquet")
    assert sorted(vectors["item_id"]) == sorted(f"i{n}" for n in range(11))
    made = provenance_of(folder / "vectors.parquet")
    with pytest.raises(DataError, match="training rows of another split"):  # the choice was learnt from them
        check_split(folder / "vectors.parquet", made["data_hash"], "another")


def test_every_file_says_that_it_is_a_reconstruction(done):
    folder, _ = done
    names = [
        "texts",
        "variants",
        "vectors",
        *(f"round-{t}/{n}" for t in (1, 2) for n in ("rewards", "posterior")),
    ]
    for name in names:
        assert "reconstruction" in pl.read_parquet_metadata(folder / f"{name}.parquet")["recloom.method"]
    for name in ("seralm", "report", "round-1/report"):
        assert "reconstruction" in json.loads((folder / f"{name}.json").read_text())["method"]


def test_the_posterior_of_a_round_is_that_of_its_rewards(shop):
    folder = work(shop, beta=0.05)
    keys = ["item_id", "variant"]
    r, q1 = (pl.read_parquet(folder / f"round-1/{n}.parquet") for n in ("rewards", "posterior"))
    weight = (pl.col("reward") / 0.05).exp()
    wanted = r.with_columns((weight / weight.sum().over("item_id")).alias("q"))
    assert q1["q"].to_numpy() == pytest.approx(wanted["q"].to_numpy(), abs=1e-5)
    r2, q2 = (pl.read_parquet(folder / f"round-2/{n}.parquet") for n in ("rewards", "posterior"))
    joined = r2.join(q1, on=keys, maintain_order="left")
    weight = pl.col("q") * (pl.col("reward") / 0.05).exp()
    wanted = joined.select(weight / weight.sum().over("item_id"))["q"]
    assert q2["q"].to_numpy() == pytest.approx(wanted.to_numpy(), abs=1e-5)
    alone = work(shop, "alone", beta=0.05, prior="llm")
    r2, q2 = (pl.read_parquet(alone / f"round-2/{n}.parquet") for n in ("rewards", "posterior"))
    weight = (pl.col("reward") / 0.05).exp()
    assert q2["q"].to_numpy() == pytest.approx(
        r2.select(weight / weight.sum().over("item_id"))["reward"].to_numpy(), abs=1e-5
    )


def test_the_likeliest_text_or_the_mean_is_served(again):
    folder = again.parent / "work"
    q = pl.read_parquet(folder / "round-2/posterior.parquet")
    variants = pl.read_parquet(folder / "variants.parquet").join(q, on=["item_id", "variant"])
    of_i4 = variants.filter(pl.col("item_id") == "i4").sort("q")
    vectors, weights = np.array(of_i4["vector"].to_list()), of_i4["q"].to_numpy()

    def served():
        table = pl.read_parquet(folder / "vectors.parquet")
        return np.array(table.filter(pl.col("item_id") == "i4")["vector"][0])

    assert np.allclose(served(), vectors[-1])
    work(again, serve="mean")
    assert np.allclose(served(), weights @ vectors, atol=1e-6)


@pytest.mark.parametrize(("kind", "seed"), [("vector", 0), ("vector", 1), ("id+vector", 2)])
@pytest.mark.fact("A5.4")
def test_the_informative_text_gets_over_half_the_weight_and_more_each_round(
    tmp_path, write_dataset, kind, seed
):
    """One text names the topic of its item, the other any topics; every world of its own seed, beta 1."""
    world = World.draw(seed)
    data = write_dataset(tmp_path / "shop", world.interactions(seed))
    world.texts(seed).write_parquet(tmp_path / "texts.parquet")
    (tmp_path / "fit.yaml").write_text(FIT.replace("item_input: vector", f"item_input: {kind}"))
    folder = work(data, times=3, draws=2, max_epochs=10, seed=seed)
    good = pl.DataFrame({"item_id": [f"i{n}" for n in range(60)], "variant": world.good.astype(np.int32)})
    q = [pl.read_parquet(folder / f"round-{t}/posterior.parquet") for t in (1, 2, 3)]
    mass = [one.join(good, on=["item_id", "variant"])["q"].mean() for one in q]
    assert 0.5 < mass[0] < mass[1] < mass[2]


def test_a_second_run_changes_nothing_and_more_rounds_go_on(again, monkeypatch):
    folder = again.parent / "work"
    before = files(folder)

    def never(*args, **options):
        raise AssertionError("fitted again")

    with monkeypatch.context() as patch:
        patch.setattr(seralm_rounds, "fit", never)
        work(again)
    after = files(folder)
    assert {n for n in after if after[n] != before.get(n)} <= {"vectors.parquet", "report.json"}
    work(again, times=3)
    kept = files(folder)
    assert all(kept[n] == before[n] for n in before if n.startswith("round-"))
    assert (folder / "round-3/posterior.parquet").is_file()


@pytest.fixture(scope="module")
def whole(tmp_path_factory, write_dataset):
    """The round that nothing interrupted."""
    shop = open_shop(tmp_path_factory.mktemp("whole"), write_dataset)
    return work(shop, "whole", times=1, max_epochs=3)


STOPS = {
    "while texts are encoded": (seralm_texts, "write_vectors"),
    "before the first step": (seralm_loss.SampledTexts, "fit"),
    "in the second epoch": (seralm_loss.SampledTexts, "forward"),
    "before the rewards": (seralm_rounds, "rewards"),
    "before the posterior": (seralm_rounds, "write_posterior"),
    "before the report": (seralm_rounds, "report"),
}


@pytest.mark.parametrize("when", STOPS)
def test_an_interrupted_run_comes_to_the_same_end(shop, whole, monkeypatch, when):
    owner, name = STOPS[when]
    usual, calls = getattr(owner, name), []

    def stop(*args, **options):
        calls.append(1)
        if len(calls) > (1 if when == "in the second epoch" else 0):
            raise RuntimeError("killed")
        return usual(*args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, stop)
        with pytest.raises(RuntimeError, match="killed"):
            work(shop, "stopped", times=1, max_epochs=3)
    stopped = work(shop, "stopped", times=1, max_epochs=3)
    for file in ("round-1/rewards.parquet", "round-1/posterior.parquet", "vectors.parquet"):
        assert pl.read_parquet(stopped / file).equals(pl.read_parquet(whole / file))
    assert not list(stopped.rglob("*.tmp"))


def test_another_loss_and_split_come_from_the_file_of_the_fit(shop):
    (shop.parent / "fit.yaml").write_text(
        FIT.replace("data: {", "data: {split: {strategy: users, test: 0.3}, ").replace(
            "model:", "model:\n  loss: {class_path: GBCE, init_args: {negatives: 3}}"
        )
    )
    folder = work(shop, times=1)
    config = (folder / "round-1/run/config.yaml").read_text()
    assert "negatives: 3" in config
    assert "strategy: users" in config
    positions = pl.read_parquet(folder / "round-1/rewards.parquet")["positions"]
    assert positions.sum() > 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"beta": 0.0}, "beta must be above 0 nats"),
        ({"times": 0}, "times must be at least 1"),
        ({"model": "BERT4Rec"}, "has hyper-parameters of SASRec, asked for is BERT4Rec"),
        ({"model": "BERT4Rec", "fit": None}, "a causal sequence model such as SASRec gives; found BERT4Rec"),
        ({"model": "EASE", "fit": None}, "a causal sequence model such as SASRec gives; found EASE"),
        ({"model": "SASRek", "fit": None}, "'SASRek' is not among the models"),
    ],
)
def test_wrong_options_of_rounds_are_reported_before_anything_is_written(shop, options, message):
    with pytest.raises(RecloomError, match=message):
        work(shop, **options)
    assert not (shop.parent / "work").exists()


def test_wrong_files_of_the_fit_are_reported(shop):
    file = shop.parent / "fit.yaml"
    for content, message in (
        ("model: [", "cannot be read as YAML"),
        ("- 1", "must be a config of `recloom fit`"),
        (
            "model: {recommender: {class_path: SASRec, init_args: {item_input: id}}}",
            "item_input id reads no texts",
        ),
    ):
        file.write_text(content)
        with pytest.raises(RecloomError, match=message):
            work(shop)


def test_a_folder_of_other_settings_or_of_something_else_is_refused(shop):
    folder = work(shop, times=1)
    with pytest.raises(
        RecloomError, match=r"started with other settings: beta was 1\.0, now 0\.5\. Choose another"
    ):
        work(shop, times=1, beta=0.5)
    with pytest.raises(RecloomError, match="holds something other than rounds of SeRALM"):
        work(shop, "shop")
    (folder / "seralm.json").write_text("{")
    with pytest.raises(RecloomError, match=r"seralm\.json cannot be read as JSON"):
        work(shop, times=1)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([("z", 0, "t")], "no text of any of the 12 items"),
        ([("i1", 0, " ")], "text 0 of item 'i1' is blank; leave its row out"),
        ([("i1", 1, "t")], "variants of item 'i1' must be 0, 1"),
        ([("i1", 0, 7)], "column text must hold texts; found Int64"),
    ],
)
def test_a_wrong_file_of_texts_is_reported(shop, rows, message):
    pl.DataFrame(rows, schema=["item_id", "variant", "text"], orient="row").write_parquet(
        shop.parent / "texts.parquet"
    )
    with pytest.raises(DataError, match=message):
        work(shop)


def test_texts_that_are_all_alike_choose_nothing_and_no_sharper_beta_is_advised(shop, capsys):
    file = shop.parent / "texts.parquet"
    alike = pl.read_parquet(file).with_columns(pl.col("item_id").alias("text"))
    alike.write_parquet(file)
    work(shop, times=1)
    said = capsys.readouterr().out
    assert "No judged item has texts that differ: nothing was chosen." in said
    assert "--beta" not in said


def test_texts_of_items_that_the_dataset_lacks_are_left_out(shop):
    file = shop.parent / "texts.parquet"
    more = pl.DataFrame({"item_id": ["z"], "variant": [0], "text": ["t"]})
    pl.concat([pl.read_parquet(file), more]).write_parquet(file)
    assert "z" not in pl.read_parquet(work(shop, times=1) / "texts.parquet")["item_id"]


def test_from_the_command_line(shop, capsys):
    said, out = shop.parent / "said.parquet", shop.parent / "cli"
    main(["seralm", "texts", str(shop), "--out", str(said), "--k", "2", "--llm.model", "Fake",
          "--llm.ledger", str(shop.parent / "l.sqlite")])  # fmt: skip
    main(["seralm", "rounds", str(shop), "--texts", str(said), "--out", str(out), "--times", "1", "--draws", "1",
          "--max-epochs", "1", "--encoder", "HashingNgrams", "--encoder.dim", "16",
          "--fit", str(shop.parent / "fit.yaml")])  # fmt: skip
    assert (out / "vectors.parquet").is_file()
    printed = capsys.readouterr().out
    assert "next: recloom seralm rounds" in printed
    assert "--model.recommender.item_input vector" in printed
