"""Maximum mean discrepancy."""

from typing import Literal

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from mmkd_jax.losses.alignment.clouds import clouds, squares
from mmkd_jax.losses.checked import checked
from mmkd_jax.losses.gather import gather
from mmkd_jax.losses.number import Positive
from mmkd_jax.losses.numeric import at_least_float32, inner, like, rows_that_count, zero_rows


@checked
def mmd(
    student: Float[Array, "b d"],
    teacher: Float[Array, "b d"],
    *,
    kernel: Literal["rbf", "poly"] = "rbf",
    bandwidth: Positive = 1.0,
    factors: tuple[float, ...] = (0.25, 0.5, 1.0, 2.0, 4.0),
    relative: bool = True,
    where: Bool[Array, " b"] | None = None,
    axis: str | None = None,
) -> Float[Array, " b"]:
    """Maximum mean discrepancy (MMD): the distributions of both sides are to be one, to the eyes of a kernel.

    Formula: mean_ij k(s_i, s_j) + mean_ij k(t_i, t_j) − 2 mean_ij k(s_i, t_j), its biased estimator;
        rbf: k(x, y) = mean_f exp(−‖x − y‖² / 2fσ²); poly: k(x, y) = (⟨x, y⟩ / d + 1)³

    Which rows belong together does not matter.

    Args:
        student: features s, [b, d].
        teacher: features t, [b, d].
        kernel: "rbf", or "poly", which compares means, covariances and third moments.
        bandwidth: σ² of the rbf kernels.
        factors: f: a kernel each, so that gaps of several sizes are seen.
        relative: σ² is in units of the mean squared distance between any two rows of either side. That depends on the
            features; their scale does not matter then.
        where: rows that count, [b].
        axis: the device axis in the per-device forms.

    Returns:
        Values [b], a row's part each; their mean is the squared MMD.

    Compares: features of one width, by their distribution
    Extra: usually a connector
    Source: Gretton et al., A Kernel Two-Sample Test, 2012, https://jmlr.org/papers/v13/gretton12a.html
    Differs: codes of deep adaptation networks add the kernels up, leave the pairs i = j out, and take the mean squared
        distance as a constant; here its gradient counts

    Example:
        >>> x = jnp.array([[0.0, 1.0], [1.0, 1.0], [2.0, 0.0]])
        >>> bool(jnp.abs(jnp.mean(mmd(x, x[::-1]))) < 1e-6), bool(jnp.mean(mmd(x, x + 1)) > 0.1)
        (True, True)
    """
    student, teacher = at_least_float32(student, teacher)
    mask = rows_that_count(student, where)
    everyone, _ = gather(mask, axis)
    n = jnp.maximum(jnp.sum(everyone), 1).astype(student.dtype)
    if kernel == "rbf":
        s, t, unit = clouds(student, teacher, mask, axis)
        width = like(bandwidth, unit) * (unit if relative else jnp.ones_like(unit))
    else:
        (s, t), width = (zero_rows(x, mask) for x in (student, teacher)), None
    all_s, all_t = (gather(x, axis)[0] for x in (s, t))

    def mean(x, y):
        if width is None:
            k = (inner(x, y) / x.shape[1] + 1) ** 3
        else:
            gaps = squares(x, y) / (2 * width)
            k = sum((jnp.exp(-gaps / f) for f in factors), start=jnp.zeros_like(gaps)) / len(factors)
        return jnp.sum(jnp.where(everyone[None], k, 0), 1) / n

    return mean(s, all_s) + mean(t, all_t) - mean(s, all_t) - mean(t, all_s)
