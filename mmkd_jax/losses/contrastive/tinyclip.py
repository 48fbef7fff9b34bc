"""Affinity mimicking of TinyCLIP."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from mmkd_jax.losses.contrastive._distributions import candidates, log_affinities, normalized_rows
from mmkd_jax.numeric import cross
from mmkd_jax.typing import Positive
from mmkd_jax.validation import validated


@validated
def tinyclip(
    student: tuple[Float[Array, "b d"], Float[Array, "b d"]],
    teacher: tuple[Float[Array, "b e"], Float[Array, "b e"]],
    *,
    temperature: Positive = 0.02,
    teacher_temperature: Positive = 0.02,
    where: Bool[Array, " b"] | None = None,
    axis_name: str | None = None,
) -> Float[Array, " b"]:
    """Affinity mimicking (TinyCLIP): cross-entropy with the teacher's image–text affinities.

    Formula: ½ CE(p, q) + ½ CE(p', q'), p_i = softmax_j(cos(image_i, text_j) / τ_t) of the teacher, q of the student
        with τ_s; p', q' from text to image

    Args:
        student: image and text embeddings, both [b, d].
        teacher: image and text embeddings, both [b, e].
        temperature: τ_s > 0; the authors' 1 / 50 is at the lower end of the logit scales they allow.
        teacher_temperature: τ_t > 0.
        where: mask of valid rows, [b]; invalid rows are not candidates either.
        axis_name: mapped device axis, as in `jax.lax.psum`, inside `shard_map` or `pmap`; otherwise None.

    Returns:
        Per-example loss, [b]; equals the teacher's entropy, not 0, if the student equals the teacher.

    Compares: image–text similarities
    Extra: none
    Source: Wu et al., TinyCLIP: CLIP Distillation via Affinity Mimicking and Weight Inheritance, 2023,
        https://arxiv.org/abs/2309.12314

    Example:
        >>> x = jnp.eye(2)
        >>> [f"{v:.4f}" for v in tinyclip((x, x), (x, x), temperature=1.0, teacher_temperature=1.0)]
        ['0.5822', '0.5822']
    """
    mask, (image, text, to_image, to_text) = normalized_rows((*student, *teacher), where)
    allowed, _ = candidates(mask, axis_name)

    def one_way(ours, theirs):
        p = jnp.exp(log_affinities(theirs[0], theirs[1], teacher_temperature, allowed, axis_name))
        return cross(p, log_affinities(ours[0], ours[1], temperature, allowed, axis_name))

    return (one_way((image, text), (to_image, to_text)) + one_way((text, image), (to_text, to_image))) / 2
