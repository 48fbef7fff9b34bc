"""Subspace alignment: a trained projection and a loss on the features of the whole batch."""

import inspect
from collections.abc import Callable
from typing import Any

import flax.linen as nn

from mmkd_jax.core.objective import Objective
from mmkd_jax.errors import UserError
from mmkd_jax.methods._projected import projected
from mmkd_jax.nn.connectors import Linear
from mmkd_jax.typing import Scalar
from mmkd_jax.validation import validated


@validated
def subspace_alignment(
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
    """Subspace alignment: a trained projection and a batch-level loss (CCA, Grassmann, CORAL, MMD, CKA …) on features.

    Formula: loss(S W, T); with a width: loss(S W, T V); S and T the features of all rows of the batch

    Args:
        loss: batch-level loss: `losses.cca` (with a width: Deep CCA), `losses.grassmann`, `losses.coral`, `losses.cmd`,
            `losses.mmd`, `losses.sinkhorn`, `losses.cka`.
        student: path of the student's features, [b, d].
        teacher: path of the teacher's features, [b, e].
        width: 0 projects the student's features to the teacher's width; else both sides are projected to this width.
            The teacher gets no gradient, but its projection V does: use a width with `losses.cca`, which constant
            projections do not minimize; the other losses need a fixed teacher.
        project: width -> module, such as `connectors.Linear` or `connectors.MLP`.
        weight: loss weight, a number or a schedule.
        where: batch mask(s) of the rows that count.
        **arguments: arguments of the loss, such as `dimensions=8`.

    Returns:
        An objective with the projections as parameters.

    Raises:
        UserError: the loss is row-wise.

    Topic: alignment
    Compares: features of the whole batch
    Extra: trains a projection, or one per side
    Source: Andrew et al., Deep Canonical Correlation Analysis, 2013, https://proceedings.mlr.press/v28/andrew13.html
    Differs: the paper trains both networks; here the teacher is frozen and only its projection is trained. For the
        papers of the other losses see their docstrings

    Example:
        >>> from mmkd_jax import losses
        >>> deep_cca = subspace_alignment(losses.cca, width=16, r1=1e-3, r2=1e-3)
        >>> same_covariance = subspace_alignment(losses.coral, student="student.features.audio")
    """
    if "axis_name" not in inspect.signature(loss).parameters:
        named = getattr(loss, "__name__", "the loss")
        raise UserError(f"subspace_alignment: {named} is a row-wise loss; use feature_alignment({named}, …) for it")
    sides = {"student": student, "teacher": teacher, "weight": weight, "where": where}
    return projected(loss, width=width, project=project, **sides, **arguments)
