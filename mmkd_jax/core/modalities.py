"""Modalities of a batch: presence masks, and inputs as floats."""

from collections.abc import Mapping

import jax.numpy as jnp
from jaxtyping import Array, Bool, Num

from mmkd_jax.core.model import Batch
from mmkd_jax.errors import UserError, choices


def present(batch: Batch, modality: str) -> Bool[Array, " b"]:
    """Return the mask of rows that have the modality; all rows if the batch has no `present.MODALITY`.

    Raises:
        UserError: the batch does not contain the modality.
    """
    names = [k for k in batch if k == modality or k.startswith(modality + ".")]
    if not names:
        raise UserError(f"the batch has no modality {modality!r}; it has: {choices(batch)}")
    mask = batch.get(f"present.{modality}")
    return jnp.ones(batch[names[0]].shape[0], bool) if mask is None else jnp.asarray(mask)


def presence(batch: Batch, *modalities: str) -> tuple[str, ...]:
    """Return the names of the modalities' presence masks, for `term(where=…)`; always present ones have no mask.

    Raises:
        UserError: the batch has neither the modality nor its mask; with a cached teacher the mask alone is enough.

    Example:
        >>> presence({"audio": jnp.ones((1, 2)), "present.audio": jnp.array([True])}, "audio")
        ('present.audio',)
    """
    names = tuple(f"present.{m}" for m in modalities if f"present.{m}" in batch)
    for modality in modalities:
        if f"present.{modality}" not in names:
            present(batch, modality)
    return names


def renamed(batch: Batch, names: Mapping[str, str]) -> Batch:
    """Return a batch under the names that a model reads, with masks and presence; columns of these names are replaced.

    Args:
        batch: flat dict of arrays.
        names: modality that the model reads -> modality of the batch.

    Raises:
        UserError: the batch does not contain a modality.

    Example:
        >>> batch = {"image": jnp.zeros(1), "large": jnp.ones(1), "large.mask": jnp.ones(1, bool)}
        >>> found = renamed(batch, {"image": "large"})
        >>> sorted(found), found["image"].tolist()
        (['image', 'image.mask', 'large', 'large.mask'], [1.0])
    """

    def of(modality):
        return {k for k in batch if k in (modality, f"present.{modality}") or k.startswith(f"{modality}.")}

    replaced = set().union(*map(of, names))
    found = {k: x for k, x in batch.items() if k not in replaced}
    for name, modality in names.items():
        present(batch, modality)
        for k in sorted(of(modality)):
            mask = k.startswith("present.")
            found[f"present.{name}" if mask else name + k.removeprefix(modality)] = batch[k]
    return found


def unit(x: Num[Array, "..."]) -> Num[Array, "..."]:
    """Scale uint8 to [0, 1]; return other dtypes unchanged."""
    return x.astype(jnp.float32) / 255 if x.dtype == jnp.uint8 else x
