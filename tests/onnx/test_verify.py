"""The comparison must see what is wrong, and nothing else."""

from __future__ import annotations

import onnx
import pytest
import torch
from onnx import numpy_helper
from recloom.batch import Batch
from recloom.errors import RecloomError
from recloom_onnx.cases import sample
from recloom_onnx.compare import compare, list_metrics
from recloom_onnx.manifest import file_digest, read_manifest
from recloom_onnx.session import Session
from recloom_onnx.verify import report, verify_artefact

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
    manifest.model_copy(update={"files": {path.name: file_digest(path)}}).write(path)


def test_test_users_and_metrics_are_the_same(artefact, tmp_path):
    made = artefact("positions").copy(tmp_path)
    parity = verify_artefact(made.path, made.reference, made.catalog, requests(made.catalog))
    assert parity.verified
    assert parity.requests == 372 + 40
    assert parity.test_requests == 40
    rows = list(report(parity, 53).columns[0].cells)
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
    assert report(parity, 53).row_count == 6 + len(parity.failures)
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
    monkeypatch.setattr("recloom_onnx.verify.latency", lambda *_: {"p50": 1.0, "p95": 1.0, "p99": 1.0})
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
    Console(file=screen, width=100).print(report(read_manifest(verified.path).parity, 53))
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
