"""Sigmoid loss of SigLIP."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from mmkd_jax.collectives import gather
from mmkd_jax.losses.contrastive._distributions import candidates, normalized_rows
from mmkd_jax.losses.contrastive._ring import SUM_SOFTPLUS, totals
from mmkd_jax.numeric import inner, like
from mmkd_jax.typing import Positive, Scalar
from mmkd_jax.validation import validated


@validated
def siglip(
    student: Float[Array, "b d"],
    teacher: Float[Array, "b d"],
    *,
    temperature: Positive = 0.1,
    bias: Scalar = -10.0,
    ring: bool = False,
    where: Bool[Array, " b"] | None = None,
    axis_name: str | None = None,
) -> Float[Array, " b"]:
    """SigLIP: sigmoid loss that classifies each student–teacher pair independently as matching or not.

    Formula: Σ_j −log σ(z_ij (cos(s_i, t_j) / τ + β)), z_ii = 1, z_ij = −1

    Args:
        student: embeddings s, [b, d].
        teacher: embeddings t, [b, d].
        temperature: τ > 0; the paper's scale t is 1 / τ, initialized to 10.
        bias: β; most pairs do not match, so it is initialized far below 0, to −10.
        ring: compute similarities blockwise, and recompute them in the backward pass, so that they are never all in
            memory. With `axis_name`, the teacher's rows travel around a ring of devices. Same value and gradient;
            first-order reverse mode only.
        where: mask of valid rows, [b]; invalid rows are not candidates either.
        axis_name: mapped device axis, as in `jax.lax.psum`, inside `shard_map` or `pmap`; otherwise None.

    Returns:
        Per-example loss, [b], summed over a row's pairs; the mean is the paper's sum over all pairs ÷ b.

    Compares: embeddings
    Extra: usually a connector; the paper learns temperature and bias: pass them as paths of outputs
    Source: Zhai et al., Sigmoid Loss for Language Image Pre-Training, 2023, https://arxiv.org/abs/2303.15343

    Example:
        >>> x = jnp.eye(2)
        >>> [f"{v:.4f}" for v in siglip(x, x, temperature=1.0, bias=0.0)]
        ['1.0064', '1.0064']
    """
    mask, (student, teacher) = normalized_rows((student, teacher), where)
    student, bias = student / like(temperature, student), like(bias, student)
    if ring:
        rows, _ = totals(SUM_SOFTPLUS, False, axis_name, student, teacher, mask, bias)
        return rows + jax.nn.softplus(-jnp.sum(student * teacher, -1) - bias)
    allowed, positive = candidates(mask, axis_name)
    others, _ = gather(teacher, axis_name)
    logits = inner(student, others) + bias
    pair_loss = jax.nn.softplus(jnp.where(positive[:, None] == jnp.arange(len(others))[None], -logits, logits))
    return jnp.sum(jnp.where(allowed, pair_loss, 0), -1)
