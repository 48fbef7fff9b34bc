"""Mixup inside a model: of embeddings, hidden states or features, through `patch`."""

import dataclasses
from typing import ClassVar

import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from mmkd_jax.augment.mixing import check_alpha, mix_labels, together
from mmkd_jax.augment.rows import SHARES, draw_share, each, row_keys, to_unit
from mmkd_jax.errors import UserError
from mmkd_jax.views import Batch, Model


def mix_embeddings(model: Model, at: str, alpha: int | float = 1.0, seed: int = 0) -> Model:
    """A model that goes on from a mixture of a row's intermediate and its partner's.

    Formula: h(x) ← λ h(x) + (1 − λ) h(x'), λ ~ Beta(α, α) keyed by (seed, example_id, slot)

    Teacher and student with the same seed and α mix the same rows by the same λ, each at an intermediate of its own.
    Where `at` names a modality of the batch, as in "hidden.text.0", its mask is united with the partner's, places that
    only one of them has count as 0 in the other, and rows are mixed only if both have the modality. Batches without
    partners, as in evaluation, are not mixed. It costs a second run up to the intermediate. For the labels' share add
    `MixLabels` with the same seed and α to the chain.

    Args:
        model: what to wrap; a frozen one mixes, too.
        at: name of an output that the model takes as a patch, with leading axis b.
        alpha: α, above 0.
        seed: of the draw.

    Returns:
        The model. A patch at the same name from outside takes the mixture's place.

    Raises:
        UserError: α is not above 0; training on a batch without partners; no such output; a mask that does not fit.

    Source: Verma et al., Manifold Mixup: Better Representations by Interpolating Hidden States, 2019,
        https://arxiv.org/abs/1806.05236; for text Guo et al., Augmenting Data with Mixup for Sentence Classification,
        2019, https://arxiv.org/abs/1905.08941

    Example:
        >>> import jax
        >>> from mmkd_jax.views import Context, Taps, plain
        >>> def net(params, batch, patch):
        ...     tap = Taps(patch)
        ...     tap("logits", 2 * tap("embedding", batch["x"]))
        ...     return tap.outputs
        >>> batch = {"x": jnp.zeros((1, 1)), "partner.x": jnp.ones((1, 1)), "example_id": jnp.array([3]),
        ...          "slot": jnp.array([0])}
        >>> ctx, model = Context(0, jax.random.key(0)), mix_embeddings(plain(net), at="embedding")
        >>> out = model.apply(model.init(ctx.key, batch), batch, ctx, {})[0]
        >>> bool(out["embedding"].item() == 1 - shares(batch, 1.0, 0).item() == out["logits"].item() / 2)
        True
    """
    if not alpha > 0:
        raise UserError(f"mix_embeddings: alpha must be above 0, not {alpha}; use the model itself to mix nothing")

    def apply(variables, batch, ctx, patch):
        own = {k: v for k, v in batch.items() if not k.startswith("partner.")}
        other = {k.removeprefix("partner."): v for k, v in batch.items() if k.startswith("partner.")}
        if not other and ctx.train:
            raise UserError(
                f"mix_embeddings at {at!r} needs partners: give the training reader partners=data.Partners((…))"
            )
        if not other or at in patch:
            return model.apply(variables, own, ctx, patch)
        # what the partner's columns do not tell, such as a step's numbers, is the row's own
        other = {k: v for k, v in own.items() if not _told(k, other)} | other
        if model.fixed:
            raise UserError(model.fixed)
        first, second = (model.apply(variables, b, ctx, {})[0] for b in (own, other))
        if at not in first:
            return model.apply(variables, own, ctx, {**patch, at: jnp.zeros(())})  # refused by name
        modality = next((part for part in at.split(".") if _told(part, own)), None)
        weight = shares(batch, alpha, seed, modality)
        x, y, joined = first[at], second[at], own
        told = f"{modality}.mask"
        if told in own:
            x, y = (_zero_outside(h, b[told], at) for h, b in ((x, own), (y, other)))
            joined = own | {told: own[told] | (other[told] & (weight < 1)[:, None])}
        w = weight.reshape(-1, *[1] * (x.ndim - 1)).astype(x.dtype)
        blend = jnp.where(w == 1, first[at], w * x + (1 - w) * y)
        return model.apply(variables, joined, ctx, {**patch, at: blend})

    return Model(model.init, apply, model.fixed, model.needs)


def shares(batch: Batch, alpha: int | float, seed: int, modality: str | None = None) -> Float[Array, " b"]:
    """λ of each row in `mix_embeddings`; 1 where row and partner do not both have, or both lack, the modality."""
    drawn = each(lambda key: draw_share(key, alpha), row_keys(batch, seed))
    share: Int[Array, " b"] = drawn if modality is None else jnp.where(together(batch, (modality,)), drawn, SHARES)
    return to_unit(share, SHARES)


@dataclasses.dataclass(frozen=True)
class MixLabels:
    """Labels mixed by the λ of `mix_embeddings` with the same α and seed: a step of the chain, behind which no other
    takes the modality away.

    Attributes:
        classes: number of classes of the label.
        alpha: α, above 0.
        seed: of the draw.
        modality: the one that `at` names there, if it names one.
        label: name of the label.

    Raises:
        UserError: α is not above 0.

    Example:
        >>> import jax
        >>> batch = {"label": jnp.array([0]), "partner.label": jnp.array([1]), "example_id": jnp.array([3]),
        ...          "slot": jnp.array([0])}
        >>> MixLabels(2)(batch, jax.random.split(jax.random.key(0), 1))["label"][:, 0] == shares(batch, 1.0, 0)
        Array([ True], dtype=bool)
    """

    classes: int
    alpha: int | float = 1.0
    seed: int = 0
    modality: str | None = None
    label: str = "label"
    mixes: ClassVar[bool] = True

    def __post_init__(self):
        check_alpha(self, self.alpha)

    def __call__(self, batch: Batch, keys: Key[Array, " b"]) -> Batch:
        del keys  # those of mix_embeddings
        own = shares(batch, self.alpha, self.seed, self.modality)
        return mix_labels(batch, own, self.classes, self.label, self)


def _told(name, batch):
    return any(k == name or k.startswith(name + ".") for k in batch)


def _zero_outside(h, mask, at):
    """Hidden states at the places under the mask, which may be at a multiple of their rate."""
    stride = -(-mask.shape[1] // h.shape[1]) if h.ndim > 1 else 1
    mask = mask[:, ::stride]
    if h.ndim < 2 or mask.shape[1] != h.shape[1]:
        if h.ndim == 2:  # pooled already: no places
            return h
        raise UserError(f"mix_embeddings at {at!r}: {list(h.shape)} does not fit a mask of {mask.shape[1]} places")
    return jnp.where(mask.reshape(*mask.shape, *[1] * (h.ndim - 2)), h, jnp.zeros((), h.dtype))
