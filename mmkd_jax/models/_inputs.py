"""Inputs of a model, zeroed in rows that lack the modality."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Num

from mmkd_jax.core.modalities import present
from mmkd_jax.core.model import Batch


def masked_input(batch: Batch, modality: str) -> dict[str, Num[Array, "b ..."] | Bool[Array, "b ..."]]:
    """Return the modality's arrays, with zeros in rows that lack the modality.

    Absent rows are replaced, not multiplied by zero, so a NaN there does not propagate.

    Example:
        >>> batch = {"audio": jnp.array([[1.0], [jnp.nan]]), "present.audio": jnp.array([True, False])}
        >>> masked_input(batch, "audio")["audio"].tolist()
        [[1.0], [0.0]]
    """
    rows = present(batch, modality)
    arrays = {k: batch[k] for k in batch if k == modality or k.startswith(modality + ".")}
    return {k: jnp.where(rows.reshape(-1, *[1] * (x.ndim - 1)), x, jnp.zeros((), x.dtype)) for k, x in arrays.items()}


def of_words(
    x: Float[Array, "b l d"], mask: Bool[Array, "b l"], words: Int[Array, "b w"]
) -> tuple[Float[Array, "b w d"], Bool[Array, "b w"]]:
    """Return what the first token of each word has, and the mask of the words.

    Args:
        x: values of the tokens.
        mask: valid tokens.
        words: position of each word's first token, −1 for none, as `MODALITY.words` of `data.tokenize`.

    Example:
        >>> x, words = jnp.arange(3.0).reshape(1, 3, 1), jnp.array([[0, 2, -1]])
        >>> values, mask = of_words(x, jnp.ones((1, 3), bool), words)
        >>> values[0, :2, 0].tolist(), mask.tolist()
        ([0.0, 2.0], [[True, True, False]])
    """
    places = jnp.maximum(words, 0)
    x = jnp.take_along_axis(x, places[..., None], 1, mode="clip")
    return x, (words >= 0) & jnp.take_along_axis(mask, places, 1, mode="clip")
