"""Centered kernel alignment."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from mmkd_jax.losses.checked import checked
from mmkd_jax.losses.gather import centred, gather
from mmkd_jax.losses.numeric import at_least_float32, inner, rows_that_count, unit


@checked
def cka(
    student: Float[Array, "b ..."],
    teacher: Float[Array, "b ..."],
    *,
    where: Bool[Array, " b"] | None = None,
    axis: str | None = None,
) -> Float[Array, ""]:
    """Centered kernel alignment (CKA): one minus the cosine of the Gram matrices of centred features.

    Formula: 1 − ⟨K, L⟩ / (‖K‖ ‖L‖), K = S̄ S̄ᵀ, L = T̄ T̄ᵀ, S̄ and T̄ minus their means over the batch

    Rotating or scaling the features of a side changes nothing, and the two may be of any size. With fewer rows than
    features it is small by itself: large batches say more.

    Args:
        student: features, [b, ...], flattened.
        teacher: features, [b, ...], flattened.
        where: rows that count, [b].
        axis: the device axis in the per-device forms.

    Returns:
        One value for the batch; 1, with gradient 0, where a side does not vary.

    Compares: relations of rows
    Extra: none
    Source: Kornblith et al., Similarity of Neural Network Representations Revisited, 2019,
        https://arxiv.org/abs/1905.00414
    Differs: the paper proposes it as a measure; as a loss, the code of RCKA (2024) leaves out the centring

    Example:
        >>> x = jnp.array([[0.0, 1.0], [1.0, 1.0], [2.0, 0.0]])
        >>> bool(cka(x, 2 * x[:, ::-1] + 1) < 1e-6)
        True
    """
    student, teacher = at_least_float32(student, teacher)
    mask = rows_that_count(student, where)

    def alignment(x):
        gap, _, _ = centred(x.reshape(len(x), 1, -1), mask, axis)
        everyone, _ = gather(gap[:, 0], axis)
        return unit(inner(everyone, everyone).reshape(-1))

    return 1 - jnp.sum(alignment(student) * alignment(teacher))
