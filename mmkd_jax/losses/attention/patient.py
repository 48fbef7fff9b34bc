"""Patient knowledge distillation (PKD)."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from mmkd_jax.losses._layers import beside
from mmkd_jax.losses.features.normalized_l2 import normalized_l2
from mmkd_jax.validation import validated


@validated
def patient(
    student: tuple[Float[Array, "b _ d"], ...], teacher: tuple[Float[Array, "b _ d"], ...]
) -> Float[Array, " b"]:
    """Patient knowledge distillation (PKD): squared distance between normalized first tokens, summed over layers.

    Formula: Σ_layers ‖s / ‖s‖ − t / ‖t‖‖², s and t the hidden states at position 0

    The paths select the layers: every k-th (PKD-Skip) or the last ones (PKD-Last).

    Args:
        student: hidden states s of the selected layers, each [b, l, d].
        teacher: hidden states t of equally many layers, each [b, l, d].

    Returns:
        Per-example loss, [b]; a zero vector stays zero and gets zero gradient.

    Compares: hidden states of several layers
    Extra: a connector if the widths differ
    Source: Sun et al., Patient Knowledge Distillation for BERT Model Compression, 2019, https://arxiv.org/abs/1908.09355
    Differs: the authors' code averages over layers and dimensions, so that their weight β is the weight here times
        layers · d; the paper sums over both, as here

    Example:
        >>> patient((jnp.array([[[3.0, 0.0]]]),), (jnp.array([[[0.0, 1.0]]]),))
        Array([2.], dtype=float32)
    """
    layers = [normalized_l2(s[:, 0], t[:, 0]) for s, t in beside("patient", student, teacher)]
    return jnp.sum(jnp.stack(layers), 0)
