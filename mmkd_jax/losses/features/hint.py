"""The hint of FitNets."""

from jaxtyping import Array, Float

from mmkd_jax.losses.checked import checked
from mmkd_jax.losses.numeric import at_least_float32, mean_square


@checked
def hint(student: Float[Array, " b *n"], teacher: Float[Array, " b *n"]) -> Float[Array, " b"]:
    """Hint of FitNets: mean squared difference of features.

    Formula: (1 / D) Σ_i (s_i − t_i)², over all axes but the first

    Args:
        student: features s, [b, ...]; a connector brings them to the teacher's shape.
        teacher: features t, [b, ...].

    Returns:
        Values [b].

    Compares: features
    Extra: usually a connector
    Source: Romero et al., FitNets: Hints for Thin Deep Nets, 2015, https://arxiv.org/abs/1412.6550
    Differs: the paper has half the sum of squares, its code half the sum over channels; toolkits and the tables made
        with them have the mean, which is followed here

    Example:
        >>> import jax.numpy as jnp
        >>> hint(jnp.array([[1.0, 3.0]]), jnp.array([[1.0, 1.0]]))
        Array([2.], dtype=float32)
    """
    student, teacher = at_least_float32(student, teacher)
    return mean_square(student - teacher)
