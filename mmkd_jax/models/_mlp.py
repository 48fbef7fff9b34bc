"""Multilayer perceptron on numeric columns of the batch, for the small tabular protocols of papers."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from mmkd_jax.core.model import Batch, Model, ModelOutputs, StepContext, plain


def mlp(
    columns: str | Sequence[str], widths: Sequence[int], start: str = "uniform", dropout: Sequence[float] = ()
) -> Model:
    """Multilayer perceptron (MLP) with ReLU activations; with a single width, a softmax classifier.

    Formula: h_i = ReLU(W_i h_{i−1} + b_i), logits = W h + b

    Args:
        columns: columns of the batch, [b, n] each, concatenated.
        widths: layer widths; the last one is the number of classes.
        start: initializer. "uniform" draws weights and biases from ±1/√n, with n the layer's number of inputs, as
            PyTorch's linear layers do; "glorot" draws weights from ±√(6 / (n + m)) and sets biases to zero, as Keras
            does.
        dropout: dropout rate of each layer's inputs, starting with the first layer; the inputs kept are scaled up.

    Returns:
        A Model with outputs `hidden.i` (before dropout) and `logits`.

    Raises:
        ValueError: unknown `start`, a dropout rate outside [0, 1), or more rates than layers.

    Example:
        >>> model = mlp(("a", "b"), (16, 2))
        >>> rows = {"a": jnp.ones((3, 1)), "b": jnp.ones((3, 4)), "example_id": jnp.arange(3)}
        >>> [layer["weight"].shape for layer in model.init(jax.random.key(0), rows)["params"]["layers"]]
        [(5, 16), (16, 2)]
    """
    names = (columns,) if isinstance(columns, str) else tuple(columns)
    bounds: dict[str, Callable[[int, int], tuple[float, float]]] = {
        "uniform": lambda n, m: (n**-0.5, n**-0.5),
        "glorot": lambda n, m: ((6 / (n + m)) ** 0.5, 0.0),
    }
    if start not in bounds:
        raise ValueError(f"start is {start!r}; expected one of {', '.join(bounds)}")
    if len(dropout) > len(widths) or not all(0 <= rate < 1 for rate in dropout):
        raise ValueError(f"dropout is {tuple(dropout)}; expected up to {len(widths)} rates in [0, 1)")

    def init(key, batch: Batch):
        layers, inputs = [], sum(batch[name].shape[-1] for name in names)
        for i, width in enumerate(widths):
            weight, bias = jax.random.split(jax.random.fold_in(key, i))
            weight_bound, bias_bound = bounds[start](inputs, width)
            layers.append(
                {
                    "weight": jax.random.uniform(weight, (inputs, width), minval=-weight_bound, maxval=weight_bound),
                    "bias": jax.random.uniform(bias, (width,), minval=-bias_bound, maxval=bias_bound),
                }
            )
            inputs = width
        return {"layers": layers}

    def apply(params, batch: Batch, ctx: StepContext) -> ModelOutputs:
        x, outputs = jnp.concatenate([batch[name] for name in names], -1), {}
        for i, layer in enumerate(params["layers"]):
            if ctx.train and i < len(dropout) and dropout[i]:
                kept = jax.random.bernoulli(ctx.at(f"dropout.{i}").key, 1 - dropout[i], x.shape)
                x = jnp.where(kept, x / (1 - dropout[i]), 0)
            x = x @ layer["weight"] + layer["bias"]
            if i + 1 < len(widths):
                x = outputs[f"hidden.{i}"] = jax.nn.relu(x)
        return outputs | {"logits": x}

    return plain(apply, init)
