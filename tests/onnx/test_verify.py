"""The comparison must see what is wrong, and nothing else."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from itertools import pairwise

import onnx
import pytest
import torch
from onnx import numpy_helper
from recloom.batch import Batch
from recloom.errors import RecloomError
from recloom.io import sha256
from recloom_onnx.artifact.manifest import read_manifest
from recloom_onnx.artifact.session import Session
from recloom_onnx.exporting.export import export_artefact
from recloom_onnx.verification.cases import sample
from recloom_onnx.verification.comparison import compare, faults, list_metrics, overlap
from recloom_onnx.verification.parity_report import ParityReport
from recloom_onnx.verification.verify import EvenSample, parity_table, verify_artefact

INF = float("inf")


def requests(catalog, rows=40):
    """Test users whose held-out item is the one after the last of their history."""
    random = torch.Generator().manual_seed(3)
    history = torch.randint(0, catalog.num_items + 1, (rows, 12), generator=random)
    targets = torch.randint(1, catalog.num_items + 1, (rows, 2), generator=random)
    targets[:, 1] *= targets[:, 1] != targets[:, 0]
    return [
        Batch.of(part, labels=label) for part, label in zip(history.split(16), targets.split(16), strict=True)
    ]


def perturb(path, amount):
    """Change the item table in the file, and make the manifest agree with the new file."""
    model = onnx.load(str(path))
    table = next(one for one in model.graph.initializer if one.name.endswith("table.weight"))
    weights = numpy_helper.to_array(table).copy()
    weights[5] += amount
    table.CopyFrom(numpy_helper.from_array(weights, table.name))
    onnx.save(model, str(path))
    manifest = read_manifest(path)
    manifest.model_copy(update={"files": {path.name: sha256(path)}}).write(path)


def test_test_users_and_metrics_are_the_same(artefact, tmp_path):
    made = artefact("positions").copy(tmp_path)
    parity = verify_artefact(made.path, made.reference, made.catalog, requests(made.catalog))
    assert parity.verified
    assert parity.requests == 372 + 40
    assert parity.test_requests == 40
    rows = list(parity_table(parity, 53).columns[0].cells)
    assert "ndcg@10 among all 53 items, 40 test users: artefact, recommender" in map(str, rows)
    assert set(parity.artefact) == {"ndcg@10", "hit@10"}
    assert parity.artefact == pytest.approx(parity.reference)
    assert 0 < parity.artefact["hit@10"] < 1
    assert 0 < parity.latency_ms["p50"] <= parity.latency_ms["p95"]
    assert parity.bytes == made.path.stat().st_size
    assert read_manifest(made.path).parity == parity


def test_a_sample_is_spread_over_all_requests():
    class Rows:
        def __len__(self):
            return 101

        def __getitem__(self, rows):
            return Batch.of(rows[:, None])

    def drawn(most):
        return torch.cat([batch.user + batch.history[:, 0] for batch in sample(Rows(), most)]).tolist()

    assert drawn(5) == [0, 25, 50, 75, 100]
    assert drawn(1000) == list(range(101))


@pytest.mark.parametrize("amount", [0.01, float("nan"), INF])
def test_an_artefact_with_other_weights_fails_and_is_refused(artefact, tmp_path, amount):
    made = artefact("positions").copy(tmp_path)
    perturb(made.path, amount)
    parity = verify_artefact(made.path, made.reference, made.catalog)
    assert not parity.verified
    assert parity.mismatches > 0
    assert parity.max_difference > 1e-3 if amount == 0.01 else parity.max_difference is None
    assert read_manifest(made.path).parity == parity
    assert parity_table(parity, 53).row_count == 6 + len(parity.failures)
    assert "batch of" in parity.failures[0]
    assert "expected" in parity.failures[0]
    with pytest.raises(RecloomError, match="failed its comparison"):
        Session(made.path)


def test_differences_below_the_tolerance_pass(artefact, tmp_path):
    made = artefact("positions").copy(tmp_path)
    perturb(made.path, 1e-7)
    assert verify_artefact(made.path, made.reference, made.catalog).verified


def test_a_reference_that_masks_otherwise_fails(artefact, tmp_path):
    from functools import partial

    made = artefact("positions").copy(tmp_path)
    kept = partial(made.reference, seen="kept")
    assert not verify_artefact(made.path, kept, made.catalog).verified


def test_an_artefact_that_cannot_run_fails_with_the_reason(artefact, tmp_path, monkeypatch):
    made = artefact("positions").copy(tmp_path)
    run = Session.run

    def fails_alone(self, given, k):
        if len(given["history"]) == 1 and k == 10:
            raise RuntimeError("shape is frozen\nsecond line")
        return run(self, given, k)

    monkeypatch.setattr(Session, "run", fails_alone)
    monkeypatch.setattr(
        "recloom_onnx.verification.verify.latency", lambda *_: {"p50": 1.0, "p95": 1.0, "p99": 1.0}
    )
    parity = verify_artefact(made.path, made.reference, made.catalog)
    assert not parity.verified
    assert parity.failures[0] == "batch of 1, history of 0: shape is frozen"


def test_another_catalogue_is_refused(artefact, tmp_path):
    from recloom.data.catalog import Catalog

    made = artefact("positions").copy(tmp_path)
    other = Catalog(made.catalog.items.reverse())
    with pytest.raises(RecloomError, match="not those of this run's catalogue"):
        verify_artefact(made.path, made.reference, other)


def test_the_table_shows_the_outcome(verified):
    from io import StringIO

    from rich.console import Console

    screen = StringIO()
    Console(file=screen, width=100).print(parity_table(read_manifest(verified.path).parity, 53))
    assert "verified" in screen.getvalue()
    assert "372 in 21 shapes" in screen.getvalue()


def outcome(items, scores, reference):
    result = compare(torch.tensor([items]), torch.tensor([scores]), torch.tensor([reference]), 1e-4)
    return result.wrong[0].tolist(), result.tied[0].tolist()


def test_compare_by_hand():
    reference = [3.0, 1.0, 2.0]
    assert outcome([1, 3, 2], [3.0, 2.0, 1.0], reference) == ([False] * 3, [False] * 3)
    assert outcome([1, 2, 3], [3.0, 1.0, 2.0], reference)[0] == [False, True, True]
    assert outcome([1, 3, 2], [3.0, 2.1, 1.0], reference)[0] == [False, True, False]
    assert outcome([1, 1, 2], [3.0, 3.0, 1.0], reference)[0][1]
    assert outcome([1, 3, 2], [float("nan"), 2.0, 1.0], reference)[0] == [True, False, False]


def test_compare_accepts_ties_in_any_order():
    assert outcome([2, 1], [1.0, 1.0], [1.0, 1.0, 0.5]) == ([False, False], [True, True])
    assert outcome([3, 2], [1.0, 1.0], [1.0, 1.0 + 1e-6, 0.5])[0] == [True, False]


def test_compare_where_nothing_is_left():
    masked = [1.0, -INF, -INF]
    assert outcome([1, 0, 0, 0], [1.0, -INF, -INF, -INF], masked)[0] == [False] * 4
    assert outcome([1, 2, 0, 0], [1.0, -INF, -INF, -INF], masked)[0] == [False] * 4
    assert outcome([1, 2, 0, 0], [1.0, 0.9, -INF, -INF], masked)[0] == [False, True, False, False]
    assert outcome([0], [-INF], masked)[0] == [True]


def test_small_scores_are_not_all_ties():
    assert outcome([2], [1e-5], [2e-5, 1e-5])[0] == [True]
    assert outcome([2], [2e-5 - 1e-9], [2e-5, 2e-5 - 1e-9])[0] == [False]


def test_metrics_of_lists_by_hand():
    found = list_metrics(torch.tensor([[4, 2, 9], [1, 2, 3]]), torch.tensor([[2, 0], [7, 8]]))
    assert found["hit@10"].tolist() == [1.0, 0.0]
    assert found["ndcg@10"].tolist() == pytest.approx([0.63092975, 0.0])


def test_faults_by_hand():
    def found(items, scores, reference):
        return faults(torch.tensor([items]), torch.tensor([scores]), torch.tensor([reference]))[0].tolist()

    assert found([1, 3, 2], [3.1, 1.8, 1.7], [3.0, 1.0, 2.0]) == [False] * 3
    assert found([2, 3, 1], [9.0, 8.0, 7.0], [3.0, 1.0, 2.0]) == [False] * 3  # ranks are another matter
    assert found([1, 2], [3.0, 2.0], [3.0, -INF, 1.0]) == [False, True]  # seen or blocked
    assert found([1, 1], [3.0, 3.0], [3.0, 1.0])[1]  # twice
    assert found([1, 2], [3.0, 3.5], [3.0, 1.0]) == [False, True]  # rises
    assert found([1, 2], [3.0, float("nan")], [3.0, 1.0]) == [False, True]
    assert found([1, 0], [3.0, -INF], [3.0, 1.0]) == [False, True]  # one was left
    assert found([1, 0, 0], [3.0, -INF, 0.0], [3.0, -INF, -INF]) == [False, False, True]
    assert found([1, 2], [3.0, -INF], [3.0, -INF]) == [False, True]


def test_overlap_by_hand():
    lists = torch.tensor([[1, 2, 3], [4, 5, 0]]), torch.tensor([[3, 9, 1], [5, 0, 0]])
    assert overlap(*lists, k=3).tolist() == pytest.approx([2 / 3, 1.0])
    assert overlap(*lists, k=1).tolist() == [0.0, 0.0]


@pytest.fixture(scope="module")
def small(artefact, tmp_path_factory):
    """`positions` in int8, its tables however small they are."""
    made = artefact("positions")
    path = tmp_path_factory.mktemp("small") / "model.onnx"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("recloom_onnx.exporting.quantize.LEAST", 1)
        export_artefact(made.recommender, made.catalog, made.popularity, path, quantize="int8")
    return replace(made, path=path)


def edit(path, change):
    """Change the file by `change(graph)`, and make the manifest agree with it."""
    model = onnx.load(str(path))
    change(model.graph)
    onnx.save(model, str(path))
    read_manifest(path).model_copy(update={"files": {path.name: sha256(path)}}).write(path)


def test_int8_passes_within_the_loss_and_says_what_it_costs(small, tmp_path):
    made = small.copy(tmp_path)
    parity = verify_artefact(made.path, made.reference, made.catalog, good(made), max_loss=0.2)
    assert parity.failures == []
    assert parity.loss == pytest.approx(1 - parity.artefact["ndcg@10"] / parity.reference["ndcg@10"])
    assert (parity.max_loss, parity.provider, parity.threads) == (0.2, "cpu", 1)
    assert parity.reference["ndcg@10"] > 0.99
    assert parity.mismatches > 0
    assert 0.9 < parity.overlap < 1
    assert parity.latency_ms["p50"] <= parity.latency_ms["p95"] <= parity.latency_ms["p99"]
    assert len(Session(made.path).recommend([["7"]])[0]) == 10
    rows = dict(zip(*(map(str, column.cells) for column in parity_table(parity, 60).columns), strict=True))
    assert rows["NDCG@10 lost, allowed"] == f"{parity.loss:+.2%}, 20.00%"
    assert rows["p50, p95, p99 of one request (cpu, 1 threads)"].endswith(" ms")


def test_int8_that_loses_too_much_is_refused_with_figures(small, tmp_path):
    made = small.copy(tmp_path)

    def halve(graph):
        for one in graph.initializer:
            if one.data_type == onnx.TensorProto.INT8:
                codes = numpy_helper.to_array(one)
                one.CopyFrom(numpy_helper.from_array(codes // 64 * 64, one.name))

    edit(made.path, halve)
    parity = verify_artefact(made.path, made.reference, made.catalog, good(made))
    assert not parity.verified
    assert parity.loss > 0.01
    assert re.fullmatch(
        r"NDCG@10 over 200 test users is 0\.\d{4}, and the recommender's [01]\.\d{4}: "
        r"\d+\.\d\d% of it is lost, allowed is 1\.00% \(--max_loss\)",
        parity.failures[0],
    )
    with pytest.raises(RecloomError, match=r"is lost, allowed is 1\.00%.*without --quantize.*--max_loss"):
        Session(made.path)


@pytest.mark.parametrize("which", ["blocked", "history"])
def test_a_mask_fault_in_an_int8_file_is_caught(small, tmp_path, which):
    made = small.copy(tmp_path)

    def forget(graph):
        """Ids of one input are not recognised."""
        (node,) = [node for node in graph.node if node.op_type == "LabelEncoder" and node.input[0] == which]
        (keys,) = [one for one in node.attribute if one.name == "keys_strings"]
        keys.strings[:] = [b"not " + key for key in keys.strings]

    edit(made.path, forget)
    parity = verify_artefact(made.path, made.reference, made.catalog, good(made), max_loss=0.9)
    assert not parity.verified
    assert "what holds at any precision" in parity.failures[0]


def test_an_unknown_id_that_counts_in_an_int8_file_is_caught(small, tmp_path):
    made = small.copy(tmp_path)

    def count(graph):
        (node,) = [
            node for node in graph.node if node.op_type == "LabelEncoder" and node.input[0] == "history"
        ]
        (default,) = [one for one in node.attribute if one.name == "default_int64"]
        default.i = 5

    edit(made.path, count)
    parity = verify_artefact(made.path, made.reference, made.catalog, good(made), max_loss=0.9)
    assert any(
        "without its unknown ids a request gets another list" in failure for failure in parity.failures
    )


def test_what_cannot_decide_a_loss_fails(small, tmp_path):
    made = small.copy(tmp_path)
    few = verify_artefact(made.path, made.reference, made.catalog, good(made)[:5])
    assert few.failures == [
        "whether more than 1.00% of the NDCG@10 is lost cannot be decided: found 80 test users, expected at least 100"
    ]
    for batch in (never := good(made)):
        batch.labels[:] = batch.history[:, -1:]  # seen, so never in a list
    none = verify_artefact(made.path, made.reference, made.catalog, never)
    assert none.failures[0].endswith("the recommender's own NDCG@10 over 200 test users is 0")
    assert none.loss is None
    with pytest.raises(RecloomError, match="max_loss is a share of the NDCG, from 0 to less than 1, found 1"):
        verify_artefact(made.path, made.reference, made.catalog, max_loss=1)


def good(made):
    """Test users whose held-out item is the recommender's first."""
    random = torch.Generator().manual_seed(4)
    found = []
    for history in torch.randint(1, 61, (200, 12), generator=random).split(16):
        free = torch.ones(len(history), 60, dtype=torch.bool)
        with torch.no_grad():
            best = made.reference(Batch.of(history), history[:, :0], free).argmax(1, keepdim=True) + 1
        found.append(Batch.of(history, labels=best))
    return found


