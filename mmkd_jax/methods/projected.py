"""A term whose sides are projected to one width, which is known only when the models have been seen."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn

from mmkd_jax.errors import UserError
from mmkd_jax.losses.number import Number
from mmkd_jax.objective import Objective, term


def projected(
    loss: Callable,
    *,
    student: str,
    teacher: str,
    width: int,
    project: Callable[[int], nn.Module],
    weight: Number | Callable,
    where: str | tuple[str, ...] | None,
    **arguments: Any,
) -> Objective:
    """`term(loss, …)` with the student projected to the teacher's width, or both sides to `width` if that is not 0."""
    if isinstance(width, bool) or not isinstance(width, int) or width < 0:
        raise UserError(
            f"width is {width!r}; give that of both projections, or 0: the student's to the teacher's width"
        )
    both = {"student": student, "teacher": teacher, "weight": weight, "where": where}
    term(loss, **both, **arguments)  # an argument that is wrong is told here

    def bound(views):
        sides = ("student", "teacher") if width else ("student",)
        to = width or views[teacher].shape[-1]
        return term(loss, **both, connect={side: project(to) for side in sides}, **arguments)

    return Objective(
        lambda views: bound(views).init(views),
        lambda params, memory, views: bound(views).apply(params, memory, views),
    )
