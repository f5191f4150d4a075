"""Where only some requests are measured they are drawn at random, and the protocol says so."""

from itertools import chain

import lightning as L
import polars as pl
import pytest
import recloom
from recloom.data.batches.module import RecDataModule
from recloom.errors import RecloomError
from recloom.evaluation.results import describe

USERS = 60


@pytest.fixture(scope="module")
def path(tmp_path_factory, write_dataset):
    """User n has n + 3 interactions: in the order of lengths, the first batches are the users of low numbers."""
    rows = [(f"u{n:02}", f"i{(7 * n + k) % 40}", k) for n in range(USERS) for k in range(n + 3)]
    frame = pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row")
    return write_dataset(tmp_path_factory.mktemp("drawn") / "films", frame)


def flat(batches):
    return list(chain.from_iterable(batches))


def served(path, part="valid", limits=None, **options):
    """The users of each batch of a part, and the data module."""
    data = RecDataModule(str(path), eval_rows=10, **options)
    data.setup()
    if limits is not None:
        data.trainer = L.Trainer(
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            **limits,
        )
    loader = data.val_dataloader() if part == "valid" else data.test_dataloader()
    return [batch.user.tolist() for batch in loader], data


def test_all_are_served_by_length_where_nothing_is_limited(path):
    batches, data = served(path, limits={})
    assert flat(batches) == list(range(1, USERS + 1))
    assert (data.protocol("valid").users, data.protocol("valid").drawn_from) == (USERS, None)


@pytest.mark.parametrize("part", ["valid", "test"])
def test_limited_batches_come_in_a_random_order_of_the_seed(path, part):
    name = "limit_val_batches" if part == "valid" else "limit_test_batches"
    batches, _ = served(path, part, {name: 0.5})
    assert [batch[0] for batch in batches] != sorted(batch[0] for batch in batches)
    assert all(
        batch == list(range(batch[0], batch[0] + 10)) for batch in batches
    )  # like lengths stand together
    assert served(path, part, {name: 1})[0] == batches
    assert served(path, part, {name: 0.5}, seed=1)[0] != batches


def test_users_of_validation_are_drawn_and_the_test_measures_all(path):
    batches, data = served(path, eval_users=25)
    drawn = flat(batches)
    assert [len(batch) for batch in batches] == [10, 10, 5]
    assert drawn == sorted(set(drawn))
    assert max(drawn) > 50
    assert (data.protocol("valid").users, data.protocol("valid").drawn_from) == (25, USERS)
    assert flat(served(path, eval_users=25, seed=3)[0]) != drawn
    assert len(flat(served(path, "test", eval_users=25)[0])) == USERS
    assert served(path, eval_users=USERS + 1)[1].protocol("valid").drawn_from is None
    with pytest.raises(RecloomError, match="eval_users"):
        RecDataModule(str(path), eval_users=0)


def test_a_limited_test_says_how_many_requests_it_measured(path, tmp_path):
    run = recloom.fit(path, "Popularity", run=tmp_path / "run", config={"data": {"eval_rows": 10}})
    data = run.data()
    trainer = L.Trainer(
        devices=1, logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        limit_test_batches=2,
    )  # fmt: skip
    trainer.test(run.module, data, verbose=False)
    found = run.write_results(data)
    assert (found.protocol.users, found.protocol.drawn_from) == (20, USERS)
    assert "20 users (drawn from 60)" in describe(found.protocol)
    assert found.metrics["ndcg@10"].n == 20
