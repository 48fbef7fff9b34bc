"""Several teachers of one student, weighed for each example."""

from collections.abc import Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from mmkd_jax.arguments import held
from mmkd_jax.errors import UserError, choices
from mmkd_jax.losses.logits.cross_entropy import cross_entropy
from mmkd_jax.losses.logits.kl import kl
from mmkd_jax.losses.number import Number, Positive
from mmkd_jax.losses.numeric import at_least_float32, divergence, expected, finite, log_softmax, weighed
from mmkd_jax.objective import Objective, term


@held
def multi_teacher(
    teachers: tuple[str, ...] | Mapping[str, str | None],
    *,
    by: Literal["mean", "confidence", "entropy", "agreement"] = "mean",
    student: str = "student.logits",
    output: str = "logits",
    labels: str = "batch.label",
    temperature: Positive = 1.0,
    weight: Number = 1.0,
    where: str | tuple[str, ...] | None = None,
) -> Objective:
    """Follow several teachers, each as far as it is to be trusted on the example at hand.

    Formula: Σ_k w_ik T² KL(p_k ‖ q), w over the K teachers that are there: mean: 1 / K; confidence:
        (1 − e^CE_k / Σ_l e^CE_l) / (K − 1); entropy: ∝ e^−H(p_k); agreement: ∝ e^−KL(p_k ‖ mean p)

    Weights get no gradient. With equal ones the gradient is that of the KL to the teachers' mean probabilities.

    Args:
        teachers: names of the teachers; as a dict, each with the mask of the batch under which it may speak, such as
            {"hears": "present.audio", "sees": "present.image"}: teachers of one modality each.
        by: how they are weighed; "confidence" reads labels, which all rows under `where` must have.
        student: path of the student's logits [b, c].
        output: name of the teachers' logits [b, c].
        labels: path of the labels, of "confidence" alone.
        temperature: T of the KL; weights are found at 1.
        weight: of the term.
        where: mask(s) of the batch; a row counts where at least one teacher may speak.

    Returns:
        An objective without parameters.

    Raises:
        UserError: no teacher.

    Topic: structure
    Compares: logits with those of several teachers
    Extra: several teachers; confidence: labels
    Source: Zhang et al., Confidence-Aware Multi-Teacher Knowledge Distillation, 2022, https://arxiv.org/abs/2201.00007
    Differs: confidence is the paper's weight, without its term of features (the authors' code divides the sum by K once
        more); the mean is of You et al. 2017; entropy and
        agreement are forms without labels, and ours

    Example:
        >>> both = multi_teacher({"hears": "present.audio", "sees": "present.image"}, by="entropy")
    """
    masks = dict(teachers) if isinstance(teachers, Mapping) else dict.fromkeys(teachers)
    if not masks:
        raise UserError("multi_teacher: there is no teacher; give names of models, such as ('one', 'two')")

    def taught(student, teacher, there, labels=None, *, temperature: Positive):
        shares = weights(jnp.stack(teacher), there, by, labels)
        each = jnp.stack([kl(student, t, temperature=temperature) for t in teacher])
        return jnp.sum(jnp.where(there, weighed(jax.lax.stop_gradient(shares), each), 0), 0)

    own: dict[str, Any] = {"labels": labels} if by == "confidence" else {}
    soft = term(
        taught,
        student=student,
        teacher=tuple(f"{name}.{output}" for name in masks),
        there="teachers.there",
        temperature=temperature,
        weight=weight,
        where=where,
        **own,
    )

    def look(views):
        for name, mask in masks.items():
            if mask is not None and mask not in views.batch:
                raise UserError(
                    f"multi_teacher: {name!r} speaks under {mask!r}, which the batch lacks; it has: "
                    f"{choices(views.batch)}"
                )
        rows = len(views[student])
        there = [jnp.ones(rows, bool) if m is None else views["batch." + m] for m in masks.values()]
        return views.add(teachers={"there": jnp.stack(there)})

    def apply(params, memory, views):
        views = look(views)
        made, after = soft.apply(params, memory, views)
        heard = jnp.any(views["teachers.there"], 0)
        return made._replace(where=heard if made.where is None else made.where & heard), after

    return Objective(lambda views: soft.init(look(views)), apply)


def weights(
    teachers: Float[Array, "k b c"],
    there: Bool[Array, "k b"],
    by: str,
    labels: Int[Array, " b"] | None = None,
) -> Float[Array, "k b"]:
    """Each teacher's share on each row, of those that are there.

    Example:
        >>> sure, unsure = jnp.array([[9.0, 0.0]]), jnp.array([[0.0, 0.0]])
        >>> there = jnp.ones((2, 1), bool)
        >>> [f"{w:.3f}" for w in weights(jnp.stack([sure, unsure]), there, "entropy")[:, 0]]
        ['0.666', '0.334']
    """
    (teachers,) = at_least_float32(teachers)
    count = jnp.maximum(jnp.sum(there, 0), 1).astype(teachers.dtype)
    if by == "mean":
        return jnp.where(there, 1 / count, 0)
    logp = log_softmax(teachers)
    if by == "confidence" and labels is not None:
        wrong = jnp.where(there, cross_entropy(teachers, jnp.broadcast_to(labels, there.shape)), -jnp.inf)
        endless = jnp.isposinf(wrong)  # who rules the label out takes all the doubt; several share it
        wrong = jnp.where(jnp.any(endless, 0), jnp.where(endless, 0, -jnp.inf), wrong)
        share = (1 - jax.nn.softmax(jnp.where(jnp.any(there, 0), wrong, 0), 0)) / jnp.maximum(count - 1, 1)
        return jnp.where(there, jnp.where(count > 1, share, 1), 0)
    p = jnp.exp(logp)
    if by == "entropy":
        doubt = -expected(p, finite(logp))
    else:
        mean = jnp.sum(jnp.where(there[..., None], p, 0), 0) / count[..., None]
        doubt = divergence(logp, jnp.broadcast_to(jnp.log(jnp.where(mean > 0, mean, 1)), logp.shape))
    trust = jnp.where(there, -doubt, -jnp.inf)
    return jnp.where(there, jax.nn.softmax(jnp.where(jnp.any(there, 0), trust, 0), 0), 0)
