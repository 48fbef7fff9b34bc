"""The sigmoid loss of SigLIP."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from mmkd_jax.losses.checked import checked
from mmkd_jax.losses.contrastive.distributions import directions, partners
from mmkd_jax.losses.contrastive.ring import SUM_SOFTPLUS, totals
from mmkd_jax.losses.gather import gather
from mmkd_jax.losses.number import Number, Positive
from mmkd_jax.losses.numeric import inner, like


@checked
def siglip(
    student: Float[Array, "b d"],
    teacher: Float[Array, "b d"],
    *,
    temperature: Positive = 0.1,
    bias: Number = -10.0,
    ring: bool = False,
    where: Bool[Array, " b"] | None = None,
    axis: str | None = None,
) -> Float[Array, " b"]:
    """Say of each pair of a student's and a teacher's embedding, by itself, whether both are of one row.

    Formula: Σ_j −log σ(z_ij (cos(s_i, t_j) / τ + β)), z_ii = 1, z_ij = −1

    Args:
        student: embeddings s, [b, d].
        teacher: embeddings t, [b, d].
        temperature: τ > 0; the paper's factor t is 1 / τ, and starts at 10.
        bias: β: most pairs are none, so it starts far below 0, at −10.
        ring: never hold the similarities of all, but compare a few rows at a time, and on the way back again. In the
            per-device forms the teacher's rows travel from device to device. The same value and gradient, reverse mode
            only, and once.
        where: rows that count, [b]; the others are no partners either.
        axis: the device axis in the per-device forms.

    Returns:
        Values [b], of a row's pairs with all; their mean is the paper's sum over all pairs ÷ b.

    Compares: embeddings
    Extra: usually a connector; temperature and bias are learned in the paper: give them as paths of outputs
    Source: Zhai et al., Sigmoid Loss for Language Image Pre-Training, 2023, https://arxiv.org/abs/2303.15343

    Example:
        >>> x = jnp.eye(2)
        >>> [f"{v:.4f}" for v in siglip(x, x, temperature=1.0, bias=0.0)]
        ['1.0064', '1.0064']
    """
    mask, (student, teacher) = directions((student, teacher), where)
    student, bias = student / like(temperature, student), like(bias, student)
    if ring:
        rows, _ = totals(SUM_SOFTPLUS, False, axis, student, teacher, mask, bias)
        return rows + jax.nn.softplus(-jnp.sum(student * teacher, -1) - bias)
    allowed, own = partners(mask, axis)
    others, _ = gather(teacher, axis)
    logits = inner(student, others) + bias
    lost = jax.nn.softplus(jnp.where(own[:, None] == jnp.arange(len(others))[None], -logits, logits))
    return jnp.sum(jnp.where(allowed, lost, 0), -1)
