"""Augmentations of token ids: `M.ids` int32 [b, l], `M.mask` bool [b, l]. Padding is ignored."""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int, Key

from mmkd_jax.augment.rows import chance, check_share, check_size, column, each, in_order, mask_of
from mmkd_jax.core.model import Batch
from mmkd_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class Mask:
    """Random token masking.

    Attributes:
        rate: masking probability of each token, 0 … 1.
        mask_id: id of the mask token.
        keep: ids that are never masked, such as [CLS] and [SEP].
        modality: name in the batch.

    Raises:
        UserError: the rate is not in [0, 1].

    Source: Devlin et al., BERT: Pre-training of Deep Bidirectional Transformers for Language Understanding, 2019,
        https://arxiv.org/abs/1810.04805; DistilBERT and TinyBERT mask the student's input this way.

    Example:
        >>> batch = {"text.ids": jnp.array([[5, 6, 0]]), "text.mask": jnp.array([[True, True, False]])}
        >>> Mask(1.0, mask_id=9, keep=(5,))(batch, jax.random.split(jax.random.key(0), 1))["text.ids"].tolist()
        [[5, 9, 0]]
    """

    rate: int | float
    mask_id: int
    keep: tuple[int, ...] = ()
    modality: str = "text"

    def __post_init__(self):
        check_share(self, rate=self.rate)

    def __call__(self, batch: Batch, keys: Key[Array, " b"]) -> Batch:
        ids, mask = _tokens(batch, self)

        def one(key, row, mask):
            hit = chance(key, self.rate, row.shape) & mask & ~one_of(row, self.keep)
            return jnp.where(hit, jnp.asarray(self.mask_id, row.dtype), row)

        return {**batch, f"{self.modality}.ids": each(one, keys, ids, mask)}


@dataclasses.dataclass(frozen=True)
class TokenDropout:
    """Token dropout: delete random tokens and close the gaps.

    If all tokens of a text would be dropped, the one with the largest draw is kept.

    Attributes:
        rate: drop probability of each token, 0 … 1.
        keep: ids that are never dropped.
        padding: padding id, appended at the end.
        along: further token-level columns [b, l, …] to drop along, such as tags.
        modality: name in the batch.

    Raises:
        UserError: the rate is not in [0, 1].

    Source: Wei and Zou, EDA: Easy Data Augmentation Techniques for Boosting Performance on Text Classification Tasks,
        2019, https://arxiv.org/abs/1901.11196

    Example:
        >>> batch = {"text.ids": jnp.array([[5, 6, 7]]), "text.mask": jnp.array([[True, True, True]])}
        >>> TokenDropout(1.0, keep=(7,))(batch, jax.random.split(jax.random.key(0), 1))["text.ids"].tolist()
        [[7, 0, 0]]
    """

    rate: int | float
    keep: tuple[int, ...] = ()
    padding: int = 0
    along: tuple[str, ...] = ()
    modality: str = "text"

    def __post_init__(self):
        check_share(self, rate=self.rate)

    def __call__(self, batch: Batch, keys: Key[Array, " b"]) -> Batch:
        ids, mask = _tokens(batch, self)

        def left(key, row, mask):
            draw, kept = jax.random.uniform(key, row.shape), mask & one_of(row, self.keep)
            last = jnp.argmax(jnp.where(mask, draw, -1)) == jnp.arange(len(row))
            return kept | mask & ((draw >= self.rate) | last & ~kept.any())

        stays = each(left, keys, ids, mask)

        def moved(row, stays, was, padding):
            valid = (jnp.arange(len(row)) < stays.sum()).reshape((-1,) + (1,) * (row.ndim - 1))
            empty = jnp.where(was.reshape(valid.shape), jnp.asarray(padding, row.dtype), row)
            return jnp.where(valid, row[in_order(stays)], empty)

        over_rows = jax.vmap(moved, (0, 0, 0, None))
        new = {f"{self.modality}.ids": over_rows(ids, stays, mask, self.padding)}
        new |= {n: over_rows(column(batch, n, self), stays, mask, 0) for n in self.along}
        new[f"{self.modality}.mask"] = each(lambda s: jnp.arange(len(s)) < s.sum(), stays)
        return {**batch, **new}


@dataclasses.dataclass(frozen=True)
class Swap:
    """Random swap: exchange two random tokens, several times.

    Attributes:
        times: number of swaps.
        keep: ids that are never moved.
        along: further token-level columns [b, l, …] to reorder along, such as tags.
        modality: name in the batch.

    Raises:
        UserError: `times` is not an integer of at least 0.

    Source: Wei and Zou, EDA: Easy Data Augmentation Techniques for Boosting Performance on Text Classification Tasks,
        2019, https://arxiv.org/abs/1901.11196

    Example:
        >>> batch = {"text.ids": jnp.array([[5, 6, 0]]), "text.mask": jnp.array([[True, True, False]])}
        >>> Swap(1)(batch, jax.random.split(jax.random.key(0), 1))["text.ids"].tolist()
        [[6, 5, 0]]
    """

    times: int = 1
    keep: tuple[int, ...] = ()
    along: tuple[str, ...] = ()
    modality: str = "text"

    def __post_init__(self):
        check_size(self, times=self.times)

    def __call__(self, batch: Batch, keys: Key[Array, " b"]) -> Batch:
        ids, mask = _tokens(batch, self)

        def places(key, row, mask):
            free = mask & ~one_of(row, self.keep)
            order, count, at = in_order(free), free.sum(), jnp.arange(len(row))
            for swap_key in jax.random.split(key, self.times) if self.times else ():
                first, second = jax.random.split(swap_key)
                a = jax.random.randint(first, (), 0, jnp.maximum(count, 1))
                further = jax.random.randint(second, (), 1, jnp.maximum(count, 2))
                i, j = order[a], order[(a + further) % jnp.maximum(count, 1)]
                at = jnp.where(count > 1, at.at[i].set(at[j]).at[j].set(at[i]), at)
            return at

        at = each(places, keys, ids, mask)
        new = {n: each(lambda row, at: row[at], column(batch, n, self), at) for n in self.along}
        return {**batch, **new, f"{self.modality}.ids": each(lambda row, at: row[at], ids, at)}


def one_of(ids: Int[Array, " l"], these: tuple[int, ...]) -> Bool[Array, " l"]:
    """Return which tokens are one of the given ids."""
    return jnp.isin(ids, jnp.asarray(these, ids.dtype))


def _tokens(batch, step):
    ids = column(batch, f"{step.modality}.ids", step)
    if ids.ndim != 2:
        raise UserError(f"{step}: '{step.modality}.ids' has shape {list(ids.shape)}; expected [b, l]")
    return ids, mask_of(batch, step.modality, ids)
