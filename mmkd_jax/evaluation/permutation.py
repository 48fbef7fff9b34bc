"""Permutation feature importance."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key


def permutation_importance(
    score: Callable[[Float[Array, "b n"]], Float[Array, ""]],
    x: Float[Array, "b n"],
    key: Key[Array, ""],
    repeats: int = 100,
) -> Float[Array, " n"]:
    """Permutation feature importance: mean score with each column permuted over the rows.

    Formula: s_j = mean_r score(x with column j permuted by π_r), one π_r for each repeat and column

    Args:
        score: pure function of features [b, n], such as an error; a large s_j means that column j matters.
        x: features, [b, n].
        key: PRNG key of the permutations.
        repeats: number of permutations per column.

    Source: Breiman, Random Forests, 2001, https://doi.org/10.1023/A:1010933404324

    Example:
        >>> x = jnp.array([[1.0, 5.0], [2.0, 6.0], [3.0, 9.0]])
        >>> error = permutation_importance(lambda z: jnp.mean((z[:, 0] - x[:, 0]) ** 2), x, jax.random.key(0))
        >>> error[0] > 0, error[1] == 0
        (Array(True, dtype=bool), Array(True, dtype=bool))
    """

    def column(j):
        def once(key):
            return score(x.at[:, j].set(jax.random.permutation(key, x[:, j])))

        return jnp.mean(jax.vmap(once)(jax.random.split(jax.random.fold_in(key, j), repeats)))

    return jax.lax.map(column, jnp.arange(x.shape[1]))
