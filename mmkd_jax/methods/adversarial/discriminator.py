"""Adversarial feature distillation: the student learns to fool a discriminator of student and teacher embeddings."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from mmkd_jax.core.objective import Objective, Term, filled, mask_of
from mmkd_jax.errors import UserError
from mmkd_jax.typing import Count, NotNegative, Scalar
from mmkd_jax.validation import validated


@validated
def discriminator(
    *,
    student: str = "student.embedding",
    teacher: str = "teacher.embedding",
    hidden: Count = 128,
    strength: NotNegative = 1.0,
    weight: Scalar = 1.0,
    where: str | tuple[str, ...] | None = None,
) -> Objective:
    """Adversarial feature distillation with a trained discriminator D and gradient reversal.

    Formula: −log D(t) − log(1 − D(s)): minimized by D, and maximized with factor λ by the student

    Args:
        student: path of the student's embedding [b, d].
        teacher: path of the teacher's embedding [b, d]. If the widths differ, add a projection to the student model.
        hidden: width of D's two hidden layers.
        strength: λ, scale of the student's reversed gradient.
        weight: loss weight; an uninformed D has a loss of 2 log 2.
        where: batch mask(s) of the rows that count.

    Returns:
        An objective with D as its parameters. To train D with a separate learning rate, partition the optimizer:
        `optax.partition({"objective": …, "student": …}, lambda params: {name: name for name in params})`.

    Raises:
        UserError: the embeddings have different widths.

    Topic: adversarial
    Compares: embeddings
    Extra: trains a discriminator
    Source: Xu et al., Training Shallow and Thin Networks for Acceleration via Knowledge Distillation with Conditional
        Adversarial Networks, 2018, https://arxiv.org/abs/1709.00513
    Differs: the paper's discriminator sees logits and also predicts the class; here it sees the outputs at the given
        paths

    Example:
        >>> fooled = discriminator(hidden=64, strength=0.1)
    """
    network = _Discriminator(hidden)

    def init(outputs):
        widths = {path: outputs[path].shape[-1] for path in (student, teacher)}
        if widths[student] != widths[teacher]:
            raise UserError(f"discriminator: embedding widths differ: {widths}; add a projection to the student model")
        hyperparams = {"strength": np.float32(strength), "weight": np.float32(weight)}
        return network.init(outputs.ctx.key, outputs[student])["params"], {"hyperparams": hyperparams}

    def apply(params, state, outputs):
        hyperparams = state["hyperparams"]

        def logit(x) -> Float[Array, " b"]:
            return jnp.asarray(network.apply({"params": params}, x)).astype(jnp.float32)

        real = logit(jax.lax.stop_gradient(filled(outputs, teacher, where)))
        fake = logit(_reverse_gradient(filled(outputs, student, where), jnp.asarray(hyperparams["strength"])))
        values = jax.nn.softplus(-real) + jax.nn.softplus(fake)
        return Term(values, mask_of(outputs, where), hyperparams["weight"]), state

    return Objective(init, apply)


class _Discriminator(nn.Module):
    """MLP of three layers with leaky ReLU; one logit per row."""

    hidden: int

    @nn.compact
    def __call__(self, x: Float[Array, "b d"]) -> Float[Array, " b"]:
        for _ in range(2):
            x = nn.leaky_relu(nn.Dense(self.hidden)(x), 0.2)
        return nn.Dense(1)(x)[:, 0]


@jax.custom_vjp
def _reverse_gradient(x: Float[Array, "..."], strength: Float[Array, ""]) -> Float[Array, "..."]:
    """Identity whose gradient is multiplied by −strength."""
    return x


_reverse_gradient.defvjp(
    lambda x, strength: (x, strength),
    lambda strength, g: (-jnp.asarray(strength, g.dtype) * g, jnp.zeros_like(strength)),
)
