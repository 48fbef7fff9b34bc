"""Gradient distillation."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from mmkd_jax.losses.checked import checked
from mmkd_jax.losses.contrastive.distributions import directions, log_affinities, partners
from mmkd_jax.losses.gather import gather, summed
from mmkd_jax.losses.number import Positive
from mmkd_jax.losses.numeric import like, mean_square, zero_rows


@checked
def clip_gd(
    student: tuple[Float[Array, "b d"], Float[Array, "b d"]],
    teacher: tuple[Float[Array, "b d"], Float[Array, "b d"]],
    *,
    temperature: Positive = 0.07,
    teacher_temperature: Positive = 0.01,
    where: Bool[Array, " b"] | None = None,
    axis: str | None = None,
) -> Float[Array, " b"]:
    """Gradient distillation (GD of CLIP-KD): gradients of the contrastive loss by the embeddings.

    Formula: (1 / d) Σ ‖∂L_s / ∂x_i − ∂L_t / ∂x_i‖² over four gradients: of the mean of −log softmax(image · text / τ)_i
        by images and by texts, and of the same from text to image

    Args:
        student: image and text embeddings, both [b, d]; they are made of length 1 first.
        teacher: image and text embeddings, both [b, d]; for another width connect the student.
        temperature: τ of the student's loss, > 0.
        teacher_temperature: τ of the teacher's loss, > 0.
        where: rows that count, [b]; the others are no partners either.
        axis: the device axis in the per-device forms.

    Returns:
        Values [b]; the gradients hold the factor 1 / rows of the batch.

    Compares: gradients at the embeddings of images and texts
    Extra: a connector for unlike widths
    Source: Yang et al., CLIP-KD: An Empirical Study of CLIP Model Distillation, 2024,
        https://arxiv.org/abs/2307.12732
    Differs: the authors' code divides by the logit scale where its formula divides by τ, which is 1 / the scale; the
        weight 1e8 belongs to that: give the scales as temperatures for what it computes

    Example:
        >>> x = jnp.eye(2)
        >>> clip_gd((x, x), (2 * x, x), temperature=0.1, teacher_temperature=0.1)
        Array([0., 0.], dtype=float32)
    """
    mask, (image, text, to_image, to_text) = directions((*student, *teacher), where)
    allowed, own = partners(mask, axis)
    everyone, _ = gather(mask, axis)
    count = jnp.maximum(jnp.sum(everyone), 1).astype(image.dtype)
    right = (own[:, None] == jnp.arange(len(everyone))[None, :]).astype(image.dtype)

    def slopes(anchor, others, t):
        """By the anchors and by the others, of the mean over the rows that count."""
        wrong = jnp.exp(log_affinities(anchor, others, t, allowed, axis)) - right
        wrong = zero_rows(wrong, mask) / (like(t, anchor[0, 0]) * count)
        by_anchor = jnp.matmul(wrong, gather(others, axis)[0], precision="highest")
        by_others = summed(jnp.matmul(wrong.T, anchor, precision="highest"), axis)  # of the rows of all devices
        return by_anchor, jnp.take(by_others, own, 0)

    ours = slopes(image, text, temperature) + slopes(text, image, temperature)
    theirs = slopes(to_image, to_text, teacher_temperature) + slopes(to_text, to_image, teacher_temperature)
    return sum((mean_square(a - b) for a, b in zip(ours, theirs, strict=True)), jnp.zeros_like(count))
