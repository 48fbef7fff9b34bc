"""Sentence embeddings of a text encoder, as sentence-transformers computes them."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from mmkd_jax.nn.activations import activation
from mmkd_jax.nn.pooling import masked_mean
from mmkd_jax.numeric import distance


class Projection(NamedTuple):
    """Dense layer of a sentence embedding: φ(W x + b).

    Attributes:
        width: number of outputs.
        activation: φ, a name in `nn.activations`; None is the identity.
        bias: whether to add b.
    """

    width: int
    activation: str | None = "tanh"
    bias: bool = True


NORMALIZE = "normalize"
"""Layer x / max(‖x‖, 1e-12)."""


class SentenceHead(nn.Module):
    """Sentence embedding: the last hidden states, pooled, then dense layers and normalizations.

    Formula: x = [pool₁(h), pool₂(h), …]; then each layer in turn, φ(W x + b) or x / max(‖x‖, 1e-12); in at least
        float32

    Attributes:
        poolings: names in `POOLINGS`, whose results are concatenated.
        layers: a `Projection` or `NORMALIZE` for each layer.

    Source: Reimers and Gurevych, Sentence-BERT, 2019, https://arxiv.org/abs/1908.10084
    """

    poolings: tuple[str, ...] = ("mean",)
    layers: tuple[Projection | str, ...] = ()

    @nn.compact
    def __call__(
        self, outputs: Mapping[str, Any], modality: str, mask: Bool[Array, "b l"] | None
    ) -> Float[Array, "b d"]:
        """Return the embedding; its pooling is zero for a row without a valid token.

        Args:
            outputs: outputs of the encoder, by name.
            modality: M, the encoder's modality.
            mask: valid tokens; None is all.
        """
        hidden = [x for n, x in outputs.items() if n.startswith(f"hidden.{modality}.")][-1]
        hidden = outputs.get(f"tokens.{modality}", hidden)  # behind the last LayerNorm, if there is one
        mask = jnp.ones(hidden.shape[:2], bool) if mask is None else mask
        tokens = jnp.where(mask[..., None], hidden, 0).astype(jnp.promote_types(hidden.dtype, jnp.float32))
        x = jnp.concatenate([POOLINGS[name](tokens, mask) for name in self.poolings], -1)
        for i, layer in enumerate(self.layers):
            if isinstance(layer, Projection):
                x = nn.Dense(layer.width, use_bias=layer.bias, name=f"dense_{i}")(x)
                x = x if layer.activation is None else activation(layer.activation)(x)
            else:
                x = x / jnp.maximum(distance((x * x).sum(-1, keepdims=True)), 1e-12)
        return x


def _at(x: Float[Array, "b l d"], position: Int[Array, " b"]) -> Float[Array, "b d"]:
    return jnp.take_along_axis(x, position[:, None, None], 1)[:, 0]


def _first(x: Float[Array, "b l d"], mask: Bool[Array, "b l"]) -> Float[Array, "b d"]:
    return _at(x, jnp.argmax(mask, 1))


def _last(x: Float[Array, "b l d"], mask: Bool[Array, "b l"]) -> Float[Array, "b d"]:
    return _at(x, mask.shape[1] - 1 - jnp.argmax(mask[:, ::-1], 1))


def _maximum(x: Float[Array, "b l d"], mask: Bool[Array, "b l"]) -> Float[Array, "b d"]:
    top = jnp.where(mask[..., None], x, -jnp.inf).max(1)
    return jnp.where(mask.any(1, keepdims=True), top, 0)


def _mean_sqrt(x: Float[Array, "b l d"], mask: Bool[Array, "b l"]) -> Float[Array, "b d"]:
    count = mask.sum(1, keepdims=True).astype(x.dtype)
    return masked_mean(x, mask) * jnp.sqrt(jnp.maximum(count, 1))


def _weighted_mean(x: Float[Array, "b l d"], mask: Bool[Array, "b l"]) -> Float[Array, "b d"]:
    position = jnp.arange(1, mask.shape[1] + 1)[None] - jnp.argmax(mask, 1)[:, None]
    weights = jnp.where(mask, position, 0).astype(x.dtype)
    return (weights[..., None] * x).sum(1) / jnp.maximum(weights.sum(1, keepdims=True), 1)


POOLINGS: Mapping[str, Callable[[Float[Array, "b l d"], Bool[Array, "b l"]], Float[Array, "b d"]]] = {
    "cls": _first,
    "max": _maximum,
    "mean": masked_mean,
    "mean_sqrt_len_tokens": _mean_sqrt,
    "weightedmean": _weighted_mean,
    "lasttoken": _last,
}
"""Poolings over the valid tokens, which the others enter as zeros, by their names in sentence-transformers: the first
token; maximum; mean; Σ h / √n; mean with weights 1, 2, …, n; the last token."""
