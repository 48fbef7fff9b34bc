"""A discriminator tells the student's embeddings from the teacher's; the student learns to be taken for the teacher."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from mmkd_jax.arguments import held
from mmkd_jax.errors import UserError
from mmkd_jax.losses.number import Count, NotNegative, Number
from mmkd_jax.objective import Objective, Term, mask_of


@held
def discriminator(
    *,
    student: str = "student.embedding",
    teacher: str = "teacher.embedding",
    hidden: Count = 128,
    strength: NotNegative = 1.0,
    weight: Number = 1.0,
    where: str | tuple[str, ...] | None = None,
) -> Objective:
    """A trained discriminator D tells both apart; its gradient reaches the student turned round.

    Formula: −log D(t) − log(1 − D(s)): made small by D, and λ times as large by the student

    Args:
        student: path of the student's embedding [b, d].
        teacher: path of the teacher's embedding [b, d]; where widths differ, give the student a layer of its own.
        hidden: width of D's two hidden layers.
        strength: λ, of the gradient that the student gets.
        weight: of the term; 2 log 2 is the value at which D knows nothing.
        where: mask(s) of the batch.

    Returns:
        An objective with D as its parameters. A D with a learning rate of its own is one line of the optimizer:
        `optax.partition({"objective": …, "student": …}, lambda params: {name: name for name in params})`.

    Raises:
        UserError: the embeddings have unlike widths.

    Topic: adversarial
    Compares: embeddings
    Extra: trains a discriminator
    Source: Xu et al., Training Shallow and Thin Networks for Acceleration via Knowledge Distillation with Conditional
        Adversarial Networks, 2018, https://arxiv.org/abs/1709.00513
    Differs: the paper judges logits, and lets the discriminator name the class, too; here it judges what the paths name

    Example:
        >>> fooled = discriminator(hidden=64, strength=0.1)
    """
    judge = _Judge(hidden)

    def init(views):
        widths = {path: views[path].shape[-1] for path in (student, teacher)}
        if widths[student] != widths[teacher]:
            raise UserError(f"discriminator: {widths} wide; both must have one width to be told apart by content")
        numbers = {"strength": np.float32(strength), "weight": np.float32(weight)}
        return judge.init(views.ctx.key, views[student])["params"], {"numbers": numbers}

    def apply(params, memory, views):
        numbers = memory["numbers"]

        def says(x) -> Float[Array, " b"]:
            return jnp.asarray(judge.apply({"params": params}, x)).astype(jnp.float32)

        real = says(jax.lax.stop_gradient(views[teacher]))
        fake = says(_reversed(views[student], jnp.asarray(numbers["strength"])))
        values = jax.nn.softplus(-real) + jax.nn.softplus(fake)
        return Term(values, mask_of(views, where), numbers["weight"]), memory

    return Objective(init, apply)


class _Judge(nn.Module):
    """Three layers with leaky ReLU between them; one logit a row."""

    hidden: int

    @nn.compact
    def __call__(self, x: Float[Array, "b d"]) -> Float[Array, " b"]:
        for _ in range(2):
            x = nn.leaky_relu(nn.Dense(self.hidden)(x), 0.2)
        return nn.Dense(1)(x)[:, 0]


@jax.custom_vjp
def _reversed(x: Float[Array, "..."], strength: Float[Array, ""]) -> Float[Array, "..."]:
    """x; its gradient is turned round and multiplied."""
    return x


_reversed.defvjp(
    lambda x, strength: (x, strength),
    lambda strength, g: (-jnp.asarray(strength, g.dtype) * g, jnp.zeros_like(strength)),
)
