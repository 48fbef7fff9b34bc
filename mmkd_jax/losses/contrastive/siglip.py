"""The sigmoid loss of SigLIP."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from mmkd_jax.losses.checked import checked
from mmkd_jax.losses.contrastive import ring as in_a_ring
from mmkd_jax.losses.gather import gather
from mmkd_jax.losses.number import Number, Positive
from mmkd_jax.losses.numeric import at_least_float32, inner, like, rows_that_count, unit, zero_rows


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
        temperature: τ > 0; the paper's t is 1 / τ.
        bias: β: most pairs are none, so it starts far below 0.
        ring: in the per-device forms, let rows travel from device to device: none holds the similarities of all. The
            same value and gradient, reverse mode only; elsewhere it changes nothing.
        where: rows that count, [b]; the others are no partners either.
        axis: the device axis in the per-device forms.

    Returns:
        Values [b], of a row's pairs with all.

    Compares: embeddings
    Extra: usually a connector; temperature and bias are learned in the paper: give them as paths of outputs
    Source: Zhai et al., Sigmoid Loss for Language Image Pre-Training, 2023, https://arxiv.org/abs/2303.15343

    Example:
        >>> x = jnp.eye(2)
        >>> [f"{v:.4f}" for v in siglip(x, x, temperature=1.0, bias=0.0)]
        ['1.0064', '1.0064']
    """
    student, teacher = at_least_float32(student, teacher)
    mask = rows_that_count(student, where)
    student, teacher = (unit(zero_rows(x, mask)) for x in (student, teacher))
    temperature, bias = (like(x, student[0, 0]) for x in (temperature, bias))
    if ring and axis is not None:
        return in_a_ring.sigmoid(student, teacher, temperature, bias, mask, axis)
    everyone, first = gather(mask, axis)
    others, _ = gather(teacher, axis)
    own = first + jnp.arange(len(mask))[:, None] == jnp.arange(len(everyone))[None]
    logits = inner(student, others) / temperature + bias
    lost = jax.nn.softplus(jnp.where(own, -logits, logits))
    return jnp.sum(jnp.where(everyone[None] | own, lost, 0), -1)
