"""PCGrad: projection of conflicting gradients."""

import jax
import jax.numpy as jnp

from mmkd_jax.core.aggregator import Aggregator, combined, gram, several, shared
from mmkd_jax.validation import validated


@validated
def pcgrad(*, over: str = "") -> Aggregator:
    """Gradient surgery (PCGrad): project out of each term's gradient the components that conflict with other terms.

    Formula: Σ_i p_i, p_i from g_i by p_i ← p_i − min(0, ⟨p_i, g_j⟩) g_j / ‖g_j‖², for all j ≠ i in random order

    All p_i are linear combinations of the g_j, so only inner products of the g_j are computed.

    Args:
        over: dotted path of the parameters shared by the terms, such as "student.encoders_image"; if empty, all of
            the models' parameters. Gradients of other parameters, such as connectors, are summed.

    Returns:
        A stateless aggregator; the order is drawn from the step's key.

    Topic: gradients
    Compares: directions of the terms' gradients
    Extra: none
    Source: Yu et al., Gradient Surgery for Multi-Task Learning, 2020, https://arxiv.org/abs/2001.06782
    Differs: the authors' code shuffles without effect and projects in the order of the terms

    Example:
        >>> pcgrad(over="student").name
        'pcgrad'
    """

    def init(names, params):
        several("pcgrad", names)
        shared(params, over)
        return {}

    def apply(gradients, values, state, key):
        return combined(gradients, surgery(gram(gradients, over), orders(key, len(values))), over), state

    return Aggregator("pcgrad", init, apply)


def orders(key, n: int):
    """A random permutation of the n terms for each term, [n, n]."""
    return jax.vmap(lambda k: jax.random.permutation(k, n))(jax.random.split(key, n))


def surgery(products, order):
    """Coefficients of the terms' gradients in the sum of projected gradients.

    Args:
        products: inner products of the gradients, [n, n].
        order: projection order for each term, [n, n].
    """
    rows = jnp.arange(len(products))

    def project(k, coefficients):  # coefficients: each p_i as a combination of the gradients
        j = order[:, k]
        along, square = jnp.sum(coefficients * products[j], 1), products[j, j]
        conflicts = (along < 0) & (j != rows) & (square > 0)
        return coefficients.at[rows, j].add(-jnp.where(conflicts, along / jnp.where(square > 0, square, 1), 0))

    return jnp.sum(jax.lax.fori_loop(0, len(products), project, jnp.eye(len(products), dtype=products.dtype)), 0)
