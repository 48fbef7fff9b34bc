"""Mixing augmentations: mixup, CutMix, MixGen.

A row is mixed with its partner, from the columns `partner.NAME` that a loader adds (`data.Partners`). Rows are mixed
only if row and partner have the same of the given modalities; other rows are unchanged.

Labels: with `classes=`, the label becomes a distribution [b, classes] with λ at the row's class and 1 − λ at the
partner's, as accepted by `losses.cross_entropy`; `labelled` is then True if both are labeled. Without `classes=` labels
are unchanged, for distillation from a teacher that sees the same mixture.
"""

import dataclasses
import math
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Key

from mmkd_jax.augment.images import inside
from mmkd_jax.augment.rows import SHARES, chance, check_share, column, draw_share, each, in_order, mixed, to_unit
from mmkd_jax.augment.text import one_of
from mmkd_jax.core.model import Batch
from mmkd_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class Mixup:
    """mixup: convex combination of a row and its partner; with several modalities, one λ for all of them.

    Formula: x ← λ x + (1 − λ) x', λ ~ Beta(α, α), rounded to steps of 1 / 256

    The result is float32; uint8 is scaled to [0, 1]. If the modality has a mask, padding counts as 0 and the result's
    mask is the union of both.

    Attributes:
        alpha: α, above 0; small values mix little.
        modalities: numeric columns to mix, such as ("image", "audio").
        classes: number of classes; None leaves labels unchanged.
        label: name of the label column.

    Raises:
        UserError: α is not above 0, or a modality consists of token ids, which cannot be mixed.

    Source: Zhang et al., mixup: Beyond Empirical Risk Minimization, 2018, https://arxiv.org/abs/1710.09412

    Example:
        >>> batch = {"image": jnp.ones((1, 1)), "partner.image": jnp.zeros((1, 1)), "label": jnp.array([0]),
        ...          "partner.label": jnp.array([1])}
        >>> seen = Mixup(alpha=1.0, classes=2)(batch, jax.random.split(jax.random.key(0), 1))
        >>> bool(seen["image"][0, 0] == seen["label"][0, 0]), float(seen["label"].sum())
        (True, 1.0)
    """

    alpha: int | float = 1.0
    modalities: tuple[str, ...] = ("image",)
    classes: int | None = None
    label: str = "label"
    mixes: ClassVar[bool] = True

    def __post_init__(self):
        check_alpha(self, self.alpha)

    def __call__(self, batch: Batch, keys: Key[Array, " b"]) -> Batch:
        row, partner = _sides(batch, self, self.modalities)
        share = each(lambda key: draw_share(key, self.alpha), keys)
        share, new = jnp.where(together(batch, self.modalities), share, SHARES), dict(batch)
        for m in self.modalities:
            x, y, mask_name = column(row, m, self), column(partner, m, self), f"{m}.mask"
            if mask_name in row:
                a, b = column(row, mask_name, self), column(partner, mask_name, self)
                new[mask_name] = a | (b & (share < SHARES).reshape(-1, 1))
                x, y = _zero_outside(x, a), _zero_outside(y, b)
            new[m] = each(mixed, x, y, share)
        return mix_labels(new, to_unit(share, SHARES), self.classes, self.label, self)


