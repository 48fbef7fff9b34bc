"""What the text encoders have in common: the length of their inputs, and their features."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from mmkd_jax.core.model import Batch, Taps
from mmkd_jax.errors import UserError
from mmkd_jax.models._inputs import masked_input
from mmkd_jax.nn.activations import activation
from mmkd_jax.nn.pooling import masked_mean
from mmkd_jax.nn.transformer import TransformerConfig


def token_sample(modality: str) -> dict[str, Array]:
    """Return the smallest valid batch of tokens, for shape inference."""
    return {f"{modality}.ids": jnp.zeros((1, 1), jnp.int32), f"{modality}.mask": jnp.ones((1, 1), bool)}


def token_inputs(
    batch: Batch, modality: str, length: int | None, tap: Taps, prompts: int = 0
) -> tuple[Int[Array, "b l"], Bool[Array, "b l"], Int[Array, "b l"]]:
    """Return the ids, the mask and the types (all 0 if the batch lacks them) of tokens; the mask is `tokens_mask.M`.

    With prompts, the encoder taps the mask, because theirs are among its tokens.

    Args:
        batch: batch.
        modality: name of the modality.
        length: maximum length in tokens, with prompts; None for no limit.
        tap: Taps of the model.
        prompts: number of learned vectors beside the tokens, which take positions of them.

    Raises:
        UserError: the texts are longer.
    """
    seen = masked_input(batch, modality)
    ids, mask = seen[f"{modality}.ids"], seen[f"{modality}.mask"]
    if length is not None and ids.shape[1] + prompts > length:
        beside = f" and there are {prompts} prompts" if prompts else ""
        raise UserError(
            f"{modality}: texts have {ids.shape[1]} tokens{beside}, but this model has {length} position embeddings"
        )
    mask = mask if prompts else tap(f"tokens_mask.{modality}", mask)
    return ids, mask, seen.get(f"{modality}.types", jnp.zeros(ids.shape, jnp.int32))


def with_prompts(
    prompts: Float[Array, "n d"], x: Float[Array, "b l d"], mask: Bool[Array, "b l"], types: Int[Array, "b l"]
) -> tuple[Float[Array, "b m d"], Bool[Array, "b m"], Int[Array, "b m"]]:
    """Return embedded tokens, mask and types with prompts before the text, of type 0.

    Args:
        prompts: learned vectors.
        x: embedded tokens.
        mask: valid tokens.
        types: types of the tokens.

    Example:
        >>> text, mask = jnp.ones((1, 2, 3)), jnp.array([[True, False]])
        >>> with_prompts(jnp.zeros((1, 3)), text, mask, jnp.ones((1, 2), jnp.int32))[1:]
        (Array([[ True,  True, False]], dtype=bool), Array([[0, 1, 1]], dtype=int32))
    """
    before = jnp.broadcast_to(prompts.astype(x.dtype), (x.shape[0], *prompts.shape))
    count = ((0, 0), (len(prompts), 0))
    return jnp.concatenate([before, x], 1), jnp.pad(mask, count, constant_values=True), jnp.pad(types, count)


def positions_after(padding: int, mask: Bool[Array, "b l"]) -> Int[Array, "b l"]:
    """Return the positions of the unmasked tokens, which start after the padding id, and the padding id elsewhere.

    Example:
        >>> positions_after(1, jnp.array([[True, True, False]])).tolist()
        [[2, 3, 1]]
    """
    return padding + jnp.cumsum(mask, 1, dtype=jnp.int32) * mask.astype(jnp.int32)


def text_features(
    x: Float[Array, "b l d"],
    mask: Bool[Array, "b l"],
    modality: str,
    tap: Taps,
    config: TransformerConfig,
    pool: str,
    pooler: str | None = None,
) -> Float[Array, "b d"]:
    """Return the features of a text: the mean of its tokens, the first one, or that of a pooler.

    A pooler is the dense layer `pooler` of the calling module; its output is `pooled.M`.

    Args:
        x: tokens.
        mask: valid tokens.
        modality: M, the name of the modality.
        tap: Taps of the model.
        config: sizes and options.
        pool: "mean", "first" or "pooler".
        pooler: activation of the pooler; None for none.

    Raises:
        UserError: `pool` is none of these.
    """
    if pool not in ("mean", "first", "pooler") or (pool == "pooler" and pooler is None):
        raise UserError(f"{modality}: pool is {pool!r}; expected 'mean', 'first' or, with a pooler, 'pooler'")
    pooled = None
    if pooler is not None:
        y: jax.Array = nn.Dense(config.embed_dim, dtype=config.dtype, name="pooler")(x[:, 0])
        pooled = tap(f"pooled.{modality}", activation(pooler)(y))
    if pool == "mean":
        return masked_mean(x, mask)
    return x[:, 0] if pooled is None or pool == "first" else pooled
