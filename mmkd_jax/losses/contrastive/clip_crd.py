"""Contrastive relational distillation (CRD) of CLIP-KD."""

from jaxtyping import Array, Bool, Float

from mmkd_jax.losses.contrastive._distributions import candidates, log_affinities, normalized_rows
from mmkd_jax.numeric import divergence
from mmkd_jax.typing import Positive
from mmkd_jax.validation import validated


@validated
def clip_crd(
    student: tuple[Float[Array, "b d"], Float[Array, "b d"]],
    teacher: tuple[Float[Array, "b e"], Float[Array, "b e"]],
    *,
    temperature: Positive = 0.07,
    teacher_temperature: Positive = 0.01,
    where: Bool[Array, " b"] | None = None,
    axis_name: str | None = None,
) -> Float[Array, " b"]:
    """Contrastive relational distillation (CRD of CLIP-KD): KL between image–text similarity distributions.

    Formula: ½ KL(p ‖ q) + ½ KL(p' ‖ q'), p_i = softmax_j(cos(image_i, text_j) / τ_t) of the teacher, q of the student
        with τ_s; p', q' from text to image

    Args:
        student: image and text embeddings, both [b, d].
        teacher: image and text embeddings, both [b, e].
        temperature: τ_s > 0, the student's temperature: 1 / its logit scale.
        teacher_temperature: τ_t > 0, the teacher's temperature.
        where: mask of valid rows, [b]; invalid rows are not candidates either.
        axis_name: mapped device axis, as in `jax.lax.psum`, inside `shard_map` or `pmap`; otherwise None.

    Returns:
        Per-example loss, [b].

    Compares: image–text similarities
    Extra: none
    Source: Yang et al., CLIP-KD: An Empirical Study of CLIP Model Distillation, 2024,
        https://arxiv.org/abs/2307.12732
    Differs: not the CRD of Tian et al. (methods.crd); in the authors' code τ_s is learned by the student

    Example:
        >>> import jax.numpy as jnp
        >>> x = jnp.eye(2)
        >>> clip_crd((x, x), (2 * x, 2 * x), temperature=0.1, teacher_temperature=0.1)
        Array([0., 0.], dtype=float32)
    """
    mask, (image, text, to_image, to_text) = normalized_rows((*student, *teacher), where)
    allowed, _ = candidates(mask, axis_name)

    def one_way(ours, theirs):
        q = log_affinities(ours[0], ours[1], temperature, allowed, axis_name)
        return divergence(log_affinities(theirs[0], theirs[1], teacher_temperature, allowed, axis_name), q)

    return (one_way((image, text), (to_image, to_text)) + one_way((text, image), (to_text, to_image))) / 2
