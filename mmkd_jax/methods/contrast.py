"""A contrastive loss of two sides that both learn: a model's own images and texts."""

import inspect
from collections.abc import Callable
from typing import Any

from mmkd_jax import losses
from mmkd_jax.errors import UserError, choices
from mmkd_jax.objective import Objective, term


def contrast(
    one: str,
    other: str,
    *,
    loss: Callable = losses.info_nce,
    **arguments: Any,
) -> Objective:
    """A contrastive loss between two outputs that both get its gradient, as in CLIP; a term would stop its teacher's.

    Formula: loss(a, b), a and b with gradient

    Args:
        one: path of the first side, [b, d].
        other: path of the second.
        loss: with arguments `student` and `teacher`: `losses.info_nce`, `losses.siglip`.
        **arguments: the loss's own and those of `term`, such as symmetric=True, temperature="student.temperature",
            ring=True, weight, where, connect (to "one", "other").

    Returns:
        An objective without parameters but those of connectors.

    Raises:
        UserError: a loss without these arguments.

    Topic: contrastive
    Compares: two outputs, such as the student's embeddings of images and of texts
    Extra: none
    Source: Radford et al., Learning Transferable Visual Models From Natural Language Supervision (CLIP), 2021,
        https://arxiv.org/abs/2103.00020

    Example:
        >>> own = contrast("student.features.image", "student.features.text", symmetric=True)
    """
    asks, sides = inspect.signature(loss, eval_str=True), {"student": "one", "teacher": "other"}
    if missing := set(sides) - set(asks.parameters):
        raise UserError(f"contrast: the loss has no argument {choices(missing)}: give losses.info_nce or losses.siglip")

    def two_sided(one, other, **more):
        return loss(one, other, **more)

    named: Any = two_sided
    named.__name__ = getattr(loss, "__name__", "contrast")
    named.__signature__ = asks.replace(
        parameters=[p.replace(name=sides.get(p.name, p.name)) for p in asks.parameters.values()]
    )
    return term(named, one=one, other=other, **arguments)
