"""Softmax regression representation learning."""

from jaxtyping import Array, Float

from mmkd_jax.losses.checked import checked
from mmkd_jax.losses.number import Number
from mmkd_jax.losses.numeric import at_least_float32, like, mean_square


@checked
def srrl(
    student: tuple[Float[Array, "b d"], Float[Array, "b c"]],
    teacher: tuple[Float[Array, "b d"], Float[Array, "b c"]],
    *,
    alpha: Number = 1.0,
    beta: Number = 1.0,
) -> Float[Array, " b"]:
    """Softmax regression representation learning (SRRL): the features, and what the teacher's own head makes of them.

    Formula: α mean(z − f)² + β mean(h(z) − h(f))², h the teacher's head

    `methods.srrl` trains the connector and runs the head.

    Args:
        student: features z in the teacher's width, [b, d], and the logits h(z) of the teacher's head on them, [b, c].
        teacher: its features f, [b, d], and its logits h(f), [b, c].
        alpha: α, of the features.
        beta: β, of the logits.

    Returns:
        Values [b].

    Compares: features and logits
    Extra: a connector, and the teacher's head once more, as `methods.srrl` has them
    Source: Yang et al., Softmax Regression Representation Learning, 2021, https://openreview.net/forum?id=ZzwDy_wiWv
    Differs: the paper writes squared norms, the authors' code takes means over width and classes, as here

    Example:
        >>> import jax.numpy as jnp
        >>> srrl((jnp.ones((1, 4)), jnp.ones((1, 2))), (jnp.zeros((1, 4)), jnp.zeros((1, 2))), beta=5.0)
        Array([6.], dtype=float32)
    """
    z, logits, f, target = at_least_float32(*student, *teacher)
    return like(alpha, z[:, 0]) * mean_square(z - f) + like(beta, z[:, 0]) * mean_square(logits - target)
