import pytest
import torch
from recloom.nn import cross_entropy
from recloom.nn.cross_entropy import linear_cross_entropy
from torch.nn.functional import cross_entropy as reference


def tensors(rows=7, items=11, dim=5, scale=1.0):
    g = torch.Generator().manual_seed(0)
    make = lambda *shape: (scale * torch.randn(*shape, generator=g, dtype=torch.float64)).requires_grad_()  # noqa: E731
    return make(rows, dim), make(items, dim), torch.randint(0, items, (rows,), generator=g), make(items)


def test_by_hand():
    # logits 1 and 3: -log(e^1 / (e^1 + e^3)) = log(1 + e^2) = 2.126928
    loss = linear_cross_entropy(torch.tensor([[1.0]]), torch.tensor([[1.0], [3.0]]), torch.tensor([0]))
    assert loss.item() == pytest.approx(2.126928, abs=1e-6)


@pytest.mark.parametrize("scale", [1.0, 30.0], ids=["small logits", "logits that overflow exp"])
@pytest.mark.parametrize("block", [1, 25, 1 << 20], ids=["a row a block", "blocks of two", "one block"])
@pytest.mark.parametrize("with_bias", [False, True])
def test_equals_the_plain_computation(monkeypatch, scale, block, with_bias):
    monkeypatch.setattr(cross_entropy, "BLOCK", block)
    x, w, target, b = tensors(scale=scale)
    bias = b if with_bias else None
    given = (x, w, b) if with_bias else (x, w)
    expected = reference(x @ w.T + (0 if bias is None else bias), target)
    loss = linear_cross_entropy(x, w, target, bias)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-12)
    for mine, theirs in zip(
        torch.autograd.grad(3 * loss, given), torch.autograd.grad(3 * expected, given), strict=True
    ):
        assert torch.allclose(mine, theirs, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("with_bias", [False, True])
def test_a_row_that_counts_three_times_is_the_same_as_three_rows(monkeypatch, with_bias):
    monkeypatch.setattr(cross_entropy, "BLOCK", 25)
    x, w, target, b = tensors()
    counts = torch.tensor([1, 3, 1, 0, 2, 1, 1])
    given = (x, w, b) if with_bias else (x, w)
    rows = torch.repeat_interleave(torch.arange(7), counts)
    expected = linear_cross_entropy(x[rows], w, target[rows], b if with_bias else None)
    loss = linear_cross_entropy(x, w, target, b if with_bias else None, counts)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-12)
    for mine, theirs in zip(
        torch.autograd.grad(loss, given), torch.autograd.grad(expected, given), strict=True
    ):
        assert torch.allclose(mine, theirs, rtol=1e-9, atol=1e-12)


def test_large_logits_stay_finite_in_float32():
    x, w, target, _ = (t.float() if t.is_floating_point() else t for t in tensors(scale=100.0))
    x, w = x.detach().requires_grad_(), w.detach()
    loss = linear_cross_entropy(x, w, target)
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(x.grad).all()


def test_no_rows_cost_nothing():
    x = torch.zeros(0, 4, requires_grad=True)
    loss = linear_cross_entropy(x, torch.randn(6, 4), torch.zeros(0, dtype=torch.long))
    loss.backward()
    assert loss.item() == 0


def test_memory_is_bounded_by_blocks(monkeypatch):
    monkeypatch.setattr(cross_entropy, "BLOCK", 1000)
    seen = []
    monkeypatch.setattr(
        torch.Tensor, "new_empty", lambda self, *shape: seen.append(shape) or torch.empty(*shape)
    )
    linear_cross_entropy(torch.randn(5000, 4), torch.randn(100, 4), torch.zeros(5000, dtype=torch.long))
    assert seen == [(10, 100)]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("autocast", [False, True], ids=["given in half", "under autocast"])
def test_half_precision_gives_the_loss_of_float32(dtype, autocast):
    # logits 16 and 32: -log(e^16 / (e^16 + e^32)) = 16 + log(1 + e^-16) = 16.0000001; e^16 overflows float16
    x, w = torch.tensor([[4.0]]).to(dtype).requires_grad_(), torch.tensor([[4.0], [8.0]])
    w = (w if autocast else w.to(dtype)).requires_grad_()
    with torch.autocast("cpu", dtype, enabled=autocast):
        loss = linear_cross_entropy(x, w, torch.tensor([0]))
    loss.backward()
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(16.0, abs=1e-5)
    assert x.grad.item() == pytest.approx(4.0, rel=1e-2)  # w of the other class less that of the target
    assert w.grad.flatten().tolist() == pytest.approx([-4.0, 4.0], rel=1e-2)
    assert (x.grad.dtype, w.grad.dtype) == (x.dtype, w.dtype)