@dataclasses.dataclass(frozen=True)
class CutMix:
    """CutMix: paste a random box of the partner's image into the image.

    Formula: the box has sides √(1 − λ) of the image's, λ ~ Beta(α, α), is centered at a random pixel and clipped at
    the border; the label weight of the partner is the box's share of the area

    Attributes:
        alpha: α, above 0.
        classes: number of classes; None leaves labels unchanged.
        label: name of the label column.
        modality: name in the batch; the dtype is preserved. Videos use one box for all frames, and are not mixed if
            their masks differ.

    Raises:
        UserError: α is not above 0.

    Source: Yun et al., CutMix: Regularization Strategy to Train Strong Classifiers with Localizable Features, 2019,
        https://arxiv.org/abs/1905.04899

    Example:
        >>> batch = {"image": jnp.ones((1, 8, 8, 1)), "partner.image": jnp.zeros((1, 8, 8, 1)),
        ...          "label": jnp.array([0]), "partner.label": jnp.array([1])}
        >>> seen = CutMix(classes=2)(batch, jax.random.split(jax.random.key(0), 1))
        >>> bool(seen["image"].mean() == seen["label"][0, 0])
        True
    """

    alpha: int | float = 1.0
    classes: int | None = None
    label: str = "label"
    modality: str = "image"
    mixes: ClassVar[bool] = True

    def __post_init__(self):
        check_alpha(self, self.alpha)

    def __call__(self, batch: Batch, keys: Key[Array, " b"]) -> Batch:
        row, partner = _sides(batch, self, (self.modality,))
        x, y, mask_name = (
            column(row, self.modality, self),
            column(partner, self.modality, self),
            f"{self.modality}.mask",
        )
        ready = together(batch, (self.modality,))
        if mask_name in row:
            ready = ready & (row[mask_name] == partner[mask_name]).all(1)
        height, width = x.shape[-3:-1]
        side = [math.sqrt(1 - share / SHARES) for share in range(SHARES + 1)]
        sides = np.round(np.array([[height * s, width * s] for s in side])).astype(np.int32)

        def one(key, x, y, ready):
            drawn, where = jax.random.split(key)
            size = jnp.asarray(sides)[draw_share(drawn, self.alpha)]
            low = jax.random.randint(where, (2,), 0, jnp.array([height, width])) - size // 2
            box = inside(low, low + size, height, width) & ready
            return jnp.where(box[..., None].reshape(*[1] * (x.ndim - 3), height, width, 1), y, x), (~box).sum()

        pasted, kept = jax.vmap(one)(keys, x, y, ready)
        new, area = {**batch, self.modality: pasted}, height * width
        weight = jnp.where(kept == area, 1, to_unit(kept, area))  # the product may not be exactly 1
        return mix_labels(new, weight, self.classes, self.label, self)


