"""Prime-aware adaptive distillation, with its head for the uncertainty."""

import flax.linen as nn

from mmkd_jax import losses
from mmkd_jax.arguments import held
from mmkd_jax.connectors import Linear
from mmkd_jax.losses.number import Number, Positive
from mmkd_jax.objective import Objective, term


@held
def pad(
    *,
    student: str = "student.embedding",
    teacher: str = "teacher.embedding",
    eps: Positive = 1e-6,
    weight: Number = 1.0,
    where: str | tuple[str, ...] | None = None,
) -> Objective:
    """Prime-aware adaptive distillation (PAD): the student says where it is unsure, and those features count less.

    Formula: (1 / D) Σ_i [(t_i − s_i)² / (ε + exp v_i) + v_i], v = BatchNorm(W s)

    Args:
        student: path of the student's features [b, ..., c].
        teacher: path of the teacher's features [b, ..., d], of the same size but for the channels.
        eps: ε.
        weight: of the term.
        where: mask(s) of the batch.

    Returns:
        An objective with the head for the log-variance v as parameters, and a linear map of s where the widths differ;
        BatchNorm's statistics are memory.

    Topic: features
    Compares: features
    Extra: trains a linear head with BatchNorm, and a linear map where the widths differ
    Source: Zhang et al., Prime-Aware Adaptive Distillation, 2020, https://arxiv.org/abs/2008.01458

    Example:
        >>> adaptive = pad(student="student.embedding", teacher="teacher.embedding", weight=0.5)
    """

    def adapted(views):
        width = views[teacher].shape[-1]
        connect: dict[str, nn.Module] = {"log_variance": Linear(width, batch_norm=True)}
        if views[student].shape[-1] != width:
            connect["student"] = nn.Dense(width)
        paths = {"student": student, "teacher": teacher, "log_variance": student}
        return term(losses.pad_l2, **paths, eps=eps, connect=connect, weight=weight, where=where)

    return Objective(
        lambda views: adapted(views).init(views),
        lambda params, memory, views: adapted(views).apply(params, memory, views),
    )
