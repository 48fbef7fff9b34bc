"""A batch's modalities: which rows have one, and its values as floats."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Num

from mmkd_jax.errors import UserError, choices
from mmkd_jax.views import Batch


def present(batch: Batch, modality: str) -> Bool[Array, " b"]:
    """Which rows have the modality; all, where the batch does not say.

    Raises:
        UserError: the batch lacks the modality altogether.
    """
    names = [k for k in batch if k == modality or k.startswith(modality + ".")]
    if not names:
        raise UserError(f"the batch has no modality {modality!r}; it has: {choices(batch)}")
    return batch.get(f"present.{modality}", jnp.ones(batch[names[0]].shape[0], bool))


def presence(batch: Batch, *modalities: str) -> tuple[str, ...]:
    """The names of the masks of the modalities, for `term(where=…)`; one that all rows have needs none.

    Raises:
        UserError: the batch lacks one of the modalities, and its mask, too, which is enough beside a cached teacher.

    Example:
        >>> presence({"audio": jnp.ones((1, 2)), "present.audio": jnp.array([True])}, "audio")
        ('present.audio',)
    """
    told = tuple(f"present.{m}" for m in modalities if f"present.{m}" in batch)
    for modality in modalities:
        if f"present.{modality}" not in told:
            present(batch, modality)
    return told


def unit(x: Num[Array, "..."]) -> Num[Array, "..."]:
    """uint8 as [0, 1]; all else as it is."""
    return x.astype(jnp.float32) / 255 if x.dtype == jnp.uint8 else x
