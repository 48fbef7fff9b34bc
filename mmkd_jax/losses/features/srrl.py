"""Softmax regression representation learning (SRRL)."""

from jaxtyping import Array, Float

from mmkd_jax.numeric import at_least_float32, like, mean_square
from mmkd_jax.typing import Scalar
from mmkd_jax.validation import validated


@validated
def srrl(
    student: tuple[Float[Array, "b d"], Float[Array, "b c"]],
    teacher: tuple[Float[Array, "b d"], Float[Array, "b c"]],
    *,
    alpha: Scalar = 1.0,
    beta: Scalar = 1.0,
) -> Float[Array, " b"]:
    """Softmax regression representation learning (SRRL): MSE of features and of their logits under the teacher's head.

    Formula: α mean(z − f)² + β mean(h(z) − h(f))², h the teacher's head

    `methods.srrl` trains the connector and runs the head.

    Args:
        student: features z in the teacher's width, [b, d], and their logits h(z) under the teacher's head, [b, c].
        teacher: features f, [b, d], and logits h(f), [b, c].
        alpha: α, weight of the features.
        beta: β, weight of the logits.

    Returns:
        Per-example loss, [b].

    Compares: features and logits
    Extra: a connector, and a second pass through the teacher's head, as in `methods.srrl`
    Source: Yang et al., Softmax Regression Representation Learning, 2021, https://openreview.net/forum?id=ZzwDy_wiWv
    Differs: the paper writes squared norms; the authors' code averages over width and classes, as here

    Example:
        >>> import jax.numpy as jnp
        >>> srrl((jnp.ones((1, 4)), jnp.ones((1, 2))), (jnp.zeros((1, 4)), jnp.zeros((1, 2))), beta=5.0)
        Array([6.], dtype=float32)
    """
    z, logits, f, target = at_least_float32(*student, *teacher)
    return like(alpha, z[:, 0]) * mean_square(z - f) + like(beta, z[:, 0]) * mean_square(logits - target)
