import json
import math

import numpy as np
import pytest
import torch
from recloom.errors import RecloomError
from recloom.evaluation.results import MetricValue, read_per_user, read_results, show, write_results
from recloom.metrics import ItemFacts, core_metrics
from recloom.metrics.accumulator import MetricAccumulator
from recloom.schemas import Protocol, SplitSpec

PROTOCOL = Protocol(
    dataset="toy",
    data_hash="d",
    split=SplitSpec(),
    split_hash="s",
    part="test",
    candidates="all",
    seen="masked",
    users=4,
    num_items=6,
)


def write(run, **changes):
    given = {
        "model": "Popularity",
        "protocol": PROTOCOL,
        "values": {"ndcg@10": 0.5, "coverage@10": 0.25},
        "per_user": {"ndcg@10": np.array([1.0, np.nan, 0.25, 0.25])},
        "users": ["a", "b", "a", "c"],
    }
    return write_results(run, **(given | changes))


def test_what_was_measured_can_be_read_again(tmp_path):
    written = write(tmp_path / "run", seed=7)
    assert read_results(tmp_path / "run") == written
    assert written.protocol == PROTOCOL
    assert (written.model, written.seed) == ("Popularity", 7)
    assert {"python", "recloom", "torch", "numpy"} <= set(written.versions)
    ndcg, coverage = written.metrics["ndcg@10"], written.metrics["coverage@10"]
    assert (ndcg.mean, ndcg.n, ndcg.undefined) == (0.5, 3, 1)
    assert 0.25 <= ndcg.low < 0.5 < ndcg.high <= 1
    assert (coverage.mean, coverage.low, coverage.high, coverage.n) == (0.25, None, None, 4)
    table = read_per_user(tmp_path / "run")
    assert table.columns == ["user_id", "request", "ndcg@10"]
    assert table["user_id"].to_list() == ["a", "b", "a", "c"]
    assert table["request"].to_list() == [0, 0, 1, 0]
    np.testing.assert_array_equal(table["ndcg@10"].to_numpy(), [1, np.nan, 0.25, 0.25])


def test_a_value_prints_with_its_interval():
    value = MetricValue(mean=0.07094, low=0.058, high=0.08412, n=3, undefined=0)
    assert str(value) == "0.0709 [0.0580, 0.0841]"
    assert str(value.model_copy(update={"low": None, "high": None})) == "0.0709"
    assert str(value.model_copy(update={"mean": None})) == "undefined"


def test_only_the_two_files_remain(tmp_path):
    write(tmp_path)
    write(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["metrics.json", "per_user_test.parquet"]


def test_undefined_numbers_are_null_and_the_file_is_plain_json(tmp_path):
    written = write(tmp_path, values={"ndcg@10": math.nan}, per_user={"ndcg@10": np.full(4, np.nan)})
    assert written.metrics["ndcg@10"].mean is None
    text = (tmp_path / "metrics.json").read_text()
    assert "NaN" not in text
    assert json.loads(text)["metrics"]["ndcg@10"]["undefined"] == 4


def test_a_meter_gives_what_is_written(tmp_path):
    facts = ItemFacts(num_items=6)
    meter = MetricAccumulator(["mrr", "gini@2"], {m.name: m for m in core_metrics()}, facts)
    meter.update(
        torch.rand(4, 6),
        torch.tensor([[0], [3], [-1], [5]]),
        torch.arange(1, 7),
        users=torch.tensor([3, 1, 4, 2]),
    )
    values = meter.compute()
    written = write_results(
        tmp_path,
        model="Random",
        protocol=PROTOCOL,
        values=values,
        per_user=meter.per_user(),
        users=meter.users,
        lower_is_better=meter.lower_is_better,
    )
    assert written.metrics["mrr"].mean == pytest.approx(values["mrr"])
    assert written.metrics["mrr"].undefined == 1
    assert not written.metrics["gini@2"].higher_is_better
    assert read_per_user(tmp_path)["user_id"].to_list() == [3, 1, 4, 2]


def test_columns_that_do_not_fit_are_an_error(tmp_path):
    with pytest.raises(RecloomError, match=r"ndcg@10: expected one value for each of 2 requests, found 4"):
        write(tmp_path, users=["a", "b"])
    with pytest.raises(RecloomError, match="expected at least one request, found none"):
        write(tmp_path, users=[], per_user={})
    assert list(tmp_path.iterdir()) == []


def test_a_run_without_results_is_an_error(tmp_path):
    with pytest.raises(
        RecloomError, match=r"metrics\.json: expected the results of a test, found no such file"
    ):
        read_results(tmp_path)
    write(tmp_path)
    (tmp_path / "per_user_test.parquet").unlink()
    with pytest.raises(RecloomError, match=r"per_user_test\.parquet: expected the values per user"):
        read_per_user(tmp_path)


def test_a_damaged_file_names_the_key(tmp_path):
    write(tmp_path)
    path = tmp_path / "metrics.json"
    record = json.loads(path.read_text())
    record["protocol"]["seen"] = "maybe"
    path.write_text(json.dumps(record))
    with pytest.raises(
        RecloomError, match=r"metrics\.json: protocol\.seen: Input should be 'masked' or 'kept'"
    ):
        read_results(tmp_path)
    path.write_text("{")
    with pytest.raises(RecloomError, match=r"metrics\.json: the file: Invalid JSON"):
        read_results(tmp_path)


def test_the_name_of_a_dataset_is_shown_and_not_obeyed(tmp_path, capsys):
    hostile = PROTOCOL.model_copy(update={"dataset": "[/nope] \x1b[31mtoy"})
    show(write(tmp_path, protocol=hostile))
    shown = capsys.readouterr().out
    assert shown.startswith("Popularity, test part of [/nope] ␛[31mtoy\n")
    assert "ndcg@10" in shown