def test_another_metric_in_full_precision_is_a_failure():
    half, whole = (
        {name: torch.full((4,), value) for name in ("ndcg@10", "hit@10")} for value in (0.5, 0.500002)
    )
    report = ParityReport(1e-4, expected=[half], found=[whole], resolved=[whole])
    assert report.judge(0.01) == [
        f"{name} over 4 test users is 0.5000020, and the recommender's 0.5000000; expected the same to 1e-06"
        for name in ("ndcg@10", "hit@10")
    ]
    assert (
        ParityReport(1e-4, expected=[half], found=[whole], resolved=[half]).judge(0.01) == []
    )  # by ties alone


def test_timed_requests_are_spread_over_all():
    spread = EvenSample()
    for number in range(1000):
        spread.add(number)
    steps = {after - before for before, after in pairwise(spread.cases)}
    assert steps == {16}
    assert spread.cases[0] == 0
    assert spread.cases[-1] > 960


def test_a_manifest_from_before_is_read(verified, tmp_path):
    made = verified.copy(tmp_path)
    path = made.path.with_suffix(".json")
    old = json.loads(path.read_text())
    del old["precision"]
    for name in ("max_loss", "loss", "overlap", "provider", "threads"):
        del old["parity"][name]
    del old["parity"]["latency_ms"]["p99"]
    path.write_text(json.dumps(old))
    assert Session(made.path).manifest.precision == "fp32"
    old["precision"] = "int2"
    path.write_text(json.dumps(old))
    with pytest.raises(
        RecloomError, match=r"not a manifest of format recloom-onnx-1: precision: .*Export again"
    ):
        Session(made.path)
