"""A number from a distribution over a scale."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from mmkd_jax.errors import UserError
from mmkd_jax.views import Model


def expected(model: Model, values: Sequence[float | int], logits: str = "logits", name: str = "prediction") -> Model:
    """A classifier of the steps of a scale that also gives their mean.

    Formula: ŷ = Σ_c v_c softmax(z)_c

    Args:
        model: gives the logits z [b, c].
        values: v, the scale's steps.
        logits: name of the model's output.
        name: of the further output, [b].

    Raises:
        UserError: there are not as many values as logits.

    Example:
        >>> from mmkd_jax.views import Context, plain
        >>> stars = expected(plain(lambda params, batch: {"logits": batch["z"]}), range(1, 6))
        >>> batch = {"z": jnp.zeros((1, 5))}
        >>> stars.apply(stars.init(jax.random.key(0), batch), batch, Context(0, jax.random.key(0)), {})[0]["prediction"]
        Array([3.], dtype=float32)
    """

    def apply(variables, batch, ctx, patch):
        outputs, state = model.apply(variables, batch, ctx, {k: x for k, x in patch.items() if k != name})
        z = outputs[logits]
        if z.shape[-1] != len(values):
            raise UserError(f"{logits} has {z.shape[-1]} classes, but there are {len(values)} values")
        scale = jnp.asarray(list(values), jnp.float32)
        mean = jax.nn.softmax(z.astype(jnp.float32)) @ scale
        return {**outputs, name: patch.get(name, mean)}, state

    return model._replace(apply=apply)
