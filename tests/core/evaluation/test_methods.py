"""Runs that differ in nothing but their seed are one method, compared over users and seeds."""

from pathlib import Path

import numpy as np
import pytest
from recloom.errors import RecloomError
from recloom.evaluation.compare import compare

from .tested_runs import USERS, WORSE, record, run, shown


@pytest.fixture
def counted(tmp_path):
    """Two runs that leave nothing to chance."""
    return [run(tmp_path / "popular", WORSE, "Popularity"), run(tmp_path / "same", WORSE[::-1], "EASE")]


def seeds(tmp_path, model, mean, numbers, sd=0.02, noise=0.05):
    """Trained runs of one model: users differ, and each seed adds its own luck and noise."""
    made = []
    for seed in numbers:
        random = np.random.default_rng([seed, len(model)])
        values = WORSE + mean + sd * random.normal() + noise * random.normal(size=200)
        made.append(run(tmp_path / f"{model}-{seed}", values, model, loss="GBCE", seed=seed))
    return made


def test_two_trained_runs_get_no_p_value_of_their_methods(tmp_path, counted):
    (one,), (other,) = seeds(tmp_path, "SASRec", 0.0, [0]), seeds(tmp_path, "GRU", 0.05, [0])
    found = compare([one, other], ["ndcg@10"])
    cell = found.cells[1]
    assert (cell.p_value, cell.p_holm, found.comparisons) == (None, None, 0)
    assert cell.difference_low < cell.difference < cell.difference_high
    assert "p (Holm)" not in shown(found)
    reach = (cell.difference_high - cell.difference_low) / 2
    assert f"{cell.difference:+.4f} ± {reach:.4f}" in shown(found)
    assert f"One trained run of {one}, {other}: a difference is one between trained runs" in found.notes()[2]
    mixed = compare([counted[0], counted[1], one], ["ndcg@10"])  # of the three, one is trained
    assert [cell.p_value is None for cell in mixed.cells] == [True, False, True]
    assert f"One trained run of {one}:" in mixed.notes()[2]


def test_runs_that_differ_in_their_seed_are_one_method(tmp_path, counted):
    ours, theirs = seeds(tmp_path, "SASRec", 0.1, [0, 1, 2]), seeds(tmp_path, "GRU", 0.0, [0, 1, 2, 3])
    found = compare([*theirs, *ours], ["ndcg@10", "gini@10"])
    assert [method.runs for method in found.methods] == [tuple(theirs), tuple(ours)]
    first, gini, cell, _ = found.cells
    assert (first.run, first.seeds, cell.run, cell.seeds) == (theirs[0], 4, ours[0], 3)
    apart = {one.run: one.mean for one in compare([*theirs, *ours], ["ndcg@10"], each=True).cells}
    means = [np.mean([apart[run] for run in side]) for side in (ours, theirs)]
    assert cell.mean == pytest.approx(means[0])
    assert cell.difference == pytest.approx(means[0] - means[1])
    assert cell.p_value is not None
    assert cell.low < cell.mean < cell.high
    assert (gini.mean is None, gini.low) == (False, None)
    text = shown(found)
    assert "SASRec (3 seeds)" in text
    assert "GRU (4 seeds)" in text
    assert "and over seeds where there are several" in found.notes()[1]
    assert not any("One trained run" in note for note in found.notes())


def test_each_run_has_its_row_where_it_is_asked_for(tmp_path):
    made = seeds(tmp_path, "SASRec", 0.0, [0, 1])
    found = compare(made, ["ndcg@10"], each=True)
    assert [cell.run for cell in found.cells] == made
    assert found.cells[1].p_value is None


def test_another_setting_is_another_method_and_the_same_seed_twice_is_refused(tmp_path):
    made = seeds(tmp_path, "SASRec", 0.0, [0, 1, 2])
    record(Path(made[2]), "GBCE", 2, of="SASRec", max_epochs=4)
    assert len(compare(made, ["ndcg@10"]).methods) == 2
    record(Path(made[2]), "GBCE", 1, of="SASRec")
    with pytest.raises(RecloomError, match=r"SASRec-1 and .*SASRec-2 are one model with one seed \(1\)"):
        compare(made, ["ndcg@10"])
    assert len(compare(made, ["ndcg@10"], each=True).methods) == 3


def test_one_method_alone_is_its_mean_over_seeds(tmp_path):
    found = compare(seeds(tmp_path, "SASRec", 0.0, [0, 1]), ["ndcg@10"])
    (cell,) = found.cells
    assert (cell.seeds, cell.difference) == (2, None)
    assert "SASRec (2 seeds)" in shown(found)


def test_fits_with_other_seeds_are_one_method(tmp_path, write_dataset):
    """Their config files differ in the folders of the runs too, and another width is another method."""
    import polars as pl
    import recloom

    rows = {"user_id": np.repeat(USERS[:20], 5), "item_id": [f"i{n * 7 % 12}" for n in range(100)]}
    data = write_dataset(tmp_path / "data", pl.DataFrame(rows | {"timestamp": [n % 5 for n in range(100)]}))
    made = []
    for seed, width in ((0, 4), (1, 4), (2, 8)):
        options = {"dim": width, "max_len": 4, "num_layers": 1}
        fitted = recloom.fit(data, "SASRec", options, run=tmp_path / f"run-{seed}", seed=seed, max_epochs=1)
        fitted.test()
        made.append(str(fitted.folder))
    found = compare(made, ["ndcg@10"])
    assert [method.runs for method in found.methods] == [tuple(made[:2]), (made[2],)]
    assert all(method.trained for method in found.methods)
    assert found.cells[0].seeds == 2
