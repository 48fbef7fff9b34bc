"""Composition of augmentations, keyed by example and view index."""

import dataclasses
from typing import Any, Protocol, runtime_checkable

import jax

from mmkd_jax.augment.rows import row_keys
from mmkd_jax.core.model import Batch, StepContext
from mmkd_jax.errors import UserError

VERSION = 1
"""Version of the augmentation code. Increment it when values change, to invalidate caches and resumed runs."""
PARTNER = "partner."
_PARTNERS_KEY = 2**31 - 1  # larger than any step index


@runtime_checkable
class Augmentation(Protocol):
    """Augmentation of each row with its own key, such as `augment.images.RandomFlip()`: a frozen dataclass."""

    def __call__(self, batch: Batch, keys: Any, /) -> Batch: ...


@dataclasses.dataclass(frozen=True)
class Compose:
    """Compose augmentations. Applied in training only; otherwise the batch is returned unchanged.

    Formula: step i of a row uses the key fold_in(fold_in(fold_in(key(seed), example_id), view_index), i)

    The result for a row and view index is bit-identical for any batch order, batch size and sharding, and in any run
    with this seed. Use it as `augment` of a `Training`, where all models see the same augmented views, or for one
    model: `mmkd.with_input(student, Compose(…))`. Frozen models run with train=False and skip augmentations in
    `with_input`: augmentations that a frozen teacher should see belong in `Training.augment`.

    Columns `partner.NAME`, which a loader adds (`data.Partners`), are augmented with independent draws if the partner
    has the step's modality: crop, flip and mixup mix two rows that are cropped and flipped independently. Steps that
    mix (attribute `mixes`) or have no field `modality` do not change the partner.

    Attributes:
        steps: augmentations: frozen dataclasses with `__call__(batch, keys) -> batch`, keys [b]. Each must treat rows
            independently; its repr is its identity.
        seed: augmentation seed, independent of the run's seed, so that runs can share a teacher cache.

    Raises:
        UserError: a step is not a frozen dataclass.

    Example:
        >>> import jax.numpy as jnp
        >>> from mmkd_jax.augment import images
        >>> augmented = Compose((images.RandomCrop(4), images.RandomFlip()), seed=1)
        >>> batch = {"image": jnp.ones((2, 8, 8, 3)), "example_id": jnp.arange(2)}
        >>> batch |= {"view_index": jnp.zeros(2, jnp.int32)}
        >>> augmented(batch, StepContext(0, jax.random.key(0)))["image"].shape
        (2, 8, 8, 3)
        >>> augmented(batch, StepContext(0, jax.random.key(0), train=False)) is batch
        True
    """

    steps: tuple[Augmentation, ...]
    seed: int = 0

    def __post_init__(self):
        for step in self.steps:
            frozen = dataclasses.is_dataclass(step) and step.__dataclass_params__.frozen  # pyrefly: ignore
            if isinstance(step, type) or not frozen or not callable(step):
                raise UserError(
                    f"Compose: {step!r} is not an augmentation: a step must be a frozen dataclass with "
                    "__call__(batch, keys) -> batch, such as augment.images.RandomFlip()"
                )

    def __call__(self, batch: Batch, ctx: StepContext) -> Batch:
        if not ctx.train or not self.steps:
            return batch
        keys = row_keys(batch, self.seed)
        partner_keys = _fold(keys, _PARTNERS_KEY)
        row = {k: v for k, v in batch.items() if not k.startswith(PARTNER)}
        partner = {k.removeprefix(PARTNER): v for k, v in batch.items() if k.startswith(PARTNER)}
        for i, step in enumerate(self.steps):
            step_keys = _fold(keys, i)
            if getattr(step, "mixes", False):
                if not partner:
                    raise UserError(f"{step} needs partners: pass the training loader partners=data.Partners((…))")
                out = step({**row, **_with_prefix(partner)}, step_keys)
                row = {k: v for k, v in out.items() if not k.startswith(PARTNER)}
                continue
            row = dict(step(row, step_keys))
            if _has(partner, getattr(step, "modality", None)):
                partner = dict(step(partner, _fold(partner_keys, i)))
        return {**row, **_with_prefix(partner)}

    @property
    def fingerprint(self) -> dict[str, Any]:
        """Identity of the augmentation; must not change when a run resumes or reads a teacher cache."""
        return {"seed": self.seed, "steps": [repr(s) for s in self.steps], "version": VERSION}


def _fold(keys, number):
    return jax.vmap(lambda key: jax.random.fold_in(key, number))(keys)


def _with_prefix(partner):
    return {PARTNER + k: v for k, v in partner.items()}


def _has(batch, modality):
    return modality is not None and any(k == modality or k.startswith(modality + ".") for k in batch)
