"""Feature alignment: a projection, and any loss between rows of features."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn

from mmkd_jax.arguments import held
from mmkd_jax.connectors import Linear
from mmkd_jax.losses.number import Number
from mmkd_jax.methods.projected import projected
from mmkd_jax.objective import Objective


@held
def feature_alignment(
    loss: Callable,
    *,
    student: str = "student.embedding",
    teacher: str = "teacher.embedding",
    width: int = 0,
    project: Callable[[int], nn.Module] = Linear,
    weight: Number | Callable = 1.0,
    where: str | tuple[str, ...] | None = None,
    **arguments: Any,
) -> Objective:
    """Feature alignment: each row's features are to be near the teacher's of that row, after a trained projection.

    Formula: loss(W s, t); with a width: loss(W s, V t)

    Args:
        loss: of `student` and `teacher`, such as `losses.hint`, `losses.cosine` or `losses.info_nce`.
        student: path of the student's features, [b, ..., d].
        teacher: path of the teacher's features, [b, ..., e].
        width: 0: only the student's features are projected, to the teacher's width. Else both sides are, to this
            width. The teacher itself gets no gradient, but V does: take a loss such as `losses.info_nce` that two
            constant projections do not please; hint and cosine would be pleased.
        project: width -> the module, such as `connectors.Linear` or `connectors.MLP`.
        weight: of the term, a number or a schedule.
        where: mask(s) of the batch.
        **arguments: the loss's own, such as `temperature=0.1`.

    Returns:
        An objective with the projections as parameters.

    Topic: alignment
    Compares: features
    Extra: trains a projection, or one a side
    Source: Romero et al., FitNets: Hints for Thin Deep Nets, 2015, https://arxiv.org/abs/1412.6550
    Differs: the paper's projection is one of maps, and its loss the hint; the others are what `loss` says

    Example:
        >>> from mmkd_jax import losses
        >>> near = feature_alignment(losses.hint, student="student.features.audio", teacher="teacher.features.image")
        >>> told_apart = feature_alignment(losses.info_nce, width=64, temperature=0.1)
    """
    sides = {"student": student, "teacher": teacher, "weight": weight, "where": where}
    return projected(loss, width=width, project=project, **sides, **arguments)
