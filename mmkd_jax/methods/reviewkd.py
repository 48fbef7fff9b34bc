"""Knowledge review: a teacher's stage is learned from the student's same stage and all deeper ones."""

from collections.abc import Callable

import flax.linen as nn
from jaxtyping import Array, Float

from mmkd_jax.arguments import held
from mmkd_jax.connectors import ABF, as_map
from mmkd_jax.errors import UserError
from mmkd_jax.losses.features.hcl import hcl
from mmkd_jax.losses.number import Number
from mmkd_jax.objective import Objective, term
from mmkd_jax.views import Context


@held
def reviewkd(
    student: tuple[str, ...],
    teacher: tuple[str, ...],
    *,
    width: int = 0,
    weight: Number | Callable = 1.0,
    where: str | tuple[str, ...] | None = None,
) -> Objective:
    """Knowledge review (ReviewKD): each stage of the teacher from the student's stages, the deepest first.

    Formula: Σ_i hcl(F_i, t_i); (F_i, r_i) = ABF_i(s_i, r_{i+1}) for i = n … 1, of the teacher's size and channels

    The authors let the weight grow from 0 in the first epochs: give a schedule.

    Args:
        student: paths of the student's stages, the shallowest first: maps [b, h, w, c]; tokens [b, l, d] and rows
            [b, d] count as maps that are l × 1 and 1 × 1.
        teacher: paths of the teacher's stages, as many.
        width: channels of the fusions; those of the student's deepest stage, at most 512, if 0.
        weight: of the term, a number or a schedule.
        where: mask(s) of the batch.

    Returns:
        An objective.

    Topic: features
    Compares: feature maps of several stages
    Extra: trains one ABF a stage; remembers their BatchNorm statistics
    Source: Chen et al., Distilling Knowledge via Knowledge Review, 2021, https://arxiv.org/abs/2104.09044

    Example:
        >>> stages = ("hidden.image.0", "hidden.image.1", "features.image")
        >>> review = reviewkd(tuple(f"student.{s}" for s in stages), tuple(f"teacher.{s}" for s in stages))
    """
    if isinstance(student, str) or isinstance(teacher, str):
        raise UserError(f"reviewkd: {student!r} and {teacher!r}: give tuples of paths, one a stage")
    if len(student) != len(teacher):
        raise UserError(f"reviewkd: {len(student)} stages of the student, {len(teacher)} of the teacher: give as many")

    def reviewed(views):
        shapes = tuple(tuple(as_map(views[p]).shape[1:]) for p in teacher)
        review = Review(width or min(512, views[student[-1]].shape[-1]), shapes)
        connect = {"student": review, "teacher": lambda stages: tuple(as_map(t) for t in stages)}
        return term(hcl, student=student, teacher=teacher, connect=connect, weight=weight, where=where)

    def init(views):
        return reviewed(views).init(views)

    def apply(params, memory, views):
        return reviewed(views).apply(params, memory, views)

    return Objective(init, apply)


class Review(nn.Module):
    """From the deepest stage to the shallowest; what a fusion leaves goes on to the next.

    Attributes:
        width: channels of the fusions.
        shapes: height, width and channels of each result, the shallowest first.
    """

    width: int
    shapes: tuple[tuple[int, ...], ...]

    @nn.compact
    def __call__(self, stages: tuple[Float[Array, "b ..."], ...], ctx: Context) -> tuple[Float[Array, "b _ _ _"], ...]:
        made, residual = [], None
        for x, (height, width, channels) in zip(reversed(stages), reversed(self.shapes), strict=True):
            out, residual = ABF(self.width, channels, (height, width))(as_map(x), residual, ctx)
            made.append(out)
        return tuple(reversed(made))
