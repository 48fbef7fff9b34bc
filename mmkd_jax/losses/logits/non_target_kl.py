"""Knowledge distillation of the classes that are not the label."""

from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Integer

from mmkd_jax.losses.checked import checked
from mmkd_jax.losses.logits.target import target_apart
from mmkd_jax.losses.number import Positive
from mmkd_jax.losses.numeric import at_least_float32, divergence, log_softmax, softened, squared


@checked
def non_target_kl(
    student: Float[Array, "*n c"],
    teacher: Float[Array, "*n c"],
    labels: Integer[Array, "*n"],
    *,
    target: Literal["removed", "zero"] = "removed",
    temperature: Positive = 1.0,
) -> Float[Array, "*n"]:
    """KL between the distributions over the classes other than the label: what C2KD lets pass between modalities.

    Formula: T² KL(p̂ ‖ q̂), p̂ and q̂ softmax(t / T) and softmax(s / T) without class y; target="zero": with 0 as y's logit

    Args:
        student: logits s, [..., c].
        teacher: logits t, [..., c].
        labels: y, [...].
        target: the label's class is "removed", or stays with the logit "zero" in both.
        temperature: T > 0, a number or one per example.

    Returns:
        Values [...], with the factor T². With two classes and the target removed they are 0. A class at −inf in both
        counts as removed; at −inf in the student only, where the teacher has probability, the value is +inf.

    Compares: logits, labels
    Extra: none
    Source: Huo et al., C2KD: Bridging the Modality Gap for Cross-Modal Knowledge Distillation, 2024,
        https://openreview.net/forum?id=DokVWcKlyc
    Differs: the authors' code has target="zero"; it takes T = 1

    Example:
        >>> non_target_kl(jnp.array([[9.0, 1.0, 2.0]]), jnp.array([[0.0, 1.0, 2.0]]), jnp.array([0]))
        Array([0.], dtype=float32)
    """
    student, teacher = at_least_float32(student, teacher)

    def others(x):
        if target == "removed":
            return target_apart(softened(x, temperature), labels)[1]
        own = jax.nn.one_hot(labels, x.shape[-1], dtype=jnp.bool_)
        return log_softmax(softened(jnp.where(own, 0, x), temperature))

    return squared(temperature, student) * divergence(others(teacher), others(student))
