"""Modality dropout.

`ModalityDropout` is a step of `Compose`, keyed by example and view index: all models lack the modality in the same
rows, and teacher outputs can be cached. `drop_modality` and `withhold` transform the input of one model, keyed by the
training step: the student lacks modalities that the teacher still has.
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Key

from mmkd_jax.augment.rows import check_share
from mmkd_jax.core.model import Batch, StepContext
from mmkd_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class ModalityDropout:
    """Modality dropout (ModDrop), the same for all models; each row keeps at least one of its modalities.

    Place it after mixing steps: rows are mixed only with partners that have the same modalities.

    Attributes:
        rate: drop probability of each modality of a row, 0 … 1.
        modalities: modalities to drop, such as ("image", "audio"); others are unchanged.

    Raises:
        UserError: the rate is not in [0, 1].

    Source: Neverova et al., ModDrop: Adaptive Multi-Modal Gesture Recognition, 2016, https://arxiv.org/abs/1501.00102

    Example:
        >>> batch, keys = {"image": jnp.ones((4, 2)), "audio": jnp.ones((4, 3))}, jax.random.split(jax.random.key(0), 4)
        >>> seen = ModalityDropout(1.0, ("image", "audio"))(batch, keys)
        >>> (seen["present.image"] ^ seen["present.audio"]).tolist()
        [True, True, True, True]
    """

    rate: int | float
    modalities: tuple[str, ...]

    def __post_init__(self):
        check_share(self, rate=self.rate)

    def __call__(self, batch: Batch, keys: Key[Array, " b"]) -> Batch:
        return _kept(batch, keys, self.rate, self.modalities)


def drop_modality(rate: float, modalities: tuple[str, ...]) -> Callable[[Batch, StepContext], Batch]:
    """Modality dropout for one model, redrawn at every training step; each row keeps at least one of its modalities.

    Args:
        rate: drop probability of each modality of a row, 0 … 1.
        modalities: modalities to drop, such as ("image", "audio"); others are unchanged.

    Returns:
        `(batch, ctx) -> batch` that sets `present.M`, for `mmkd.with_input`; the identity outside training.

    Raises:
        UserError: the rate is not in [0, 1].

    Example:
        >>> batch = {"image": jnp.ones((4, 2)), "audio": jnp.ones((4, 3)), "example_id": jnp.arange(4)}
        >>> seen = drop_modality(1.0, ("image", "audio"))(batch, StepContext(0, jax.random.key(0)))
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
    """Set `present.M`: a row keeps the modalities whose draw is at least the rate, and always one."""
    present = [jnp.asarray(batch.get(f"present.{m}", jnp.ones(keys.shape, bool))) for m in modalities]
    available = jnp.stack(present, 1)
    draw = jax.vmap(lambda key: jax.random.uniform(key, (len(modalities),)))(keys)
    # the available modality with the largest draw is always kept
    last = jnp.argmax(jnp.where(available, draw, -1), 1)[:, None] == jnp.arange(len(modalities))[None]
    kept = available & ((draw >= rate) | last)
    return {**batch, **{f"present.{m}": kept[:, i] for i, m in enumerate(modalities)}}


def withhold(rate: float, modalities: tuple[str, ...]) -> Callable[[Batch, StepContext], Batch]:
    """Withhold privileged modalities from one model: in some rows during training, in all rows in evaluation.

    Args:
        rate: probability that a training row lacks all of the modalities, 0 … 1.
        modalities: modalities that are unavailable at deployment.

    Returns:
        `(batch, ctx) -> batch` that sets `present.M`, for `mmkd.with_input`.

    Raises:
        UserError: the rate is not in [0, 1].

    Example:
        >>> batch = {"image": jnp.ones((4, 2)), "audio": jnp.ones((4, 3)), "example_id": jnp.arange(4)}
        >>> in_use = withhold(0.5, ("image",))(batch, StepContext(0, jax.random.key(0), train=False))
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
