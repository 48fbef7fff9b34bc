"""Which rows of a batch have a modality."""

import jax.numpy as jnp
from jaxtyping import Array, Bool

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


def masks(batch: Batch, where: str | tuple[str, ...] | None, *modalities: str) -> tuple[str, ...]:
    """The names in `where`, and those of the masks of the modalities, for `term(where=…)`.

    Raises:
        UserError: the batch lacks one of the modalities, and its mask, too, which is enough beside a cached teacher.

    Example:
        >>> masks({"audio": jnp.ones((1, 2)), "present.audio": jnp.array([True])}, "labelled", "audio")
        ('labelled', 'present.audio')
    """
    names = () if where is None else (where,) if isinstance(where, str) else tuple(where)
    told = tuple(f"present.{m}" for m in modalities if f"present.{m}" in batch)
    for modality in modalities:
        if f"present.{modality}" not in told:
            present(batch, modality)
    return names + told
