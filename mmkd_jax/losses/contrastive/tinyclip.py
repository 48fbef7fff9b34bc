"""Affinity mimicking."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from mmkd_jax.losses.checked import checked
from mmkd_jax.losses.contrastive.distributions import directions, log_affinities, partners
from mmkd_jax.losses.number import Positive
from mmkd_jax.losses.numeric import cross


@checked
def tinyclip(
    student: tuple[Float[Array, "b d"], Float[Array, "b d"]],
    teacher: tuple[Float[Array, "b e"], Float[Array, "b e"]],
    *,
    temperature: Positive = 0.02,
    teacher_temperature: Positive = 0.02,
    where: Bool[Array, " b"] | None = None,
    axis: str | None = None,
) -> Float[Array, " b"]:
    """Affinity mimicking (TinyCLIP): cross-entropy with the teacher's image–text affinities.

    Formula: ½ CE(p, q) + ½ CE(p', q'), p_i = softmax_j(cos(image_i, text_j) / τ_t) of the teacher, q of the student
        with τ_s; p', q' from text to image

    Args:
        student: image and text embeddings, both [b, d].
        teacher: image and text embeddings, both [b, e].
        temperature: τ_s > 0; the authors' 1 / 50 is the lower end of the logit scales that they allow.
        teacher_temperature: τ_t > 0.
        where: rows that count, [b]; the others are no partners either.
        axis: the device axis in the per-device forms.

    Returns:
        Values [b]; not 0 for a student equal to its teacher: the teacher's entropy.

    Compares: similarities of images and texts
    Extra: none
    Source: Wu et al., TinyCLIP: CLIP Distillation via Affinity Mimicking and Weight Inheritance, 2023,
        https://arxiv.org/abs/2309.12314

    Example:
        >>> x = jnp.eye(2)
        >>> [f"{v:.4f}" for v in tinyclip((x, x), (x, x), temperature=1.0, teacher_temperature=1.0)]
        ['0.5822', '0.5822']
    """
    mask, (image, text, to_image, to_text) = directions((*student, *teacher), where)
    allowed, _ = partners(mask, axis)

    def towards(ours, theirs):
        p = jnp.exp(log_affinities(theirs[0], theirs[1], teacher_temperature, allowed, axis))
        return cross(p, log_affinities(ours[0], ours[1], temperature, allowed, axis))

    return (towards((image, text), (to_image, to_text)) + towards((text, image), (to_text, to_image))) / 2
