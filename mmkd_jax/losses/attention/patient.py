"""Patient knowledge distillation."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from mmkd_jax.losses.checked import checked
from mmkd_jax.losses.features.normalized_l2 import normalized_l2
from mmkd_jax.losses.layers import beside


@checked
def patient(
    student: tuple[Float[Array, "b _ d"], ...], teacher: tuple[Float[Array, "b _ d"], ...]
) -> Float[Array, " b"]:
    """Patient knowledge distillation (PKD): squared distance of the normalised first tokens, layer by layer.

    Formula: Σ_layers ‖s / ‖s‖ − t / ‖t‖‖², s and t the hidden states at position 0

    Which layers teach is the choice of paths: each k-th (PKD-Skip) or the last ones (PKD-Last).

    Args:
        student: hidden states s of some layers, each [b, l, d].
        teacher: hidden states t of as many layers, each [b, l, d].

    Returns:
        Values [b]; a zero vector stays zero and gets the gradient 0.

    Compares: hidden states of several layers
    Extra: a connector, where widths differ
    Source: Sun et al., Patient Knowledge Distillation for BERT Model Compression, 2019, https://arxiv.org/abs/1908.09355
    Differs: the authors' code averages over layers and dimensions, so that their weight β is that of ours times
        layers · d; the paper sums over both, as ours does

    Example:
        >>> patient((jnp.array([[[3.0, 0.0]]]),), (jnp.array([[[0.0, 1.0]]]),))
        Array([2.], dtype=float32)
    """
    layers = [normalized_l2(s[:, 0], t[:, 0]) for s, t in beside("patient", student, teacher)]
    return jnp.sum(jnp.stack(layers), 0)
