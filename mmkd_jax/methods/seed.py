"""SEED, with its queue as explicit memory."""

from collections.abc import Callable
from typing import Any

from mmkd_jax.arguments import held
from mmkd_jax.losses.contrastive.seed import seed as scores
from mmkd_jax.losses.number import Count, Number, Positive
from mmkd_jax.methods import queues
from mmkd_jax.objective import Objective, term


@held
def seed(
    size: Count = 65_536,
    *,
    student: str = "student.embedding",
    teacher: str = "teacher.embedding",
    connect: Any = None,
    temperature: Positive = 0.2,
    teacher_temperature: Positive = 0.01,
    weight: Number | Callable = 1.0,
    where: str | tuple[str, ...] | None = None,
) -> Objective:
    """SEED: the teacher's similarity scores over a queue of its embeddings and the row's own.

    Formula: −Σ_k p_k log q_k, p = softmax_k(⟨t, a_k⟩ / τ_t), q = softmax_k(⟨s, a_k⟩ / τ_s), a = (t, the queue); after
        use, the batch's t take the places of the oldest

    Args:
        size: rows of the queue.
        student: path of the student's embedding.
        teacher: path of the teacher's embedding.
        connect: a Linen module that brings the student to the teacher's width.
        temperature: τ_s.
        teacher_temperature: τ_t.
        weight: of the term, a number or a schedule.
        where: mask(s) of the batch; rows that do not count do not enter the queue.

    Returns:
        An objective whose memory holds the queue, the same on all devices.

    Topic: contrastive
    Compares: embeddings, by their similarities to other examples
    Extra: a queue; a connector where the widths differ
    Source: Fang et al., SEED: Self-supervised Distillation For Visual Representation, 2021,
        https://arxiv.org/abs/2101.04731
    Differs: the queue's size need not be a multiple of the batch's, as in the authors' code, which has τ_t = 1e-4

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
    return queues.beside("seed", loss, {"teacher": teacher}, size, where)
