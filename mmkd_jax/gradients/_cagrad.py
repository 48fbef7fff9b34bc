"""Conflict-averse gradient descent (CAGrad)."""

import jax
import jax.numpy as jnp
import numpy as np

from mmkd_jax.core.aggregator import Aggregator, combined, gram, several, shared
from mmkd_jax.typing import NotNegative
from mmkd_jax.validation import validated

TINY = 1e-10
SOFTEN = 0.5
ITERATIONS = 40


@validated
def cagrad(*, c: NotNegative = 0.5, over: str = "") -> Aggregator:
    """Conflict-averse gradient (CAGrad): best decrease of the worst term within c‖g₀‖ of the mean gradient g₀.

    Formula: n · [g₀ + c‖g₀‖ g_w / ‖g_w‖], g_w = Σ_i w_i g_i, w = argmin over the simplex of ⟨g_w, g₀⟩ + c‖g₀‖ ‖g_w‖

    Args:
        c: relative radius; 0 is the plain sum, the theory requires c < 1, and large values approach MGDA.
        over: dotted path of the parameters shared by the terms, such as "student.encoders_image"; if empty, all of
            the models' parameters. Gradients of other parameters, such as connectors, are summed.

    Returns:
        An aggregator whose state holds the hyperparameter c. Gradient norms that differ by a factor of 1e5 or more
        exceed its float32 precision: the smaller gradient is underweighted.

    Topic: gradients
    Compares: gradients of the terms
    Extra: none
    Source: Liu et al., Conflict-Averse Gradient Descent for Multi-task Learning, 2021, https://arxiv.org/abs/2110.14048
    Differs: multiplied by n, as in the authors' code, so that learning rates match those of a sum; the authors' code
        also divides by 1 + c²

    Example:
        >>> cagrad(c=0.4).name
        'cagrad'
    """

    def init(names, params):
        several("cagrad", names)
        shared(params, over)
        return {"hyperparams": {"c": np.float32(c)}}

    def apply(gradients, values, state, key):
        return combined(gradients, averse(gram(gradients, over), state["hyperparams"]["c"]), over), state

    return Aggregator("cagrad", init, apply)


def averse(products, c):
    """Coefficients of the terms' gradients in n times the CAGrad direction.

    Args:
        products: inner products of the gradients, [n, n].
        c: a scalar.
    """
    n, scale = len(products), jnp.mean(jnp.diagonal(products))
    products = products / jnp.where(scale > 0, scale, 1)
    radius = jnp.asarray(c, products.dtype) * jnp.sqrt(jnp.maximum(jnp.mean(products), 0))
    w = weights(products, radius)
    length = jnp.sqrt(jnp.maximum(w @ products @ w, 0) + TINY)
    return 1 + n * radius * w / length


def weights(products, radius):
    """argmin over the simplex of mean(products) · w + radius · √(w · products · w), by a primal–dual interior point.

    Newton steps keep w and its multipliers z positive and drive w · z to zero. Returns the best iterate.
    """
    n, mean = len(products), jnp.mean(products, 1)
    ridge = 1e-7 * jnp.eye(n, dtype=products.dtype)

    def value(w):
        return w @ mean + radius * jnp.sqrt(jnp.maximum(w @ products @ w, 0) + TINY)

    def step(i, state):
        w, z, best = state
        pull = products @ w
        smoothing = jnp.maximum(SOFTEN**i, TINY).astype(w.dtype)  # of the norm's kink at g_w = 0
        length = jnp.sqrt(jnp.maximum(w @ pull, 0) + smoothing)
        slope = mean + radius * pull / length
        curve = radius * (products / length - jnp.outer(pull, pull) / length**3) + jnp.diag(z / w) + ridge
        center = 0.2 * jnp.mean(w * z)
        both = jnp.linalg.solve(curve, jnp.stack([center / w - slope, jnp.ones(n, w.dtype)], 1))
        dw = both[:, 0] - jnp.sum(both[:, 0]) / jnp.sum(both[:, 1]) * both[:, 1]
        dz = (center - z * dw) / w - z
        inside = [jnp.min(jnp.where(d < 0, -0.95 * x / jnp.where(d < 0, d, -1), 1)) for x, d in ((w, dw), (z, dz))]
        w, z = w + jnp.minimum(inside[0], 1) * dw, z + jnp.minimum(inside[1], 1) * dz
        w = jnp.maximum(w, 1e-10) / jnp.sum(jnp.maximum(w, 1e-10))
        is_finite = jnp.all(jnp.isfinite(w)) & jnp.all(jnp.isfinite(z))
        w, z = jnp.where(is_finite, w, state[0]), jnp.where(is_finite, jnp.maximum(z, 1e-10), state[1])
        return w, z, jnp.where(value(w) < value(best), w, best)

    uniform = jnp.full(n, 1 / n, products.dtype)
    return jax.lax.fori_loop(0, ITERATIONS, step, (uniform, jnp.ones_like(uniform), uniform))[2]
