"""A perceptron on columns of numbers, as the small protocols of papers have it."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from mmkd_jax.views import Batch, Context, Model, Outputs, plain


def mlp(
    columns: str | Sequence[str], widths: Sequence[int], start: str = "uniform", dropout: Sequence[float] = ()
) -> Model:
    """Dense layers with ReLU between them; with one width, a softmax classifier.

    Formula: h_i = ReLU(W_i h_{i−1} + b_i), logits = W h + b

    Args:
        columns: of the batch, [b, n] each, side by side.
        widths: of the layers; the last one is the number of classes.
        start: of weights and biases: "uniform" in ±1/√n, n the inputs of a layer, as PyTorch starts its linear layers;
            "glorot" is uniform in ±√(6 / (n + m)) with biases at zero, as Keras does.
        dropout: in training, the share of the inputs of each layer that are zero, the first rates for the first layers;
            what is left is scaled up.

    Returns:
        A Model with outputs `hidden.i` (before dropout) and `logits`.

    Raises:
        ValueError: another start, a share that is none, or more of them than layers.

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
        raise ValueError(f"dropout is {tuple(dropout)}; expected up to {len(widths)} shares of 0 up to, but not, 1")

    def init(key, batch: Batch):
        layers, inputs = [], sum(batch[name].shape[-1] for name in names)
        for i, width in enumerate(widths):
            weight, bias = jax.random.split(jax.random.fold_in(key, i))
            of_weight, of_bias = bounds[start](inputs, width)
            layers.append(
                {
                    "weight": jax.random.uniform(weight, (inputs, width), minval=-of_weight, maxval=of_weight),
                    "bias": jax.random.uniform(bias, (width,), minval=-of_bias, maxval=of_bias),
                }
            )
            inputs = width
        return {"layers": layers}

    def apply(params, batch: Batch, ctx: Context) -> Outputs:
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
