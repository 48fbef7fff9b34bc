"""Loss terms with trained projections, whose widths are read from the models' outputs."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn

from mmkd_jax.core.objective import Objective, term
from mmkd_jax.errors import UserError
from mmkd_jax.typing import Scalar


def projected(
    loss: Callable,
    *,
    student: str,
    teacher: str,
    width: int,
    project: Callable[[int], nn.Module],
    weight: Scalar | Callable,
    where: str | tuple[str, ...] | None,
    **arguments: Any,
) -> Objective:
    """Return `term(loss, …)` with the student projected to the teacher's width, or both sides to a nonzero `width`."""
    if isinstance(width, bool) or not isinstance(width, int) or width < 0:
        raise UserError(
            f"width is {width!r}; give one width for both sides, or 0 to project the student to the teacher's width"
        )
    common = {"student": student, "teacher": teacher, "weight": weight, "where": where}
    term(loss, **common, **arguments)  # validate the arguments eagerly

    def build(outputs):
        sides = ("student", "teacher") if width else ("student",)
        out_width = width or outputs[teacher].shape[-1]
        return term(loss, **common, connect={side: project(out_width) for side in sides}, **arguments)

    return Objective(
        lambda outputs: build(outputs).init(outputs),
        lambda params, state, outputs: build(outputs).apply(params, state, outputs),
    )
