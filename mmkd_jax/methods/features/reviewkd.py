"""Knowledge review (ReviewKD)."""

from collections.abc import Callable

import flax.linen as nn
from jaxtyping import Array, Float

from mmkd_jax.core.model import StepContext
from mmkd_jax.core.objective import Objective, term
from mmkd_jax.errors import UserError
from mmkd_jax.losses.features.hcl import hcl
from mmkd_jax.nn.connectors import ABF, as_map
from mmkd_jax.typing import Scalar
from mmkd_jax.validation import validated


@validated
def reviewkd(
    student: tuple[str, ...],
    teacher: tuple[str, ...],
    *,
    width: int = 0,
    weight: Scalar | Callable = 1.0,
    where: str | tuple[str, ...] | None = None,
) -> Objective:
    """Knowledge review (ReviewKD): match each teacher stage with a fusion of the student's same and deeper stages.

    Formula: Σ_i hcl(F_i, t_i); (F_i, r_i) = ABF_i(s_i, r_{i+1}) for i = n … 1, of the teacher's size and channels

    The authors warm the weight up from 0 over the first epochs: pass a schedule.

    Args:
        student: paths of the student's stages, shallowest first: maps [b, h, w, c]; tokens [b, l, d] and rows [b, d]
            are treated as l × 1 and 1 × 1 maps.
        teacher: paths of the teacher's stages, the same number.
        width: channels of the fusions; 0 uses those of the student's deepest stage, at most 512.
        weight: loss weight, a number or a schedule.
        where: batch mask(s) of the rows that count.

    Returns:
        An objective with the fusion modules (ABF) as parameters.

    Topic: features
    Compares: feature maps of several stages
    Extra: trains one ABF per stage; keeps their BatchNorm statistics
    Source: Chen et al., Distilling Knowledge via Knowledge Review, 2021, https://arxiv.org/abs/2104.09044

    Example:
        >>> stages = ("hidden.image.0", "hidden.image.1", "features.image")
        >>> review = reviewkd(tuple(f"student.{s}" for s in stages), tuple(f"teacher.{s}" for s in stages))
    """
    if isinstance(student, str) or isinstance(teacher, str):
        raise UserError(f"reviewkd: student is {student!r}, teacher {teacher!r}; give tuples of paths, one per stage")
    if len(student) != len(teacher):
        raise UserError(
            f"reviewkd: {len(student)} student and {len(teacher)} teacher stages; give the same number of each"
        )

    def reviewed(outputs):
        shapes = tuple(tuple(as_map(outputs[p]).shape[1:]) for p in teacher)
        review = Review(width or min(512, outputs[student[-1]].shape[-1]), shapes)
        connect = {"student": review, "teacher": lambda stages: tuple(as_map(t) for t in stages)}
        return term(hcl, student=student, teacher=teacher, connect=connect, weight=weight, where=where)

    def init(outputs):
        return reviewed(outputs).init(outputs)

    def apply(params, state, outputs):
        return reviewed(outputs).apply(params, state, outputs)

    return Objective(init, apply)


class Review(nn.Module):
    """Attention-based fusion (ABF) from the deepest stage to the shallowest; each passes its residual to the next.

    Attributes:
        width: channels of the fusions.
        shapes: height, width and channels of each result, shallowest first.
    """

    width: int
    shapes: tuple[tuple[int, ...], ...]

    @nn.compact
    def __call__(
        self, stages: tuple[Float[Array, "b ..."], ...], ctx: StepContext
    ) -> tuple[Float[Array, "b _ _ _"], ...]:
        fused, residual = [], None
        for x, (height, width, channels) in zip(reversed(stages), reversed(self.shapes), strict=True):
            out, residual = ABF(self.width, channels, (height, width))(as_map(x), residual, ctx)
            fused.append(out)
        return tuple(reversed(fused))