@dataclasses.dataclass(frozen=True)
class MixGen:
    """MixGen: average the images and concatenate the texts of two image–text pairs.

    Formula: image ← (image + image') / 2; text ← text ‖ text', truncated to l tokens

    Attributes:
        rate: probability that a row is mixed; the paper mixes a quarter of the rows.
        skip: ids to drop from the partner's text, such as the [CLS] id.
        padding: padding id.
        classes: number of classes; None leaves labels unchanged.
        label: name of the label column.
        image: name of the images; the result is float32, uint8 is scaled to [0, 1].
        text: name of the texts.

    Raises:
        UserError: the rate is not in [0, 1].

    Source: Hao et al., MixGen: A New Multi-Modal Data Augmentation, 2023, https://arxiv.org/abs/2206.08358

    Example:
        >>> batch = {"image": jnp.ones((1, 1)), "text.ids": jnp.array([[5, 0]]),
        ...          "text.mask": jnp.array([[True, False]])}
        >>> batch |= {f"partner.{k}": 3 * v if k != "text.mask" else v for k, v in batch.items()}
        >>> seen = MixGen(rate=1.0)(batch, jax.random.split(jax.random.key(0), 1))
        >>> seen["image"].item(), seen["text.ids"].tolist(), seen["text.mask"].tolist()
        (2.0, [[5, 15]], [[True, True]])
    """

    rate: int | float = 0.25
    skip: tuple[int, ...] = ()
    padding: int = 0
    classes: int | None = None
    label: str = "label"
    image: str = "image"
    text: str = "text"
    mixes: ClassVar[bool] = True

    def __post_init__(self):
        check_share(self, rate=self.rate)

    def __call__(self, batch: Batch, keys: Key[Array, " b"]) -> Batch:
        row, partner = _sides(batch, self, (self.image,))
        ids, mask = (column(row, f"{self.text}.{k}", self) for k in ("ids", "mask"))
        more, more_mask = (column(partner, f"{self.text}.{k}", self) for k in ("ids", "mask"))
        joined = together(batch, (self.image, self.text)) & each(lambda key: chance(key, self.rate), keys)
        share = jnp.where(joined, SHARES // 2, SHARES)

        def one(ids, mask, more, more_mask, joined):
            length, read = len(ids), more_mask & ~one_of(more, self.skip) & joined
            order = jnp.concatenate([ids[in_order(mask)], more[in_order(read)]])
            first, count, at = mask.sum(), read.sum(), jnp.arange(length)
            valid = at < first + count
            text = order[jnp.where(at < first, at, jnp.minimum(length + at - first, 2 * length - 1))]
            text = jnp.where(valid, text, jnp.asarray(self.padding, ids.dtype))
            return jnp.where(joined, text, ids), jnp.where(joined, valid, mask)

        new_ids, new_mask = jax.vmap(one)(ids, mask, more, more_mask, joined)
        new = {**batch, f"{self.text}.ids": new_ids, f"{self.text}.mask": new_mask}
        new[self.image] = each(mixed, column(row, self.image, self), column(partner, self.image, self), share)
        return mix_labels(new, to_unit(share, SHARES), self.classes, self.label, self)


def together(batch: Batch, modalities: tuple[str, ...]) -> Bool[Array, " b"]:
    """Return which rows have the same subset of the modalities as their partner."""
    same = jnp.ones(len(next(v for k, v in batch.items() if k.startswith("partner."))), bool)
    for m in modalities:
        present, other = (batch.get(f"{side}present.{m}") for side in ("", "partner."))
        if present is not None or other is not None:
            same = same & (
                jnp.asarray(True if present is None else present) == jnp.asarray(True if other is None else other)
            )
    return same


def mix_labels(
    batch: Batch, share: Float[Array, " b"], classes: int | None, label: str, step: object
) -> dict[str, Array | np.ndarray]:
    """Mix labels of rows and partners, with weight `share` for the row and 1 − `share` for the partner.

    Args:
        batch: batch with label int32 [b] or a distribution [b, c], for row and partner.
        share: weight of the row's label, [b]; where it is 1, the row's `labelled` is kept.
        classes: number of classes; None leaves labels unchanged.
        label: name of the label column.
        step: augmentation, named in messages.

    Raises:
        UserError: a label column is missing, or has an unsupported dtype or shape.
    """
    if classes is None:
        return dict(batch)

    def weights(side):
        y = column(batch, side + label, step)
        if y.ndim == 1 and jnp.issubdtype(y.dtype, jnp.integer):
            return jax.nn.one_hot(y, classes, dtype=jnp.float32)
        if y.ndim == 2 and y.shape[1] == classes:
            return y.astype(jnp.float32)
        raise UserError(f"{step}: {side}{label} is {y.dtype}{list(y.shape)}; expected int [b] or [b, {classes}]")

    w = share[:, None]
    # the partner's label, which may be invalid, must not affect unmixed rows
    soft = jnp.where(w == 1, weights(""), w * weights("") + (1 - w) * weights("partner."))
    new = {**batch, label: soft}
    if "labelled" in batch:
        new["labelled"] = batch["labelled"] & (batch.get("partner.labelled", True) | (share == 1))
    return new


def check_alpha(step: object, alpha: int | float) -> None:
    """Raise UserError if α is not a valid parameter of a Beta distribution."""
    if not alpha > 0:
        raise UserError(f"{type(step).__name__}: alpha must be above 0, not {alpha}; to not mix, remove the step")


def _sides(batch, step, modalities):
    """Return the columns of rows and partners under the same names."""
    other = {k.removeprefix("partner."): v for k, v in batch.items() if k.startswith("partner.")}
    for m in modalities:
        if m not in batch and f"{m}.ids" in batch:
            raise UserError(
                f"{step}: {m!r} is token ids, which cannot be averaged: mix their embeddings (mix_embeddings)"
            )
        if m not in other:
            raise UserError(f"{step} needs 'partner.{m}': pass the training loader partners=data.Partners(({m!r}, …))")
    return batch, other


def _zero_outside(x, mask):
    return jnp.where(mask.reshape(*mask.shape, *[1] * (x.ndim - 2)), x, jnp.zeros((), x.dtype))
