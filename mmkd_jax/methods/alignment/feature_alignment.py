"""Feature alignment: a trained projection and a row-wise loss between features."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn

from mmkd_jax.core.objective import Objective
from mmkd_jax.methods._projected import projected
from mmkd_jax.nn.connectors import Linear
from mmkd_jax.typing import Scalar
from mmkd_jax.validation import validated


@validated
def feature_alignment(
    loss: Callable,
    *,
    student: str = "student.embedding",
    teacher: str = "teacher.embedding",
    width: int = 0,
    project: Callable[[int], nn.Module] = Linear,
    weight: Scalar | Callable = 1.0,
    where: str | tuple[str, ...] | None = None,
    **arguments: Any,
) -> Objective:
    """Feature alignment: a trained projection and a row-wise loss between student and teacher features.

    Formula: loss(W s, t); with a width: loss(W s, V t)

    Args:
        loss: loss of `student` and `teacher`, such as `losses.hint`, `losses.cosine` or `losses.info_nce`.
        student: path of the student's features, [b, ..., d].
        teacher: path of the teacher's features, [b, ..., e].
        width: 0 projects the student's features to the teacher's width; else both sides are projected to this width.
            The teacher gets no gradient, but its projection V does: choose a loss that two constant projections do not
            minimize, such as `losses.info_nce` (not hint or cosine).
        project: width -> module, such as `connectors.Linear` or `connectors.MLP`.
        weight: loss weight, a number or a schedule.
        where: batch mask(s) of the rows that count.
        **arguments: arguments of the loss, such as `temperature=0.1`.

    Returns:
        An objective with the projections as parameters.

    Topic: alignment
    Compares: features
    Extra: trains a projection, or one per side
    Source: Romero et al., FitNets: Hints for Thin Deep Nets, 2015, https://arxiv.org/abs/1412.6550
    Differs: the paper's projection is convolutional and its loss the hint; here `loss` is any row-wise loss

    Example:
        >>> from mmkd_jax import losses
        >>> near = feature_alignment(losses.hint, student="student.features.audio", teacher="teacher.features.image")
        >>> told_apart = feature_alignment(losses.info_nce, width=64, temperature=0.1)
    """
    sides = {"student": student, "teacher": teacher, "weight": weight, "where": where}
    return projected(loss, width=width, project=project, **sides, **arguments)
