"""Entropic optimal transport."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from mmkd_jax.losses.alignment.clouds import clouds
from mmkd_jax.losses.checked import checked
from mmkd_jax.losses.gather import gather
from mmkd_jax.losses.number import Positive
from mmkd_jax.losses.numeric import at_least_float32, like, rows_that_count


@checked
def sinkhorn(
    student: Float[Array, "b d"],
    teacher: Float[Array, "b d"],
    *,
    epsilon: Positive = 0.1,
    iterations: int = 100,
    relative: bool = True,
    debiased: bool = True,
    where: Bool[Array, " b"] | None = None,
    axis: str | None = None,
) -> Float[Array, ""]:
    """Sinkhorn divergence: what it costs to carry the student's cloud of features to the teacher's.

    Formula: W(s, t) − W(s, s) / 2 − W(t, t) / 2, W(x, y) = min_P Σ_ij P_ij ‖x_i − y_j‖² + ε KL(P ‖ a bᵀ), P of the
        marginals a and b, which weigh all rows that count alike

    Which rows belong together does not matter. It is computed by ott-jax; the plan is held in the gradient, as at the
    optimum it may be.

    Args:
        student: features s, [b, d].
        teacher: features t, [b, d].
        epsilon: ε. A small one is closer to transport and needs more iterations.
        iterations: of Sinkhorn's algorithm, always as many.
        relative: ε is in units of the mean squared distance between any two rows of either side.
        debiased: subtract what either cloud costs to itself; if not, the value is W(s, t), which is not least where
            the clouds are one.
        where: rows that count, [b]; the others weigh nothing.
        axis: the device axis in the per-device forms.

    Returns:
        One value for the batch.

    Compares: features of one width, by their distribution
    Extra: usually a connector
    Source: Feydy et al., Interpolating between Optimal Transport and MMD using Sinkhorn Divergences, 2019,
        https://arxiv.org/abs/1810.08278
    Differs: the paper takes ε as a constant; where it is relative, it depends on the features, and so does the gradient

    Example:
        >>> x = jnp.array([[0.0, 1.0], [1.0, 1.0], [2.0, 0.0]])
        >>> bool(jnp.abs(sinkhorn(x, x[::-1])) < 1e-5), f"{sinkhorn(x, x + 1):.3f}"
        (True, '2.000')
    """
    from ott.geometry.pointcloud import PointCloud  # a second, which only those who need it are to wait
    from ott.problems.linear.linear_problem import LinearProblem
    from ott.solvers.linear.sinkhorn import Sinkhorn
    from ott.tools.sinkhorn_divergence import sinkhorn_divergence

    student, teacher = at_least_float32(student, teacher)
    mask = rows_that_count(student, where)
    s, t, unit = clouds(student, teacher, mask, axis)
    unit = unit if relative else jnp.ones_like(unit)
    s, t = (gather(x, axis)[0] / jnp.sqrt(unit) for x in (s, t))
    everyone, _ = gather(mask, axis)
    a = (everyone | ~jnp.any(everyone)).astype(s.dtype)  # where no row counts, points that are all 0 do no harm
    a = a / jnp.sum(a)
    entropy: Any = like(epsilon, unit)  # ott says it is a float
    always: dict[str, Any] = {
        "min_iterations": iterations,
        "max_iterations": iterations,
        "inner_iterations": iterations,
    }
    always |= {"implicit_diff": None, "use_danskin": True}
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):  # ott's code relies on them
        if debiased:
            value, _ = sinkhorn_divergence(PointCloud, s, t, a=a, b=a, epsilon=entropy, solve_kwargs=always)
        else:
            problem = LinearProblem(PointCloud(s, t, epsilon=entropy), a, a)
            value = Sinkhorn(**always)(problem).reg_ot_cost
    return jnp.asarray(value) * unit
