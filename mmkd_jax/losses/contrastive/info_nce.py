"""InfoNCE."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from mmkd_jax.losses.checked import checked
from mmkd_jax.losses.contrastive.distributions import directions, log_affinities, of_own, partners
from mmkd_jax.losses.contrastive.ring import LOG_SUM_EXP, totals
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
        ring: never hold the similarities of all, but compare a few rows at a time, and on the way back again. In the
            per-device forms the teacher's rows travel from device to device. The same value and gradient, reverse mode
            only, and once.
        where: rows that count, [b]; the others are no negatives either.
        axis: the device axis in the per-device forms.

    Returns:
        Values [b].

    Compares: embeddings
    Extra: usually a connector
    Source: van den Oord et al., Representation Learning with Contrastive Predictive Coding, 2018,
        https://arxiv.org/abs/1807.03748

    Example:
        >>> x = jnp.eye(2)
        >>> [f"{v:.4f}" for v in info_nce(x, x, temperature=1.0)]
        ['0.3133', '0.3133']
    """
    mask, (student, teacher) = directions((student, teacher), where)
    if ring:
        student, nothing = student / like(temperature, student), jnp.zeros((), student.dtype)
        rows, columns = totals(LOG_SUM_EXP, symmetric, axis, student, teacher, mask, nothing)
        matched = jnp.sum(student * teacher, -1)
        values = jax.nn.softplus(rows - matched)  # of the others, so that a near perfect match keeps its digits
        return values if columns is None else (values + jax.nn.softplus(columns - matched)) / 2
    allowed, own = partners(mask, axis)

    def towards(anchor, others):
        return of_own(log_affinities(anchor, others, temperature, allowed, axis), own)

    values = towards(student, teacher)
    return (values + towards(teacher, student)) / 2 if symmetric else values
