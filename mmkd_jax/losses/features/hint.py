"""Hint loss of FitNets."""

from jaxtyping import Array, Float

from mmkd_jax.numeric import at_least_float32, mean_square
from mmkd_jax.validation import validated


@validated
def hint(student: Float[Array, " b *n"], teacher: Float[Array, " b *n"]) -> Float[Array, " b"]:
    """Hint loss of FitNets: mean squared error between features.

    Formula: (1 / D) Σ_i (s_i − t_i)², over all axes but the first

    Args:
        student: features s, [b, ...]; use a connector to match the teacher's shape.
        teacher: features t, [b, ...].

    Returns:
        Per-example loss, [b].

    Compares: features
    Extra: usually a connector
    Source: Romero et al., FitNets: Hints for Thin Deep Nets, 2015, https://arxiv.org/abs/1412.6550
    Differs: the paper takes half the sum of squares, its code half the sum over channels; toolkits and the tables made
        with them take the mean, as here

    Example:
        >>> import jax.numpy as jnp
        >>> hint(jnp.array([[1.0, 3.0]]), jnp.array([[1.0, 1.0]]))
        Array([2.], dtype=float32)
    """
    student, teacher = at_least_float32(student, teacher)
    return mean_square(student - teacher)
