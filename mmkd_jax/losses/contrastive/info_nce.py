"""InfoNCE."""

from jaxtyping import Array, Bool, Float

from mmkd_jax.losses.checked import checked
from mmkd_jax.losses.contrastive import ring as in_a_ring
from mmkd_jax.losses.contrastive.distributions import directions, log_affinities, of_own, partners
from mmkd_jax.losses.number import Positive
from mmkd_jax.losses.numeric import like


@checked
def info_nce(
    student: Float[Array, "b d"],
    teacher: Float[Array, "b d"],
    *,
    temperature: Positive = 0.07,
    symmetric: bool = False,
    ring: bool = False,
    where: Bool[Array, " b"] | None = None,
    axis: str | None = None,
) -> Float[Array, " b"]:
    """Tell a row's teacher embedding from those of the other rows.

    Formula: −log softmax_j(cos(s_i, t_j) / τ)_i; symmetric: its mean with the same, s and t exchanged

    Args:
        student: embeddings s, [b, d].
        teacher: embeddings t, [b, d].
        temperature: τ > 0.
        symmetric: both directions, as in CLIP.
        ring: in the per-device forms, let rows travel from device to device: none holds the similarities of all. The
            same value and gradient, reverse mode only; elsewhere it changes nothing.
        where: rows that count, [b]; the others are no negatives either.
        axis: the device axis in the per-device forms.

    Returns:
        Values [b].

    Compares: embeddings
    Extra: usually a connector
    Source: van den Oord et al., Representation Learning with Contrastive Predictive Coding, 2018,
        https://arxiv.org/abs/1807.03748

    Example:
        >>> import jax.numpy as jnp
        >>> x = jnp.eye(2)
        >>> [f"{v:.4f}" for v in info_nce(x, x, temperature=1.0)]
        ['0.3133', '0.3133']
    """
    mask, (student, teacher) = directions((student, teacher), where)
    if ring and axis is not None:
        return in_a_ring.nce(student, teacher, like(temperature, student[0, 0]), mask, symmetric, axis)
    allowed, own = partners(mask, axis)

    def towards(anchor, others):
        return of_own(log_affinities(anchor, others, temperature, allowed, axis), own)

    values = towards(student, teacher)
    return (values + towards(teacher, student)) / 2 if symmetric else values
