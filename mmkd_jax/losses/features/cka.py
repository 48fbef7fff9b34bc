"""Centered kernel alignment."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from mmkd_jax.collectives import centered, gather
from mmkd_jax.numeric import at_least_float32, inner, rows_that_count, unit
from mmkd_jax.validation import validated


@validated
def cka(
    student: Float[Array, "b ..."],
    teacher: Float[Array, "b ..."],
    *,
    where: Bool[Array, " b"] | None = None,
    axis_name: str | None = None,
) -> Float[Array, ""]:
    """Centered kernel alignment (CKA): one minus the cosine similarity of centered Gram matrices.

    Formula: 1 − ⟨K, L⟩ / (‖K‖ ‖L‖), K = S̄ S̄ᵀ, L = T̄ T̄ᵀ, S̄ and T̄ centered over the batch

    Invariant to rotation and isotropic scaling of either side, whose widths may differ. With fewer rows than features
    the loss is small for any two sides, so use large batches.

    Args:
        student: features, [b, ...], flattened.
        teacher: features, [b, ...], flattened.
        where: mask of valid rows, [b].
        axis_name: mapped device axis, as in `jax.lax.psum`, inside `shard_map` or `pmap`; otherwise None.

    Returns:
        Scalar loss of the batch; 1, with zero gradient, if either side is constant.

    Compares: relations between examples
    Extra: none
    Source: Kornblith et al., Similarity of Neural Network Representations Revisited, 2019,
        https://arxiv.org/abs/1905.00414
    Differs: the paper proposes it as a similarity index; as a loss, the code of RCKA (2024) omits the centering

    Example:
        >>> x = jnp.array([[0.0, 1.0], [1.0, 1.0], [2.0, 0.0]])
        >>> bool(cka(x, 2 * x[:, ::-1] + 1) < 1e-6)
        True
    """
    student, teacher = at_least_float32(student, teacher)
    mask = rows_that_count(student, where)

    def alignment(x):
        gap, _, _ = centered(x.reshape(len(x), 1, -1), mask, axis_name)
        all_rows, _ = gather(gap[:, 0], axis_name)
        return unit(inner(all_rows, all_rows).reshape(-1))

    return 1 - jnp.sum(alignment(student) * alignment(teacher))
