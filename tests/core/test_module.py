"""How RecModule ranks: fallback for newcomers, masks, columns of targets, checkpoints."""

import lightning as L
import numpy as np
import polars as pl
import pytest
import torch
from recloom.batch import Batch
from recloom.data.batches.module import RecDataModule
from recloom.data.interactions import Interactions
from recloom.errors import RecloomError
from recloom.losses import BPR
from recloom.schemas import SplitSpec
from recloom.spec import build, describe
from recloom.training.module import RecModule
from recloom.training.ranking import mask_items, target_columns


@pytest.fixture(scope="module")
def folder(tmp_path_factory, write_dataset):
    random = np.random.default_rng(0)
    user = np.repeat(np.arange(40), 8)
    frame = pl.DataFrame(
        {
            "user_id": [f"u{n}" for n in user],
            "item_id": [f"i{n}" for n in random.integers(0, 25, 320) ** 2 // 25],
            "timestamp": np.tile(np.arange(8) * 86_400 * 30, 40) + user,
        }
    )
    return write_dataset(tmp_path_factory.mktemp("data") / "tiny", frame)


def trained(folder, spec, **options):
    module, data = RecModule(spec, metrics=["ndcg@5"]), RecDataModule(str(folder), **options)
    L.Trainer(max_epochs=0, logger=False, enable_checkpointing=False, enable_progress_bar=False).fit(
        module, data
    )
    return module.eval(), data


def everything(module, history, user=None):
    items = torch.arange(1, module.catalog.num_items + 1)[None]
    return Batch.of(torch.tensor(history), items, user=None if user is None else torch.tensor(user))


def test_an_empty_history_gives_the_popularity_order(folder):
    module, data = trained(folder, {"class_path": "ItemKNN", "init_args": {}})
    scores = module.rank(everything(module, [[0, 0], [0, 3]]))
    assert torch.equal(scores[0], data.train.item_counts()[1:].float())
    assert not torch.equal(scores[1], scores[0])


@pytest.mark.parametrize("name", ["EASE", "Popularity"])
def test_a_loss_for_what_has_nothing_to_train_is_refused_before_it_is_fitted(folder, name, monkeypatch):
    monkeypatch.setattr(RecModule, "learn", lambda self, data: pytest.fail("it was fitted first"))
    module = RecModule({"class_path": name, "init_args": {}}, loss=BPR(), metrics=["ndcg@5"])
    trainer = L.Trainer(max_epochs=1, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    with pytest.raises(
        RecloomError, match=rf"{name} has no weights that training changes.*the loss BPR would do nothing"
    ):
        trainer.fit(module, RecDataModule(str(folder)))


def test_weights_of_another_version_are_refused_in_words(folder):
    module, _ = trained(folder, {"class_path": "LightGCN", "init_args": {"dim": 4}})
    state = {name: value for name, value in module.state_dict().items() if "user" not in name}
    with pytest.raises(
        RecloomError, match=r"are not those of LightGCN as it is installed .Missing key.*train the run again"
    ):
        module.load_state_dict(state)


def test_cold_start_users_get_the_decayed_order_from_a_decayed_popularity(folder):
    spec = {"class_path": "Popularity", "init_args": {"half_life_days": 20.0}}
    module, data = trained(folder, spec)
    empty, known = module.rank(everything(module, [[0], [1]]), mask_seen=False)
    assert torch.equal(empty, known)
    assert not torch.equal(empty.argsort(), data.train.item_counts()[1:].argsort())


def test_a_known_user_without_history_is_no_cold_start_user(folder):
    module, _ = trained(folder, {"class_path": "LightGCN", "init_args": {"dim": 4}})
    unknown = module.unknown(everything(module, [[0], [0], [2]], user=[0, 3, 0]))
    assert unknown.tolist() == [True, False, False]


@pytest.mark.parametrize("candidates", [[[1, 2, 3, 4]], [[4, 2, 0, 1]], [[4, 3, 2, 1], [1, 2, 3, 4]]])
def test_mask_equals_the_plain_computation(candidates):
    candidates, seen = torch.tensor(candidates), torch.tensor([[0, 2], [4, 1]])
    scores = torch.rand(2, 4)
    masked = mask_items(scores, candidates, seen)
    for row in range(2):
        for column in range(4):
            item = candidates[min(row, len(candidates) - 1), column].item()
            hidden = item > 0 and item in seen[row].tolist()
            assert masked[row, column] == (float("-inf") if hidden else scores[row, column])


def test_columns_of_targets():
    batch = Batch.of(
        torch.zeros(2, 1).long(), torch.tensor([[5, 3, 0], [2, 9, 4]]), labels=torch.tensor([[3, 0], [4, 7]])
    )
    assert target_columns(batch, 10).tolist() == [[1, -1], [2, -1]]


def test_the_model_never_sees_what_is_held_out(folder):
    data = RecDataModule(str(folder))
    data.setup()
    everything = Interactions.load(folder, data.catalog)
    assert len(data.train) == 320 - 80
    for user in range(1, 41):
        first, stop = int(everything.starts[user]), int(everything.stops[user])
        seen = [
            data.parts[part].last(torch.tensor([user]), n)[0][0].tolist()
            for part, n in (("train", 6), ("valid", 1), ("test", 1))
        ]
        assert [item for part in seen for item in part] == everything.items[first:stop].tolist()
    assert data.visible["valid"].lengths.tolist() == data.train.lengths.tolist()
    assert len(data.visible["test"]) == 320 - 40


def test_a_split_that_leaves_no_training_rows_is_refused(folder):
    with pytest.raises(RecloomError, match="leaves no training rows"):
        RecDataModule(str(folder), split=SplitSpec(min_user=1000)).setup()


def test_impressions_are_asked_of_data_that_have_them(folder):
    data = RecDataModule(str(folder), candidates="impressions", seen="kept", split=SplitSpec(strategy="time"))
    data.setup()
    with pytest.raises(RecloomError, match=r"needs impressions\.parquet"):
        data.test_dataloader()


def test_sampled_candidates_are_marked_in_the_protocol(folder):
    data = RecDataModule(str(folder), candidates="uniform-3")
    data.setup()
    assert data.protocol("test").candidates == "uniform-3"
    batch = next(iter(data.test_dataloader()))
    assert (
        target_columns(batch, data.catalog.num_items) == 0
    ).all()  # the target stands first, ties count against it


def test_specs_are_plain_data_and_build_only_what_they_should():
    from functools import partial

    from recloom.models import EASE

    assert describe(partial(EASE, regularization=3.0))["init_args"] == {"regularization": 3.0}
    with pytest.raises(RecloomError, match="a checkpoint cannot hold"):
        describe(partial(EASE, regularization=object()))
    with pytest.raises(RecloomError, match="is not a Recommender; refusing to build it"):
        build("register_models", {"class_path": "subprocess.Popen", "init_args": {}})
    with pytest.raises(RecloomError, match=r"'EASY' is not among the models. Did you mean EASE\?"):
        build("register_models", {"class_path": "EASY", "init_args": {}})


def test_a_component_within_another_one_is_found_by_what_it_is():
    from recloom.losses import GBCE

    made = build("register_losses", nested("GBCE", negatives=4))
    assert isinstance(made.base, GBCE)
    assert made.base.negatives == 4
    assert isinstance(build("register_losses", nested("recloom.losses.GBCE")).base, GBCE)
    with pytest.raises(
        RecloomError, match=r"'GBSE' is not among the models, losses and language models\. Did"
    ):
        build("register_losses", nested("GBSE"))
    with pytest.raises(RecloomError, match=r"subprocess\.Popen is not a .*; refusing to build it"):
        build("register_losses", nested("subprocess.Popen"))


def nested(name, **options):
    inner = {"class_path": name, "init_args": options}
    return {"class_path": "ColdStart", "init_args": {"pairs": "pairs.parquet", "base": inner}}


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("kind", ["numbers", "marks", "slice"])
def test_rows_of_a_batch_leave_what_all_rows_share(rows, kind):
    history = torch.arange(1, 1 + rows * 4).view(rows, 4)
    batch = Batch.of(history, torch.arange(1, 6)[None], user=torch.arange(rows) + 10)
    chosen = {"numbers": [rows - 1], "marks": [False] * (rows - 1) + [True], "slice": None}[kind]
    index = slice(rows - 1, rows) if chosen is None else torch.tensor(chosen)
    found = batch.rows(index)
    assert found.history.tolist() == [history[-1].tolist()]
    assert found.user.tolist() == [rows + 9]
    assert (found.labels.shape, found.candidates.shape) == ((1, 0), (1, 5))
