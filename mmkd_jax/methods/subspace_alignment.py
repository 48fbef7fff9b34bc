"""Subspace alignment: a projection, and any loss between the batch's features as wholes."""

import inspect
from collections.abc import Callable
from typing import Any

import flax.linen as nn

from mmkd_jax.arguments import held
from mmkd_jax.connectors import Linear
from mmkd_jax.errors import UserError
from mmkd_jax.losses.number import Number
from mmkd_jax.methods.projected import projected
from mmkd_jax.objective import Objective


@held
def subspace_alignment(
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
    """Subspace alignment: correlations, subspaces or distributions of a batch's features are to be the teacher's.

    Formula: loss(S W, T); with a width: loss(S W, T V); S and T all rows of the batch

    Args:
        loss: of the batch as a whole: `losses.cca`, with a width that is Deep CCA; `losses.grassmann`, `losses.coral`,
            `losses.cmd`, `losses.mmd`, `losses.sinkhorn`, `losses.cka`.
        student: path of the student's features, [b, d].
        teacher: path of the teacher's features, [b, e].
        width: 0: only the student's features are projected, to the teacher's width. Else both sides are, to this
            width. The teacher itself gets no gradient, but V does: that is for `losses.cca`, which constant
            projections do not please; the others compare with a teacher that stands.
        project: width -> the module, such as `connectors.Linear` or `connectors.MLP`.
        weight: of the term, a number or a schedule.
        where: mask(s) of the batch.
        **arguments: the loss's own, such as `dimensions=8`.

    Returns:
        An objective with the projections as parameters.

    Raises:
        UserError: a loss that compares row with row.

    Topic: alignment
    Compares: features of the whole batch
    Extra: trains a projection, or one a side
    Source: Andrew et al., Deep Canonical Correlation Analysis, 2013, https://proceedings.mlr.press/v28/andrew13.html
    Differs: the paper trains both networks, here the teacher stands and its projection is trained; the other losses
        have papers of their own

    Example:
        >>> from mmkd_jax import losses
        >>> deep_cca = subspace_alignment(losses.cca, width=16, r1=1e-3, r2=1e-3)
        >>> same_covariance = subspace_alignment(losses.coral, student="student.features.audio")
    """
    if "axis" not in inspect.signature(loss).parameters:
        named = getattr(loss, "__name__", "the loss")
        raise UserError(f"subspace_alignment: {named} compares row with row; take feature_alignment({named}, …) for it")
    sides = {"student": student, "teacher": teacher, "weight": weight, "where": where}
    return projected(loss, width=width, project=project, **sides, **arguments)
