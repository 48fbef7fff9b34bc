"""Gradient distillation (GD) of CLIP-KD."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from mmkd_jax.collectives import gather, summed
from mmkd_jax.losses.contrastive._distributions import candidates, log_affinities, normalized_rows
from mmkd_jax.numeric import like, mean_square, zero_rows
from mmkd_jax.typing import Positive
from mmkd_jax.validation import validated


@validated
def clip_gd(
    student: tuple[Float[Array, "b d"], Float[Array, "b d"]],
    teacher: tuple[Float[Array, "b d"], Float[Array, "b d"]],
    *,
    temperature: Positive = 0.07,
    teacher_temperature: Positive = 0.01,
    where: Bool[Array, " b"] | None = None,
    axis_name: str | None = None,
) -> Float[Array, " b"]:
    """Gradient distillation (GD of CLIP-KD): MSE between contrastive-loss gradients at the embeddings.

    Formula: (1 / d) Σ ‖∂L_s / ∂x_i − ∂L_t / ∂x_i‖² over four gradients: of the mean of −log softmax(image · text / τ)_i
        with respect to images and to texts, and likewise from text to image

    Args:
        student: image and text embeddings, both [b, d]; L2-normalized first.
        teacher: image and text embeddings, both [b, d]; if the widths differ, add a connector to the student.
        temperature: τ > 0 of the student's loss.
        teacher_temperature: τ > 0 of the teacher's loss.
        where: mask of valid rows, [b]; invalid rows are not candidates either.
        axis_name: mapped device axis, as in `jax.lax.psum`, inside `shard_map` or `pmap`; otherwise None.

    Returns:
        Per-example loss, [b]; the gradients include the factor 1 / batch size.

    Compares: gradients at the embeddings of images and texts
    Extra: a connector if the widths differ
    Source: Yang et al., CLIP-KD: An Empirical Study of CLIP Model Distillation, 2024,
        https://arxiv.org/abs/2307.12732
    Differs: the authors' code divides by the logit scale where the formula divides by τ = 1 / scale, and its weight 1e8
        refers to that; to reproduce it, pass the scales as temperatures

    Example:
        >>> x = jnp.eye(2)
        >>> clip_gd((x, x), (2 * x, x), temperature=0.1, teacher_temperature=0.1)
        Array([0., 0.], dtype=float32)
    """
    mask, (image, text, to_image, to_text) = normalized_rows((*student, *teacher), where)
    allowed, positive = candidates(mask, axis_name)
    all_valid, _ = gather(mask, axis_name)
    count = jnp.maximum(jnp.sum(all_valid), 1).astype(image.dtype)
    target = (positive[:, None] == jnp.arange(len(all_valid))[None, :]).astype(image.dtype)

    def gradients(anchor, others, t):
        """Gradients, with respect to anchors and others, of the mean over valid rows."""
        error = jnp.exp(log_affinities(anchor, others, t, allowed, axis_name)) - target
        error = zero_rows(error, mask) / (like(t, anchor[0, 0]) * count)
        by_anchor = jnp.matmul(error, gather(others, axis_name)[0], precision="highest")
        by_others = summed(jnp.matmul(error.T, anchor, precision="highest"), axis_name)  # over the rows of all devices
        return by_anchor, jnp.take(by_others, positive, 0)

    ours = gradients(image, text, temperature) + gradients(text, image, temperature)
    theirs = gradients(to_image, to_text, teacher_temperature) + gradients(to_text, to_image, teacher_temperature)
    return sum((mean_square(a - b) for a, b in zip(ours, theirs, strict=True)), jnp.zeros_like(count))
