"""The fixed point of a walk that detailed balance makes symmetric, by conjugate gradients (Hestenes and Stiefel, 1952).

    r = M r + b,  M = damping * walk of an undirected graph,  so  M_ij / d_i = M_ji / d_j

In the inner product <x, y> = sum over j of x_j y_j / d_j, I - M is symmetric with eigenvalues between 1 - damping and
1 + damping. So in the long run a product divides the error by (1 + sqrt(1 - damping^2)) / damping or more, 1.8 for
.85, where power iteration is sure of 1 / damping, 1.2; and by far more where few eigenvalues are large.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from recloom.errors import RecloomError
from torch import Tensor


def fixed_point(
    step: Callable[[Tensor], Tensor], start: Tensor, weights: Tensor, allowed: float, max_steps: int
) -> Tensor:
    """(N, B) r = M r + b for the columns b of `start`, each on its own: none depends on its neighbours.

    Args:
        step: x (N, B) to M x.
        start: (N, B) b.
        weights: (N,) above 0, 1 / d_j up to a factor of each component.
        allowed: a column is done when |M r + b - r|, by which one more step would change it, is below this in L1,
            after one step at least.
        max_steps: products, at most.

    Raises RecloomError where these were too few.
    """
    weights, tiny = weights[:, None], torch.finfo(start.dtype).tiny  # against 0 / 0 in columns that are exact
    found, left, direction = torch.zeros_like(start), start.clone(), start
    length = (left.square() * weights).sum(0)  # (B,) <left, left>
    for done in range(max_steps + 1):
        going = left.abs().sum(0) >= (allowed if done else 0)
        if not going.any():
            return found
        if done == max_steps:
            break
        moved = direction - step(direction)
        curve = (direction * moved).mul_(weights).sum(0)
        stride = torch.where(going, length / curve.clamp(min=tiny), 0)
        found.addcmul_(direction, stride)
        left.addcmul_(moved, stride, value=-1)
        before, length = length, (left.square() * weights).sum(0)
        direction = torch.addcmul(left, direction, length / before.clamp(min=tiny))
    raise not_converged(max_steps)


def not_converged(steps: int) -> RecloomError:
    """The error for ranks that still change after the last step."""
    return RecloomError(
        f"the ranks still change after {steps:,} steps, so they would be wrong. Choose a smaller damping, or a larger "
        "tolerance."
    )
