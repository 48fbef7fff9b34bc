"""CompRess with embedding queues."""

from collections.abc import Callable
from typing import Any

from mmkd_jax.core.objective import Objective, term
from mmkd_jax.losses.contrastive.compress import compress as similarities
from mmkd_jax.methods import _queue as queues
from mmkd_jax.typing import Count, Positive, Scalar
from mmkd_jax.validation import validated


@validated
def compress(
    size: Count = 128_000,
    *,
    student: str = "student.embedding",
    teacher: str = "teacher.embedding",
    anchors: str | None = "student.embedding",
    connect: Any = None,
    temperature: Positive = 0.04,
    weight: Scalar | Callable = 1.0,
    where: str | tuple[str, ...] | None = None,
) -> Objective:
    """CompRess: match the teacher's similarities to recent examples, with one queue per model or one shared queue.

    Formula: KL(softmax_k(⟨t, a_k⟩ / τ) ‖ softmax_k(⟨s, b_k⟩ / τ)), a the teacher's queue, b the student's, or a again;
        after use, the batch's embeddings replace the oldest entries

    Args:
        size: number of rows in a queue.
        student: path of the student's embedding.
        teacher: path of the teacher's embedding.
        anchors: path of the embedding pushed onto the student's queue: the student's, or that of its moving average, as
            in the authors' code. None uses the teacher's queue for both.
        connect: Linen module that projects the student to the teacher's width, for the single queue.
        temperature: τ.
        weight: loss weight, a number or a schedule.
        where: batch mask(s) of the rows that count; other rows do not enter a queue.

    Returns:
        An objective whose state has the queues, identical on all devices.

    Topic: contrastive
    Compares: embeddings, by their similarities to other examples
    Extra: one or two queues; with one, a connector if the widths differ
    Source: Koohpayegani et al., CompRess: Self-Supervised Learning by Compressing Representations, 2020,
        https://arxiv.org/abs/2010.14713
    Differs: the queues start with random unit vectors, the authors' with random rows shorter than 1

    Example:
        >>> two = compress(4_096, anchors="average.embedding")
        >>> one = compress(4_096, anchors=None)
    """
    queued = {"teacher": teacher} | ({} if anchors is None else {"student": anchors})
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
    return queues.with_queues("compress", loss, queued, size, where)
