"""The gradient near the mean that serves the worst term best."""

import jax
import jax.numpy as jnp
import numpy as np

from mmkd_jax.arguments import held
from mmkd_jax.losses.number import NotNegative
from mmkd_jax.schemes.scheme import Scheme, combined, gram, several, shared

TINY = 1e-10
SOFTEN = 0.5
ITERATIONS = 40


@held
def cagrad(*, c: NotNegative = 0.5, over: str = "") -> Scheme:
    """Conflict-averse gradient (CAGrad): within c‖g₀‖ of the mean gradient g₀, the one whose worst term falls fastest.

    Formula: n · [g₀ + c‖g₀‖ g_w / ‖g_w‖], g_w = Σ_i w_i g_i, w = argmin over the simplex of ⟨g_w, g₀⟩ + c‖g₀‖ ‖g_w‖

    Args:
        c: 0 is the plain sum; the theory asks for c < 1; large ones near MGDA.
        over: dotted path of the parameters that the terms share, such as "student.encoders_image"; all of the models'
            if empty. The gradients of all others, such as those of connectors, are added up as they are.

    Returns:
        A scheme whose memory is the number c. Gradients whose norms differ by 1e5 or more are beyond its float32: the
        smaller one counts less than it should.

    Topic: gradients
    Compares: gradients of the terms
    Extra: nothing
    Source: Liu et al., Conflict-Averse Gradient Descent for Multi-task Learning, 2021, https://arxiv.org/abs/2110.14048
    Differs: times n, as in the authors' code, so that learning rates stay those of a sum; they divide by 1 + c², too

    Example:
        >>> cagrad(c=0.4).name
        'cagrad'
    """

    def init(names, params):
        several("cagrad", names)
        shared(params, over)
        return {"numbers": {"c": np.float32(c)}}

    def apply(gradients, values, memory, key):
        return combined(gradients, averse(gram(gradients, over), memory["numbers"]["c"]), over), memory

    return Scheme("cagrad", init, apply)


def averse(products, c):
    """The factor of each gradient in n times CAGrad's.

    Args:
        products: inner products of the gradients [n, n].
        c: a number.
    """
    n, scale = len(products), jnp.mean(jnp.diagonal(products))
    products = products / jnp.where(scale > 0, scale, 1)
    radius = jnp.asarray(c, products.dtype) * jnp.sqrt(jnp.maximum(jnp.mean(products), 0))
    w = weights(products, radius)
    length = jnp.sqrt(jnp.maximum(w @ products @ w, 0) + TINY)
    return 1 + n * radius * w / length


def weights(products, radius):
    """argmin over the simplex of mean(products) · w + radius · √(w · products · w), by a primal-dual interior point.

    Newton's steps keep w and its multipliers z positive, and w · z goes to zero; the best w of the way is taken.
    """
    n, mean = len(products), jnp.mean(products, 1)
    ridge = 1e-7 * jnp.eye(n, dtype=products.dtype)

    def value(w):
        return w @ mean + radius * jnp.sqrt(jnp.maximum(w @ products @ w, 0) + TINY)

    def step(i, state):
        w, z, best = state
        pull = products @ w
        tip = jnp.maximum(SOFTEN**i, TINY).astype(w.dtype)  # the norm has a tip where g_w vanishes: blunt, then sharp
        length = jnp.sqrt(jnp.maximum(w @ pull, 0) + tip)
        slope = mean + radius * pull / length
        curve = radius * (products / length - jnp.outer(pull, pull) / length**3) + jnp.diag(z / w) + ridge
        centre = 0.2 * jnp.mean(w * z)
        both = jnp.linalg.solve(curve, jnp.stack([centre / w - slope, jnp.ones(n, w.dtype)], 1))
        dw = both[:, 0] - jnp.sum(both[:, 0]) / jnp.sum(both[:, 1]) * both[:, 1]
        dz = (centre - z * dw) / w - z
        inside = [jnp.min(jnp.where(d < 0, -0.95 * x / jnp.where(d < 0, d, -1), 1)) for x, d in ((w, dw), (z, dz))]
        w, z = w + jnp.minimum(inside[0], 1) * dw, z + jnp.minimum(inside[1], 1) * dz
        w = jnp.maximum(w, 1e-10) / jnp.sum(jnp.maximum(w, 1e-10))
        good = jnp.all(jnp.isfinite(w)) & jnp.all(jnp.isfinite(z))
        w, z = jnp.where(good, w, state[0]), jnp.where(good, jnp.maximum(z, 1e-10), state[1])
        return w, z, jnp.where(value(w) < value(best), w, best)

    even = jnp.full(n, 1 / n, products.dtype)
    return jax.lax.fori_loop(0, ITERATIONS, step, (even, jnp.ones_like(even), even))[2]
