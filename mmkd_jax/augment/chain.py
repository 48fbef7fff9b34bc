"""A chain of augmentations, keyed by example and slot."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax

from mmkd_jax.augment.rows import row_keys
from mmkd_jax.errors import UserError
from mmkd_jax.views import Batch, Context

VERSION = 1
"""Of the augmentations' code. Raise it when one gives other values than before: caches and resumes then refuse."""
PARTNER = "partner."
_PARTNERS_KEY = 2**31 - 1  # no chain has so many steps


@dataclasses.dataclass(frozen=True)
class Augmented:
    """The batch under a chain of augmentations: in training other for each row and slot, outside it the batch itself.

    Formula: step i of a row draws with fold_in(fold_in(fold_in(key(seed), example_id), slot), i)

    The same row and slot give the same bits in any order, size and sharding of the batch, and in any run with this
    seed. It is the field `augment` of a `Part`, where all models see the same views, or one model's own:
    `views.with_input(student, Augmented(…))`. A frozen model runs with train=False, and so sees no augmentation of its
    own: what a teacher is to see goes into `Part.augment`.

    Columns `partner.NAME`, which a reader adds (`data.Partners`), go through the steps, too, with draws of their own,
    as far as the partner has the step's modality: crop, flip and mixup mix two rows that are cropped and flipped each
    for itself. Steps that mix (attribute `mixes`) or have no field `modality` see the row only.

    Attributes:
        steps: augmentations: frozen dataclasses with `__call__(batch, keys) -> batch`, keys [b]. Each treats every row
            alone; its repr is its identity.
        seed: of the augmentation, not of the run: several runs share one teacher cache.

    Raises:
        UserError: a step is no frozen dataclass.

    Example:
        >>> import jax.numpy as jnp
        >>> from mmkd_jax.augment import images
        >>> augmented = Augmented((images.Crop(4), images.Flip()), seed=1)
        >>> batch = {"image": jnp.ones((2, 8, 8, 3)), "example_id": jnp.arange(2), "slot": jnp.zeros(2, jnp.int32)}
        >>> augmented(batch, Context(0, jax.random.key(0)))["image"].shape
        (2, 8, 8, 3)
        >>> augmented(batch, Context(0, jax.random.key(0), train=False)) is batch
        True
    """

    steps: tuple[Callable[..., Batch], ...]
    seed: int = 0

    def __post_init__(self):
        for step in self.steps:
            frozen = dataclasses.is_dataclass(step) and step.__dataclass_params__.frozen  # pyrefly: ignore
            if isinstance(step, type) or not frozen or not callable(step):
                raise UserError(
                    f"Augmented: {step!r} is no augmentation: a step is a frozen dataclass with "
                    "__call__(batch, keys) -> batch, such as augment.images.Flip()"
                )

    def __call__(self, batch: Batch, ctx: Context) -> Batch:
        if not ctx.train or not self.steps:
            return batch
        keys = row_keys(batch, self.seed)
        partner_keys = _fold(keys, _PARTNERS_KEY)
        own = {k: v for k, v in batch.items() if not k.startswith(PARTNER)}
        other = {k.removeprefix(PARTNER): v for k, v in batch.items() if k.startswith(PARTNER)}
        for i, step in enumerate(self.steps):
            now = _fold(keys, i)
            if getattr(step, "mixes", False):
                if not other:
                    raise UserError(f"{step} needs partners: give the training reader partners=data.Partners((…))")
                out = step({**own, **_named(other)}, now)
                own = {k: v for k, v in out.items() if not k.startswith(PARTNER)}
                continue
            own = dict(step(own, now))
            if _has(other, getattr(step, "modality", None)):
                other = dict(step(other, _fold(partner_keys, i)))
        return {**own, **_named(other)}

    @property
    def fingerprint(self) -> dict[str, Any]:
        """What must not change where a run resumes or reads a teacher's cache."""
        return {"seed": self.seed, "steps": [repr(s) for s in self.steps], "version": VERSION}


def _fold(keys, number):
    return jax.vmap(lambda key: jax.random.fold_in(key, number))(keys)


def _named(other):
    return {PARTNER + k: v for k, v in other.items()}


def _has(batch, modality):
    return modality is not None and any(k == modality or k.startswith(modality + ".") for k in batch)
