"""Score distillation within one modality."""

from jaxtyping import Array, Bool, Float

from mmkd_jax.losses.checked import checked
from mmkd_jax.losses.contrastive.distributions import directions, log_affinities, partners
from mmkd_jax.losses.number import Positive
from mmkd_jax.losses.numeric import divergence


@checked
def dime_unimodal(
    student: Float[Array, "b d"],
    teacher: Float[Array, "b e"],
    *,
    temperature: Positive = 0.07,
    where: Bool[Array, " b"] | None = None,
    axis: str | None = None,
) -> Float[Array, " b"]:
    """Uni-modal score distillation (DIME-FM): similarities within one modality, images or texts.

    Formula: 2 KL(p ‖ q), p_i = softmax_j(cos(t_i, t_j) / τ), q_i = softmax_j(cos(s_i, s_j) / τ)

    Args:
        student: embeddings s, [b, d].
        teacher: embeddings t, [b, e].
        temperature: τ > 0 of both.
        where: rows that count, [b]; the others are no partners either.
        axis: the device axis in the per-device forms.

    Returns:
        Values [b].

    Compares: relations of rows
    Extra: none
    Source: Sun et al., DIME-FM: DIstilling Multimodal and Efficient Foundation Models, 2023,
        https://arxiv.org/abs/2303.18232
    Differs: the factor 2 is that of the authors' code, where the scores and their transpose count

    Example:
        >>> import jax.numpy as jnp
        >>> x = jnp.eye(2)
        >>> dime_unimodal(x, 2 * x)
        Array([0., 0.], dtype=float32)
    """
    mask, (student, teacher) = directions((student, teacher), where)
    allowed, _ = partners(mask, axis)
    p = log_affinities(teacher, teacher, temperature, allowed, axis)
    return 2 * divergence(p, log_affinities(student, student, temperature, allowed, axis))
