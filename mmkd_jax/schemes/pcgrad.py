"""Projection of gradients that conflict."""

import jax
import jax.numpy as jnp

from mmkd_jax.arguments import held
from mmkd_jax.schemes.scheme import Scheme, combined, gram, several, shared


@held
def pcgrad(*, over: str = "") -> Scheme:
    """Gradient surgery (PCGrad): from each term's gradient, take what opposes another term's.

    Formula: Σ_i p_i, p_i from g_i by p_i ← p_i − min(0, ⟨p_i, g_j⟩) g_j / ‖g_j‖², for all j ≠ i in random order

    All p_i are combinations of the g_j, so that their inner products are all that is computed.

    Args:
        over: dotted path of the parameters that the terms share, such as "student.encoders_image"; all of the models'
            if empty. The gradients of all others, such as those of connectors, are added up as they are.

    Returns:
        A scheme without memory; the order is drawn from the step's key.

    Topic: gradients
    Compares: directions of the terms' gradients
    Extra: nothing
    Source: Yu et al., Gradient Surgery for Multi-Task Learning, 2020, https://arxiv.org/abs/2001.06782
    Differs: the authors' code shuffles without effect, and goes through the terms in their order

    Example:
        >>> pcgrad(over="student").name
        'pcgrad'
    """

    def init(names, params):
        several("pcgrad", names)
        shared(params, over)
        return {}

    def apply(gradients, values, memory, key):
        return combined(gradients, surgery(gram(gradients, over), orders(key, len(values))), over), memory

    return Scheme("pcgrad", init, apply)


def orders(key, n: int):
    """For each of n terms, the order in which it looks at all of them."""
    return jax.vmap(lambda k: jax.random.permutation(k, n))(jax.random.split(key, n))


def surgery(products, order):
    """The factor of each gradient in the sum of the projected ones.

    Args:
        products: inner products of the gradients [n, n].
        order: for each term, that of the others [n, n].
    """
    rows = jnp.arange(len(products))

    def project(k, parts):  # parts: each p_i as a combination of the gradients
        j = order[:, k]
        along, square = jnp.sum(parts * products[j], 1), products[j, j]
        against = (along < 0) & (j != rows) & (square > 0)
        return parts.at[rows, j].add(-jnp.where(against, along / jnp.where(square > 0, square, 1), 0))

    return jnp.sum(jax.lax.fori_loop(0, len(products), project, jnp.eye(len(products), dtype=products.dtype)), 0)
