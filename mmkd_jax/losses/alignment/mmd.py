"""Maximum mean discrepancy (MMD)."""

from typing import Literal

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from mmkd_jax.collectives import gather
from mmkd_jax.losses.alignment._clouds import clouds, squares
from mmkd_jax.numeric import at_least_float32, inner, like, rows_that_count, zero_rows
from mmkd_jax.typing import Positive
from mmkd_jax.validation import validated


@validated
def mmd(
    student: Float[Array, "b d"],
    teacher: Float[Array, "b d"],
    *,
    kernel: Literal["rbf", "poly"] = "rbf",
    bandwidth: Positive = 1.0,
    factors: tuple[float, ...] = (0.25, 0.5, 1.0, 2.0, 4.0),
    relative: bool = True,
    where: Bool[Array, " b"] | None = None,
    axis_name: str | None = None,
) -> Float[Array, " b"]:
    """Maximum mean discrepancy (MMD): kernel distance between student and teacher feature distributions.

    Formula: mean_ij k(s_i, s_j) + mean_ij k(t_i, t_j) − 2 mean_ij k(s_i, t_j), the biased estimator;
        rbf: k(x, y) = mean_f exp(−‖x − y‖² / 2fσ²); poly: k(x, y) = (⟨x, y⟩ / d + 1)³

    Invariant to the pairing of student and teacher rows.

    Args:
        student: features s, [b, d].
        teacher: features t, [b, d].
        kernel: "rbf", or "poly", which compares means, covariances and third moments.
        bandwidth: σ² of the RBF kernels.
        factors: f, one kernel each, to cover several length scales.
        relative: measure σ² in units of the mean squared distance between any two rows of either side. This depends on
            the features, and makes the loss invariant to their scale.
        where: mask of valid rows, [b].
        axis_name: mapped device axis, as in `jax.lax.psum`, inside `shard_map` or `pmap`; otherwise None.

    Returns:
        Per-example loss, [b]: each row's contribution; the mean is the squared MMD.

    Compares: features of one width, by their distribution
    Extra: usually a connector
    Source: Gretton et al., A Kernel Two-Sample Test, 2012, https://jmlr.org/papers/v13/gretton12a.html
    Differs: implementations of deep adaptation networks sum the kernels, omit pairs i = j, and treat the mean squared
        distance as a constant; here it is differentiated

    Example:
        >>> x = jnp.array([[0.0, 1.0], [1.0, 1.0], [2.0, 0.0]])
        >>> bool(jnp.abs(jnp.mean(mmd(x, x[::-1]))) < 1e-6), bool(jnp.mean(mmd(x, x + 1)) > 0.1)
        (True, True)
    """
    student, teacher = at_least_float32(student, teacher)
    mask = rows_that_count(student, where)
    all_valid, _ = gather(mask, axis_name)
    n = jnp.maximum(jnp.sum(all_valid), 1).astype(student.dtype)
    if kernel == "rbf":
        s, t, unit = clouds(student, teacher, mask, axis_name)
        width = like(bandwidth, unit) * (unit if relative else jnp.ones_like(unit))
    else:
        (s, t), width = (zero_rows(x, mask) for x in (student, teacher)), None
    all_s, all_t = (gather(x, axis_name)[0] for x in (s, t))

    def mean(x, y):
        if width is None:
            k = (inner(x, y) / x.shape[1] + 1) ** 3
        else:
            gaps = squares(x, y) / (2 * width)
            k = sum((jnp.exp(-gaps / f) for f in factors), start=jnp.zeros_like(gaps)) / len(factors)
        return jnp.sum(jnp.where(all_valid[None], k, 0), 1) / n

    return mean(s, all_s) + mean(t, all_t) - mean(s, all_t) - mean(t, all_s)
