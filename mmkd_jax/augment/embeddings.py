"""Manifold mixup: mixup of embeddings, hidden states or features inside a model, through `patch`."""

import dataclasses
from typing import ClassVar

import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from mmkd_jax.augment.mixing import check_alpha, mix_labels, together
from mmkd_jax.augment.rows import SHARES, draw_share, each, row_keys, to_unit
from mmkd_jax.core.model import Batch, Model
from mmkd_jax.errors import UserError


def mix_embeddings(model: Model, at: str, alpha: int | float = 1.0, seed: int = 0) -> Model:
    """Manifold mixup: mix an intermediate of a model between each row and its partner.

    Formula: h(x) ← λ h(x) + (1 − λ) h(x'), λ ~ Beta(α, α) keyed by (seed, example_id, view_index)

    Teacher and student with the same seed and α mix the same rows by the same λ, each at a different intermediate if
    needed. If `at` names a modality of the batch, as in "hidden.text.0", the masks of row and partner are combined by
    a union, positions present in only one of them count as 0 in the other, and rows are mixed only if both have the
    modality. Batches without partners, as in evaluation, are not mixed. The cost is a second forward pass up to the
    intermediate. To mix labels by the same λ, add `MixLabels` with the same seed and α to the `Compose`.

    Args:
        model: model to wrap; a frozen model mixes, too.
        at: name of an output that the model accepts as a patch, with leading axis b.
        alpha: α, above 0.
        seed: seed of λ.

    Returns:
        The wrapped model. An external patch at the same name overrides the mixture.

    Raises:
        UserError: α is not above 0, a training batch has no partners, the output does not exist, or the mask does not
            fit the intermediate.

    Source: Verma et al., Manifold Mixup: Better Representations by Interpolating Hidden States, 2019,
        https://arxiv.org/abs/1806.05236; for text Guo et al., Augmenting Data with Mixup for Sentence Classification,
        2019, https://arxiv.org/abs/1905.08941

    Example:
        >>> import jax
        >>> from mmkd_jax.core.model import StepContext, Taps, plain
        >>> def net(params, batch, patch):
        ...     tap = Taps(patch)
        ...     tap("logits", 2 * tap("embedding", batch["x"]))
        ...     return tap.outputs
        >>> batch = {"x": jnp.zeros((1, 1)), "partner.x": jnp.ones((1, 1)), "example_id": jnp.array([3]),
        ...          "view_index": jnp.array([0])}
        >>> ctx, model = StepContext(0, jax.random.key(0)), mix_embeddings(plain(net), at="embedding")
        >>> out = model.apply(model.init(ctx.key, batch), batch, ctx, {})[0]
        >>> bool(out["embedding"].item() == 1 - shares(batch, 1.0, 0).item() == out["logits"].item() / 2)
        True
    """
    if not alpha > 0:
        raise UserError(f"mix_embeddings: alpha must be above 0, not {alpha}; to not mix, use the model itself")

    def apply(variables, batch, ctx, patch):
        row = {k: v for k, v in batch.items() if not k.startswith("partner.")}
        partner = {k.removeprefix("partner."): v for k, v in batch.items() if k.startswith("partner.")}
        if not partner and ctx.train:
            raise UserError(
                f"mix_embeddings at {at!r} needs partners: pass the training loader partners=data.Partners((…))"
            )
        if not partner or at in patch:
            return model.apply(variables, row, ctx, patch)
        # columns that the partner lacks come from the row
        partner = {k: v for k, v in row.items() if not _has_column(k, partner)} | partner
        if model.fixed:
            raise UserError(model.fixed)
        first, second = (model.apply(variables, b, ctx, {})[0] for b in (row, partner))
        if at not in first:
            return model.apply(variables, row, ctx, {**patch, at: jnp.zeros(())})  # rejected by name
        modality = next((part for part in at.split(".") if _has_column(part, row)), None)
        weight = shares(batch, alpha, seed, modality)
        x, y, joined = first[at], second[at], row
        mask_name = f"{modality}.mask"
        if mask_name in row:
            x, y = (_zero_outside(h, b[mask_name], at) for h, b in ((x, row), (y, partner)))
            joined = row | {mask_name: row[mask_name] | (partner[mask_name] & (weight < 1)[:, None])}
        w = weight.reshape(-1, *[1] * (x.ndim - 1)).astype(x.dtype)
        blend = jnp.where(w == 1, first[at], w * x + (1 - w) * y)
        return model.apply(variables, joined, ctx, {**patch, at: blend})

    return model._replace(apply=apply)


def shares(batch: Batch, alpha: int | float, seed: int, modality: str | None = None) -> Float[Array, " b"]:
    """Return λ of each row in `mix_embeddings`; 1 if only one of row and partner has the modality."""
    drawn = each(lambda key: draw_share(key, alpha), row_keys(batch, seed))
    share: Int[Array, " b"] = drawn if modality is None else jnp.where(together(batch, (modality,)), drawn, SHARES)
    return to_unit(share, SHARES)


@dataclasses.dataclass(frozen=True)
class MixLabels:
    """Mix labels by the λ of `mix_embeddings` with the same α and seed.

    A step of `Compose`; later steps must not drop the modality.

    Attributes:
        classes: number of classes.
        alpha: α, above 0.
        seed: seed of λ.
        modality: modality that `at` of `mix_embeddings` names, if any.
        label: name of the label column.

    Raises:
        UserError: α is not above 0.

    Example:
        >>> import jax
        >>> batch = {"label": jnp.array([0]), "partner.label": jnp.array([1]), "example_id": jnp.array([3]),
        ...          "view_index": jnp.array([0])}
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
        del keys  # λ is keyed as in mix_embeddings
        weight = shares(batch, self.alpha, self.seed, self.modality)
        return mix_labels(batch, weight, self.classes, self.label, self)


def _has_column(name, batch):
    return any(k == name or k.startswith(name + ".") for k in batch)


def _zero_outside(h, mask, at):
    """Zero hidden states outside the mask, whose length may be a multiple of theirs."""
    stride = -(-mask.shape[1] // h.shape[1]) if h.ndim > 1 else 1
    mask = mask[:, ::stride]
    if h.ndim < 2 or mask.shape[1] != h.shape[1]:
        if h.ndim == 2:  # already pooled: no sequence axis
            return h
        raise UserError(f"mix_embeddings at {at!r}: {list(h.shape)} does not fit a mask of length {mask.shape[1]}")
    return jnp.where(mask.reshape(*mask.shape, *[1] * (h.ndim - 2)), h, jnp.zeros((), h.dtype))
