"""Prime-aware adaptive distillation (PAD)."""

import flax.linen as nn

from mmkd_jax import losses
from mmkd_jax.core.objective import Objective, term
from mmkd_jax.nn.connectors import Linear
from mmkd_jax.typing import Positive, Scalar
from mmkd_jax.validation import validated


@validated
def pad(
    *,
    student: str = "student.embedding",
    teacher: str = "teacher.embedding",
    eps: Positive = 1e-6,
    weight: Scalar = 1.0,
    where: str | tuple[str, ...] | None = None,
) -> Objective:
    """Prime-aware adaptive distillation (PAD): feature regression, down-weighted by a predicted uncertainty.

    Formula: (1 / D) Σ_i [(t_i − s_i)² / (ε + exp v_i) + v_i], v = BatchNorm(W s)

    Args:
        student: path of the student's features [b, ..., c].
        teacher: path of the teacher's features [b, ..., d], of the same size except for the channels.
        eps: ε.
        weight: loss weight.
        where: batch mask(s) of the rows that count.

    Returns:
        An objective with the head of the log-variance v as parameters and, if the widths differ, a linear map of s; its
        state has the BatchNorm statistics.

    Topic: features
    Compares: features
    Extra: trains a linear head with BatchNorm, and a linear map if the widths differ
    Source: Zhang et al., Prime-Aware Adaptive Distillation, 2020, https://arxiv.org/abs/2008.01458

    Example:
        >>> adaptive = pad(student="student.embedding", teacher="teacher.embedding", weight=0.5)
    """

    def adapted(outputs):
        width = outputs[teacher].shape[-1]
        connect: dict[str, nn.Module] = {"log_variance": Linear(width, batch_norm=True)}
        if outputs[student].shape[-1] != width:
            connect["student"] = nn.Dense(width)
        paths = {"student": student, "teacher": teacher, "log_variance": student}
        return term(losses.pad_l2, **paths, eps=eps, connect=connect, weight=weight, where=where)

    return Objective(
        lambda outputs: adapted(outputs).init(outputs),
        lambda params, state, outputs: adapted(outputs).apply(params, state, outputs),
    )
