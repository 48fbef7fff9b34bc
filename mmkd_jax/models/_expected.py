"""Expected value of a classifier over an ordinal scale."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from mmkd_jax.core.model import Model
from mmkd_jax.errors import UserError


def ExpectedValue(
    model: Model, values: Sequence[float | int], logits: str = "logits", name: str = "prediction"
) -> Model:
    """Add the expected value over an ordinal scale to a classifier's outputs.

    Formula: ŷ = Σ_c v_c softmax(z)_c

    Args:
        model: model with logits z [b, c].
        values: v, the scale's value of each class.
        logits: name of the logits among the model's outputs.
        name: name of the added output, [b].

    Raises:
        UserError: the number of values differs from the number of classes.

    Example:
        >>> from mmkd_jax.core.model import StepContext, plain
        >>> stars = ExpectedValue(plain(lambda params, batch: {"logits": batch["z"]}), range(1, 6))
        >>> batch = {"z": jnp.zeros((1, 5))}
        >>> variables, ctx = stars.init(jax.random.key(0), batch), StepContext(0, jax.random.key(0))
        >>> stars.apply(variables, batch, ctx, {})[0]["prediction"]
        Array([3.], dtype=float32)
    """

    def apply(variables, batch, ctx, patch):
        outputs, state = model.apply(variables, batch, ctx, {k: x for k, x in patch.items() if k != name})
        z = outputs[logits]
        if z.shape[-1] != len(values):
            raise UserError(f"{logits} has {z.shape[-1]} classes, but {len(values)} values were given")
        scale = jnp.asarray(list(values), jnp.float32)
        mean = jax.nn.softmax(z.astype(jnp.float32)) @ scale
        return {**outputs, name: patch.get(name, mean)}, state

    return model._replace(apply=apply)
