"""Modalities taken away from some rows.

`Drop` is a step of `Augmented`, keyed by example and slot: all models see the same rows without the modality, and a
teacher's outputs can be cached. `drop_modality` and `withhold` are one model's own view, keyed by the step of the run:
the student misses what the teacher still has.
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Key

from mmkd_jax.augment.rows import check_share
from mmkd_jax.errors import UserError
from mmkd_jax.views import Batch, Context


@dataclasses.dataclass(frozen=True)
class Drop:
    """A modality is taken away from some rows, never the last that a row has; the same for all models.

    Put it behind the steps that mix: a row is mixed only with one that has the same modalities.

    Attributes:
        rate: probability with which each modality of a row is dropped, 0 … 1.
        modalities: names, such as ("image", "audio"); the others are left alone.

    Raises:
        UserError: the rate is no probability.

    Source: Neverova et al., ModDrop: Adaptive Multi-Modal Gesture Recognition, 2016, https://arxiv.org/abs/1501.00102

    Example:
        >>> batch, keys = {"image": jnp.ones((4, 2)), "audio": jnp.ones((4, 3))}, jax.random.split(jax.random.key(0), 4)
        >>> seen = Drop(1.0, ("image", "audio"))(batch, keys)
        >>> (seen["present.image"] ^ seen["present.audio"]).tolist()
        [True, True, True, True]
    """

    rate: int | float
    modalities: tuple[str, ...]

    def __post_init__(self):
        check_share(self, rate=self.rate)

    def __call__(self, batch: Batch, keys: Key[Array, " b"]) -> Batch:
        return _kept(batch, keys, self.rate, self.modalities)


def drop_modality(rate: float, modalities: tuple[str, ...]) -> Callable[[Batch, Context], Batch]:
    """Take a modality away from some rows in training, never the last that a row has; other rows in each step.

    Args:
        rate: probability with which each modality of a row is dropped, 0 … 1.
        modalities: names, such as ("image", "audio"); the others are left alone.

    Returns:
        `(batch, ctx) -> batch` with `present.M` set, for `views.with_input`; the batch itself outside training.

    Raises:
        UserError: the rate is no probability.

    Example:
        >>> batch = {"image": jnp.ones((4, 2)), "audio": jnp.ones((4, 3)), "example_id": jnp.arange(4)}
        >>> seen = drop_modality(1.0, ("image", "audio"))(batch, Context(0, jax.random.key(0)))
        >>> (seen["present.image"] ^ seen["present.audio"]).tolist()
        [True, True, True, True]
    """
    if not 0 <= rate <= 1:
        raise UserError(f"drop_modality: rate must be between 0 and 1, not {rate}")

    def transform(batch, ctx):
        if not ctx.train:
            return batch
        key, ids = ctx.at("drop_modality").key, batch["example_id"]
        return _kept(batch, jax.vmap(lambda i: jax.random.fold_in(key, i))(ids), rate, modalities)

    return transform


def _kept(batch, keys, rate, modalities):
    """The batch with `present.M`: of a row's modalities those whose draw is at least the rate, and one in any case."""
    present = [jnp.asarray(batch.get(f"present.{m}", jnp.ones(keys.shape, bool))) for m in modalities]
    here = jnp.stack(present, 1)
    draw = jax.vmap(lambda key: jax.random.uniform(key, (len(modalities),)))(keys)
    # of those that are present the one with the largest number stays in any case
    last = jnp.argmax(jnp.where(here, draw, -1), 1)[:, None] == jnp.arange(len(modalities))[None]
    kept = here & ((draw >= rate) | last)
    return {**batch, **{f"present.{m}": kept[:, i] for i, m in enumerate(modalities)}}


def withhold(rate: float, modalities: tuple[str, ...]) -> Callable[[Batch, Context], Batch]:
    """Take modalities away: from some rows in training, from all of them outside.

    Args:
        rate: probability with which a row lacks all of them in training, 0 … 1.
        modalities: names of those that nobody has in use.

    Returns:
        `(batch, ctx) -> batch` with `present.M` set, for `views.with_input`.

    Raises:
        UserError: the rate is no probability.

    Example:
        >>> batch = {"image": jnp.ones((4, 2)), "audio": jnp.ones((4, 3)), "example_id": jnp.arange(4)}
        >>> in_use = withhold(0.5, ("image",))(batch, Context(0, jax.random.key(0), train=False))
        >>> in_use["present.image"].tolist(), "present.audio" in in_use
        ([False, False, False, False], False)
    """
    if not 0 <= rate <= 1:
        raise UserError(f"withhold: rate must be between 0 and 1, not {rate}")

    def transform(batch, ctx):
        key, ids = ctx.at("withhold").key, batch["example_id"]
        draw = jax.vmap(lambda i: jax.random.uniform(jax.random.fold_in(key, i)))(ids)
        kept = (draw >= rate) & ctx.train
        return {**batch, **{f"present.{m}": kept & batch.get(f"present.{m}", True) for m in modalities}}

    return transform
