"""Groups of parameters for AdamW, and the share of their learning rates in each step."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ..errors import RecloomError
from ..losses import Loss, loss_of
from ..recommender import Recommender

if TYPE_CHECKING:
    from .module import RecModule

GROUP_KEYS = ("params", "lr", "weight_decay", "betas", "eps", "amsgrad")


def adamw(module: RecModule, loss: nn.Module) -> Any:
    """AdamW over the groups of the recommender and the loss, with the schedule, as Lightning takes them."""
    optimizer = torch.optim.AdamW(
        optimizer_groups(module.recommender, loss, module.lr), lr=module.lr, betas=module.betas,
        weight_decay=module.weight_decay, foreach=True,
    )  # fmt: skip
    if not module.warmup_steps and module.schedule == "constant":
        return optimizer
    if module.schedule == "cosine" and module.trainer.max_epochs == module.trainer.max_steps == -1:
        raise RecloomError(
            "schedule='cosine' falls to 0 at the last step, so training must have one: set --trainer.max_epochs or "
            "--trainer.max_steps, or use --model.schedule constant."
        )
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: share_of_lr(module, step))
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


def share_of_lr(module: RecModule, step: int) -> float:
    """The share of each group's learning rate in an optimiser step, counted from 0.

    How many there are is asked after the first step only: before a resumed run knows where it is, loaders must not be
    made.
    """
    if step < module.warmup_steps:
        return (step + 1) / module.warmup_steps
    if module.schedule == "constant" or step == module.warmup_steps:
        return 1.0
    steps = int(module.trainer.estimated_stepping_batches)
    return cosine_share(step - module.warmup_steps, steps - module.warmup_steps)


def optimizer_groups(recommender: Recommender, loss: nn.Module, lr: float) -> list[dict[str, Any]]:
    """The recommender's groups, and the parameters of the loss in the first of them that has the run's own `lr`, or
    in one more.

    Raises RecloomError where a parameter that requires gradients is in no group or in two, or a group has a key that
    AdamW does not know.
    """
    name = type(recommender).__name__
    groups = [{**group, "params": list(group["params"])} for group in recommender.parameter_groups(lr)]
    for key in itertools.chain.from_iterable(groups):
        if key not in GROUP_KEYS:
            raise RecloomError(
                f"parameter_groups() of {name} has a group with {key!r}; expected {', '.join(GROUP_KEYS)}"
            )
    given = [id(one) for group in groups for one in group["params"]]
    trained = {id(one): path for path, one in recommender.named_parameters() if one.requires_grad}
    known = set(given)
    lost = [path for number, path in trained.items() if number not in known]
    if lost:
        raise RecloomError(
            f"parameter_groups() of {name} leaves out {', '.join(lost[:3])}, which would never be trained "
            f"({len(lost)} in all). Put every parameter into a group, or freeze it with requires_grad_(False)."
        )
    if len(known) < len(given):
        raise RecloomError(f"parameter_groups() of {name} has a parameter in two groups, or twice in one")
    own = [one for one in loss.parameters() if one.requires_grad and id(one) not in trained]
    plain = next((group for group in groups if set(group) == {"params"} or group.get("lr") == lr), None)
    if own and plain is None:
        groups.append({"params": own})
    elif own and plain is not None:
        plain["params"] += own
    return [group for group in groups if group["params"]]


def minimised(recommender: Recommender, given: Loss | None) -> Loss | None:
    """The given loss, or what the recommender asks for, or None.

    Raises RecloomError for a given loss where neither it nor a recommender that is not trained has a parameter.
    """
    if given is None or recommender.default_loss is not None:
        return given or loss_of(recommender)
    if not any(one.requires_grad for part in (recommender, given) for one in part.parameters()):
        name, loss = type(recommender).__name__, type(given).__name__
        raise RecloomError(
            f"{name} has no weights that training changes: it only counts or solves in closed form, so the loss {loss} "
            "would do nothing. Leave --model.loss out, or choose a recommender that is trained "
            "(`recloom list models`)."
        )
    return given


def cosine_share(step: int, steps: int) -> float:
    """.5 (1 + cos(pi step / (steps - 1))): 1 in the first of `steps` optimiser steps (0), 0 in the last."""
    return 0.5 * (1 + math.cos(math.pi * min(1.0, step / max(1, steps - 1))))


def not_finite(loss: Tensor, step: int, lr: float) -> RecloomError:
    """The error for a loss that is no finite number, with what to do."""
    return RecloomError(
        f"the loss became {loss.item()} in step {step}; lower --model.lr (now {lr:g}) in a new run, or go on from the "
        "last checkpoint, which is from before, with --trainer.gradient_clip_val 1."
    )
