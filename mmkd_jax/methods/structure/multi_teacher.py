"""Multi-teacher distillation with per-example teacher weights."""

from collections.abc import Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from mmkd_jax.core.masking import fill
from mmkd_jax.core.objective import Objective, term
from mmkd_jax.errors import UserError, choices
from mmkd_jax.losses.logits.cross_entropy import cross_entropy
from mmkd_jax.losses.logits.kl import kl
from mmkd_jax.numeric import at_least_float32, divergence, expected, finite, log_softmax, weighed
from mmkd_jax.typing import Positive, Scalar
from mmkd_jax.validation import validated


@validated
def multi_teacher(
    teachers: tuple[str, ...] | Mapping[str, str | None],
    *,
    by: Literal["mean", "confidence", "entropy", "agreement"] = "mean",
    student: str = "student.logits",
    output: str = "logits",
    labels: str = "batch.label",
    temperature: Positive = 1.0,
    weight: Scalar = 1.0,
    where: str | tuple[str, ...] | None = None,
) -> Objective:
    """Multi-teacher distillation with per-example teacher weights: mean, confidence, entropy or agreement.

    Formula: Σ_k w_ik T² KL(p_k ‖ q), w over the K teachers available for the row: mean: 1 / K; confidence:
        (1 − e^CE_k / Σ_l e^CE_l) / (K − 1); entropy: ∝ e^−H(p_k); agreement: ∝ e^−KL(p_k ‖ mean p)

    The teacher weights get no gradient. With equal weights the gradient is that of the KL to the teachers' mean
    probabilities.

    Args:
        teachers: names of the teachers; or a dict teacher -> batch mask of the rows on which it is used (None: all
            rows), such as {"hears": "present.audio", "sees": "present.image"} for unimodal teachers.
        by: weighting of the teachers; "confidence" reads labels, which all rows under `where` must have.
        student: path of the student's logits [b, c].
        output: name of the teachers' logits [b, c].
        labels: path of the class labels; read by "confidence" only.
        temperature: T of the KL; the teacher weights are computed at temperature 1.
        weight: loss weight.
        where: batch mask(s) of the rows that count; rows without an available teacher do not count.

    Returns:
        A parameter-free objective.

    Raises:
        UserError: `teachers` is empty.

    Topic: structure
    Compares: logits of the student and of several teachers
    Extra: several teachers; confidence: labels
    Source: Zhang et al., Confidence-Aware Multi-Teacher Knowledge Distillation, 2022, https://arxiv.org/abs/2201.00007
    Differs: "confidence" is the paper's weight, without its feature term (the authors' code divides the sum by K once
        more); "mean" is from You et al. 2017; "entropy" and "agreement" are label-free variants of this library

    Example:
        >>> both = multi_teacher({"hears": "present.audio", "sees": "present.image"}, by="entropy")
    """
    masks = dict(teachers) if isinstance(teachers, Mapping) else dict.fromkeys(teachers)
    if not masks:
        raise UserError("multi_teacher: teachers is empty; give names of models, such as ('one', 'two')")

    def soft_loss(
        student: Float[Array, "*n c"],
        teacher: tuple[Float[Array, "*n c"], ...],
        available: Bool[Array, "k b"],
        labels: Int[Array, "*n"] | None = None,
        *,
        temperature: Positive,
    ) -> Float[Array, "*n"]:
        teacher = tuple(fill(t, there) for t, there in zip(teacher, available, strict=True))
        shares = weights(jnp.stack(teacher), available, by, labels)
        each = jnp.stack([kl(student, t, temperature=temperature) for t in teacher])
        return jnp.sum(jnp.where(available, weighed(jax.lax.stop_gradient(shares), each), 0), 0)

    label_args: dict[str, Any] = {"labels": labels} if by == "confidence" else {}
    soft = term(
        soft_loss,
        student=student,
        teacher=tuple(f"{name}.{output}" for name in masks),
        available="teachers.available",
        temperature=temperature,
        weight=weight,
        where=where,
        **label_args,
    )

    def add_availability(outputs):
        for name, mask in masks.items():
            if mask is not None and mask not in outputs.batch:
                raise UserError(
                    f"multi_teacher: teacher {name!r} uses the mask {mask!r}, which is not in the batch; it has: "
                    f"{choices(outputs.batch)}"
                )
        rows = len(outputs[student])
        teacher_masks = [jnp.ones(rows, bool) if m is None else outputs["batch." + m] for m in masks.values()]
        return outputs.add(teachers={"available": jnp.stack(teacher_masks)})

    def apply(params, state, outputs):
        outputs = add_availability(outputs)
        out, state = soft.apply(params, state, outputs)
        any_available = jnp.any(outputs["teachers.available"], 0)
        return out._replace(where=any_available if out.where is None else out.where & any_available), state

    return Objective(lambda outputs: soft.init(add_availability(outputs)), apply)


def weights(
    teachers: Float[Array, "k b c"],
    available: Bool[Array, "k b"],
    by: str,
    labels: Int[Array, " b"] | None = None,
) -> Float[Array, "k b"]:
    """Return the share of each available teacher on each row.

    Example:
        >>> sure, unsure = jnp.array([[9.0, 0.0]]), jnp.array([[0.0, 0.0]])
        >>> available = jnp.ones((2, 1), bool)
        >>> [f"{w:.3f}" for w in weights(jnp.stack([sure, unsure]), available, "entropy")[:, 0]]
        ['0.666', '0.334']
    """
    (teachers,) = at_least_float32(teachers)
    count = jnp.maximum(jnp.sum(available, 0), 1).astype(teachers.dtype)
    if by == "mean":
        return jnp.where(available, 1 / count, 0)
    logp = log_softmax(teachers)
    if by == "confidence" and labels is not None:
        ce = jnp.where(available, cross_entropy(teachers, jnp.broadcast_to(labels, available.shape)), -jnp.inf)
        # teachers with an infinite cross-entropy share all of the softmax below
        infinite = jnp.isposinf(ce)
        ce = jnp.where(jnp.any(infinite, 0), jnp.where(infinite, 0, -jnp.inf), ce)
        share = (1 - jax.nn.softmax(jnp.where(jnp.any(available, 0), ce, 0), 0)) / jnp.maximum(count - 1, 1)
        return jnp.where(available, jnp.where(count > 1, share, 1), 0)
    p = jnp.exp(logp)
    if by == "entropy":
        uncertainty = -expected(p, finite(logp))
    else:
        mean = jnp.sum(jnp.where(available[..., None], p, 0), 0) / count[..., None]
        uncertainty = divergence(logp, jnp.broadcast_to(jnp.log(jnp.where(mean > 0, mean, 1)), logp.shape))
    trust = jnp.where(available, -uncertainty, -jnp.inf)
    return jnp.where(available, jax.nn.softmax(jnp.where(jnp.any(available, 0), trust, 0), 0), 0)
