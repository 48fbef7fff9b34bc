"""Contrastive loss with gradients to both sides, such as a model's image and text embeddings."""

import inspect
from collections.abc import Callable
from typing import Any

from mmkd_jax import losses
from mmkd_jax.core.objective import Objective, term
from mmkd_jax.errors import UserError, choices


def contrast(
    one: str,
    other: str,
    *,
    loss: Callable = losses.info_nce,
    **arguments: Any,
) -> Objective:
    """Contrastive loss between two outputs, with gradients to both, as in CLIP (`term` stops the teacher's gradient).

    Formula: loss(a, b), a and b with gradient

    Args:
        one: path of the first side, [b, d].
        other: path of the second side, [b, d].
        loss: loss with arguments `student` and `teacher`: `losses.info_nce`, `losses.siglip`.
        **arguments: arguments of the loss and of `term`, such as symmetric=True, temperature="student.temperature",
            ring=True, weight, where, connect (to "one", "other").

    Returns:
        An objective whose only parameters are those of the connectors.

    Raises:
        UserError: the loss lacks these arguments.

    Topic: contrastive
    Compares: two outputs, such as the student's image and text embeddings
    Extra: none
    Source: Radford et al., Learning Transferable Visual Models From Natural Language Supervision (CLIP), 2021,
        https://arxiv.org/abs/2103.00020

    Example:
        >>> own = contrast("student.features.image", "student.features.text", symmetric=True)
    """
    signature, sides = inspect.signature(loss, eval_str=True), {"student": "one", "teacher": "other"}
    if missing := set(sides) - set(signature.parameters):
        raise UserError(f"contrast: the loss has no argument {choices(missing)}; use losses.info_nce or losses.siglip")

    def two_sided(one, other, **options):
        return loss(one, other, **options)

    named: Any = two_sided
    named.__name__ = getattr(loss, "__name__", "contrast")
    named.__signature__ = signature.replace(
        parameters=[p.replace(name=sides.get(p.name, p.name)) for p in signature.parameters.values()]
    )
    return term(named, one=one, other=other, **arguments)
