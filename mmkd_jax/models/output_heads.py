"""Heads of tasks: `embedding -> outputs by name`, for models that a task measures."""

from collections.abc import Mapping

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from mmkd_jax.core.task import Task
from mmkd_jax.errors import UserError


class LinearHead(nn.Module):
    """Linear outputs in at least float32, such as logits.

    Formula: W x + b for each output

    Attributes:
        widths: name of an output -> its width; 0 is a scalar, without that axis.

    Example:
        >>> import jax
        >>> head = LinearHead({"logits": 3, "prediction": 0})
        >>> x = jnp.ones((2, 4))
        >>> {k: v.shape for k, v in head.apply(head.init(jax.random.key(0), x), x).items()}
        {'logits': (2, 3), 'prediction': (2,)}
    """

    widths: Mapping[str, int]

    @nn.compact
    def __call__(self, x: Float[Array, "... d"]) -> dict[str, Float[Array, "..."]]:
        found = {}
        for name, width in self.widths.items():
            y = nn.Dense(width or 1, name=name.replace(".", "_"))(x)
            y = y.astype(jnp.promote_types(y.dtype, jnp.float32))
            found[name] = y if width else y[..., 0]
        return found


class RankHead(nn.Module):
    """Logits of the thresholds between levels, with one weight vector for all: their order is that of the biases.

    Formula: z_k = w · x + b_k

    Attributes:
        levels: number of levels, one more than thresholds.
        output: name of the output.

    Source: Cao et al., Rank consistent ordinal regression for neural networks, 2020, https://arxiv.org/abs/1901.07884

    Example:
        >>> import jax
        >>> head, x = RankHead(levels=5), jnp.ones((2, 4))
        >>> head.apply(head.init(jax.random.key(0), x), x)["logits"].shape
        (2, 4)
    """

    levels: int
    output: str = "logits"

    @nn.compact
    def __call__(self, x: Float[Array, "... d"]) -> dict[str, Float[Array, "..."]]:
        def descending(key, shape):
            (n,) = shape
            return jnp.arange(n, 0, -1, jnp.float32) / n  # in their order from the start

        z = nn.Dense(1, use_bias=False, name="weight")(x)
        z = z + self.param("bias", descending, (self.levels - 1,)).astype(z.dtype)
        return {self.output: z.astype(jnp.promote_types(z.dtype, jnp.float32))}


class Heads(nn.Module):
    """Several heads on one embedding.

    Attributes:
        heads: name -> head, `embedding -> outputs by name`.

    Example:
        >>> import jax
        >>> head = Heads({"topic": LinearHead({"topic": 8}), "score": LinearHead({"score": 0})})
        >>> x = jnp.ones((2, 4))
        >>> {k: v.shape for k, v in head.apply(head.init(jax.random.key(0), x), x).items()}
        {'topic': (2, 8), 'score': (2,)}
    """

    heads: Mapping[str, nn.Module]

    def __call__(self, x: Float[Array, "... d"]) -> dict[str, Float[Array, "..."]]:
        return {k: v for head in self.heads.values() for k, v in head(x).items()}


def head_for(task: Task) -> nn.Module:
    """Return the head that gives a task its outputs, to end a model with: `Multimodal(encoders, head=head_for(task))`.

    Args:
        task: the task.

    Raises:
        UserError: the task reads outputs that no head on one embedding gives, such as those of a bi-encoder.

    Example:
        >>> from mmkd_jax import tasks
        >>> head_for(tasks.multi_label(5)).widths["logits"]
        5
    """
    if task.head is None:
        raise UserError(f"task {task.name!r} has no head on one embedding: its page says which model it needs")
    return task.head
