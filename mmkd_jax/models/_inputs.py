"""Inputs of a model, zeroed in rows that lack the modality."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Num

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
