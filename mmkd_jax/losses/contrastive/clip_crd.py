"""Contrastive relational distillation of CLIP models."""

from jaxtyping import Array, Bool, Float

from mmkd_jax.losses.checked import checked
from mmkd_jax.losses.contrastive.distributions import directions, log_affinities, partners
from mmkd_jax.losses.number import Positive
from mmkd_jax.losses.numeric import divergence


@checked
def clip_crd(
    student: tuple[Float[Array, "b d"], Float[Array, "b d"]],
    teacher: tuple[Float[Array, "b e"], Float[Array, "b e"]],
    *,
    temperature: Positive = 0.07,
    teacher_temperature: Positive = 0.01,
    where: Bool[Array, " b"] | None = None,
    axis: str | None = None,
) -> Float[Array, " b"]:
    """Contrastive relational distillation (CRD of CLIP-KD): the teacher's image–text similarities as distributions.

    Formula: ½ KL(p ‖ q) + ½ KL(p' ‖ q'), p_i = softmax_j(cos(image_i, text_j) / τ_t) of the teacher, q of the student
        with τ_s; p', q' from text to image

    Args:
        student: image and text embeddings, both [b, d].
        teacher: image and text embeddings, both [b, e].
        temperature: τ_s > 0, the student's, 1 / its logit scale.
        teacher_temperature: τ_t > 0, the teacher's.
        where: rows that count, [b]; the others are no partners either.
        axis: the device axis in the per-device forms.

    Returns:
        Values [b].

    Compares: similarities of images and texts
    Extra: none
    Source: Yang et al., CLIP-KD: An Empirical Study of CLIP Model Distillation, 2024,
        https://arxiv.org/abs/2307.12732
    Differs: not the CRD of Tian et al. (methods.crd); in the authors' code τ_s is the student's own, learned

    Example:
        >>> import jax.numpy as jnp
        >>> x = jnp.eye(2)
        >>> clip_crd((x, x), (2 * x, 2 * x), temperature=0.1, teacher_temperature=0.1)
        Array([0., 0.], dtype=float32)
    """
    mask, (image, text, to_image, to_text) = directions((*student, *teacher), where)
    allowed, _ = partners(mask, axis)

    def towards(ours, theirs):
        q = log_affinities(ours[0], ours[1], temperature, allowed, axis)
        return divergence(log_affinities(theirs[0], theirs[1], teacher_temperature, allowed, axis), q)

    return (towards((image, text), (to_image, to_text)) + towards((text, image), (to_text, to_image))) / 2
