"""SEED with an embedding queue."""

from collections.abc import Callable
from typing import Any

from mmkd_jax.core.objective import Objective, term
from mmkd_jax.losses.contrastive.seed import seed as scores
from mmkd_jax.methods import _queue as queues
from mmkd_jax.typing import Count, Positive, Scalar
from mmkd_jax.validation import validated


@validated
def seed(
    size: Count = 65_536,
    *,
    student: str = "student.embedding",
    teacher: str = "teacher.embedding",
    connect: Any = None,
    temperature: Positive = 0.2,
    teacher_temperature: Positive = 0.01,
    weight: Scalar | Callable = 1.0,
    where: str | tuple[str, ...] | None = None,
) -> Objective:
    """SEED: match the teacher's similarity scores over a queue of its embeddings and the row's own.

    Formula: −Σ_k p_k log q_k, p = softmax_k(⟨t, a_k⟩ / τ_t), q = softmax_k(⟨s, a_k⟩ / τ_s), a = (t, the queue); after
        use, the batch's t replace the oldest entries

    Args:
        size: number of rows in the queue.
        student: path of the student's embedding.
        teacher: path of the teacher's embedding.
        connect: Linen module that projects the student to the teacher's width.
        temperature: τ_s.
        teacher_temperature: τ_t.
        weight: loss weight, a number or a schedule.
        where: batch mask(s) of the rows that count; other rows do not enter the queue.

    Returns:
        An objective whose state has the queue, identical on all devices.

    Topic: contrastive
    Compares: embeddings, by their similarities to other examples
    Extra: a queue; a connector if the widths differ
    Source: Fang et al., SEED: Self-supervised Distillation For Visual Representation, 2021,
        https://arxiv.org/abs/2101.04731
    Differs: the authors' code requires a queue size that is a multiple of the batch size, and has τ_t = 1e-4

    Example:
        >>> import flax.linen as nn
        >>> scores = seed(4_096, connect=nn.Dense(128))
    """
    loss = term(
        scores,
        student=student,
        teacher=teacher,
        keys="queued.teacher",
        connect={} if connect is None else {"student": connect},
        temperature=temperature,
        teacher_temperature=teacher_temperature,
        weight=weight,
        where=where,
    )
    return queues.with_queues("seed", loss, {"teacher": teacher}, size, where)
