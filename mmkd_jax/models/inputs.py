"""What a model sees of the batch: floats, and zeros where a modality is absent."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Num

from mmkd_jax.modalities import present
from mmkd_jax.views import Batch


def visible(batch: Batch, modality: str) -> dict[str, Num[Array, "b ..."] | Bool[Array, "b ..."]]:
    """The modality's arrays, zeros in rows that lack it: replaced, not multiplied, so that a NaN there is gone.

    Example:
        >>> batch = {"audio": jnp.array([[1.0], [jnp.nan]]), "present.audio": jnp.array([True, False])}
        >>> visible(batch, "audio")["audio"].tolist()
        [[1.0], [0.0]]
    """
    here = present(batch, modality)
    own = {k: x for k, x in batch.items() if k == modality or k.startswith(modality + ".")}
    return {k: jnp.where(here.reshape(-1, *[1] * (x.ndim - 1)), x, jnp.zeros((), x.dtype)) for k, x in own.items()}
