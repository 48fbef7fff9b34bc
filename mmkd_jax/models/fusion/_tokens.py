"""What fusions of tokens read: the last tokens of each encoder, and which of them are valid."""

import math
from collections.abc import Mapping
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from mmkd_jax.core.model import Batch, Encoder, ModelOutputs, Taps
from mmkd_jax.errors import UserError, choices
from mmkd_jax.models.fusion._inputs import Present

MASKS = ("frames_mask", "tokens_mask")
"""Outputs NAME.M of encoders: masks of the first axes of the tokens [b, …, d]."""


class Tokens(NamedTuple):
    """Tokens of one modality, zero outside their mask."""

    x: Float[Array, "b l d"]
    mask: Bool[Array, "b l"]


def tokens_of(fusion: nn.Module, present: Present, tap: Taps) -> dict[str, Tokens]:
    """Return the tokens of each modality, in alphabetical order of the modalities, in one dtype.

    They are the output `tokens.M` of the encoder, the last tokens after a last LayerNorm, and otherwise its last
    `hidden.M.i` with an axis of tokens. Places of a feature map [b, h, w, c] are tokens in row-major order; so are the
    tokens of all frames of a video [b, t, l, d]. Masked tokens, and all of a row without the modality, are replaced by
    zeros, so a NaN there reaches neither value nor gradient.

    Args:
        fusion: the fusion that reads them, for messages.
        present: which rows have the modality.
        tap: Taps of the model, after its encoders.

    Raises:
        UserError: an encoder has no tokens, or a mask of another shape.
    """
    found = {m: _read(type(fusion).__name__, m, present[m], tap.outputs) for m in sorted(present)}
    with jax.numpy_dtype_promotion("standard"):
        dtype = jnp.result_type(*(each.x.dtype for each in found.values()))
    return {m: Tokens(each.x.astype(dtype), each.mask) for m, each in found.items()}


def _read(fusion: str, modality: str, present: Bool[Array, " b"], outputs: ModelOutputs) -> Tokens:
    prefix = f"hidden.{modality}."
    hidden = [x for n, x in outputs.items() if n.startswith(prefix) and n.removeprefix(prefix).isdigit() and x.ndim > 2]
    x = outputs.get(f"tokens.{modality}", hidden[-1] if hidden else None)
    if x is None:
        own = choices(n for n in outputs if f".{modality}." in f"{n}.")[:200]
        other = "take an encoder with tokens, or a fusion of vectors such as models.fusion.Gated"
        raise UserError(f"{fusion}: the encoder of {modality!r} has no tokens, only {own}: {other}")
    places = x.shape[1:-1]
    mask = jnp.broadcast_to(present.reshape(-1, *[1] * len(places)), x.shape[:-1])
    for name in (f"{n}.{modality}" for n in MASKS):
        if (known := outputs.get(name)) is not None:
            if known.shape[1:] != places[: known.ndim - 1]:
                shapes = f"{list(known.shape)}, but the tokens of its encoder {list(x.shape)}"
                raise UserError(f"{fusion}: {name} has shape {shapes}: tap the mask of the last tokens")
            mask = mask & known.reshape(*known.shape, *[1] * (x.ndim - 1 - known.ndim))
    x, count = jnp.where(mask[..., None], x, jnp.zeros((), x.dtype)), math.prod(places)
    return Tokens(x.reshape(x.shape[0], count, x.shape[-1]), mask.reshape(x.shape[0], count))


def check_masks(fusion: nn.Module, encoders: Mapping[str, Encoder], batch: Batch, outputs: ModelOutputs) -> None:
    """Raise if a fusion reads tokens of an encoder whose padding is in the batch but not among its outputs.

    Fusions that read tokens have the attribute `reads = "tokens"`. Encoders to which padding is visible, such as
    `Whisper`, have the attribute `sees_padding = True`.

    Raises:
        UserError: there is such an encoder; names what it has to tap.
    """
    if getattr(fusion, "reads", "features") != "tokens":
        return
    for m, encoder in encoders.items():
        known = any(f"{n}.{m}" in outputs for n in MASKS) or getattr(encoder, "sees_padding", False)
        if f"{m}.mask" in batch and not known:
            kind, name = type(fusion).__name__, f"tokens_mask.{m}"
            mend = f"pass the mask of its tokens [b, l] through tap({name!r}, …) in {type(encoder).__name__}"
            raise UserError(f"{kind}: the batch has {m}.mask, but the encoder no output {name!r}: {mend}")
