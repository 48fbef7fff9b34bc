"""CompRess, with its queues as explicit memory."""

from collections.abc import Callable
from typing import Any

from mmkd_jax.arguments import held
from mmkd_jax.losses.contrastive.compress import compress as similarities
from mmkd_jax.losses.number import Count, Number, Positive
from mmkd_jax.methods import queues
from mmkd_jax.objective import Objective, term


@held
def compress(
    size: Count = 128_000,
    *,
    student: str = "student.embedding",
    teacher: str = "teacher.embedding",
    anchors: str | None = "student.embedding",
    connect: Any = None,
    temperature: Positive = 0.04,
    weight: Number | Callable = 1.0,
    where: str | tuple[str, ...] | None = None,
) -> Objective:
    """CompRess: the teacher's similarities to the examples seen last, with a queue for each model or one for both.

    Formula: KL(softmax_k(⟨t, a_k⟩ / τ) ‖ softmax_k(⟨s, b_k⟩ / τ)), a the teacher's queue, b the student's, or a again;
        after use, the batch's embeddings take the places of the oldest

    Args:
        size: rows of a queue.
        student: path of the student's embedding.
        teacher: path of the teacher's embedding.
        anchors: path of what enters the student's queue: its own embedding, or that of its moving average, as the
            authors have it; None is the variant of one queue, in which the student is compared with the teacher's rows.
        connect: for one queue, a Linen module that brings the student to the teacher's width.
        temperature: τ.
        weight: of the term, a number or a schedule.
        where: mask(s) of the batch; rows that do not count do not enter a queue.

    Returns:
        An objective whose memory holds the queues, the same on all devices.

    Topic: contrastive
    Compares: embeddings, by their similarities to other examples
    Extra: one or two queues; for one, a connector where the widths differ
    Source: Koohpayegani et al., CompRess: Self-Supervised Learning by Compressing Representations, 2020,
        https://arxiv.org/abs/2010.14713
    Differs: the queues begin with random directions, the authors' with random rows that are shorter than 1

    Example:
        >>> two = compress(4_096, anchors="average.embedding")
        >>> one = compress(4_096, anchors=None)
    """
    kept = {"teacher": teacher} | ({} if anchors is None else {"student": anchors})
    loss = term(
        similarities,
        student=student,
        teacher=teacher,
        keys=f"queued.{'teacher' if anchors is None else 'student'}",
        teacher_keys="queued.teacher",
        connect={} if connect is None else {"student": connect},
        temperature=temperature,
        weight=weight,
        where=where,
    )
    return queues.beside("compress", loss, kept, size, where)
