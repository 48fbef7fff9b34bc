"""Token classifier: one tag for each token, or for each word, of a sequence."""

from collections.abc import Mapping

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from mmkd_jax.core.modalities import present
from mmkd_jax.core.model import Batch, Encoder, ModelOutputs, StepContext, Taps
from mmkd_jax.errors import UserError, choices
from mmkd_jax.models._inputs import masked_input, of_words
from mmkd_jax.models.fusion._inputs import zero_absent
from mmkd_jax.models.heads import Classifier
from mmkd_jax.nn.conv import Conv
from mmkd_jax.nn.dropout import Dropout


class Tagger(nn.Module):
    """Token classifier: encode the tokens of each modality, concatenate, embed each with its neighbors, classify.

    Formula: z = relu(W [x_{i−window}, …, x_{i+window}] + b), x zero outside the mask; logits = V z + c; without
        `width`, z = x

    If the batch has `M.words`, the position of each word's first token and −1 after the last word, the tokens of M are
    those of its words; see `data.tokenize`. All modalities must have equally many tokens, except those of `context`,
    whose features [b, d] are a part of each token x; they are zeros in rows that lack the modality.

    Outputs: `features.M` and the intermediates of the encoders, `embedding` [b, l, d], `logits` [b, l, c], and `mask`
    [b, l]: the tokens that any modality of the row has.

    Attributes:
        encoders: modality -> encoder with tokens, such as `TextBag`, `TextLSTM` or `Bert`, as a dict.
        tags: number of tags.
        width: width of the embedding; 0 classifies the tokens of the encoders themselves.
        window: number of neighbors on each side that the embedding of a token sees.
        layers: hidden states of the encoders that are concatenated, such as (3, 6), 0 for embedded tokens; () for the
            last.
        dropout: dropout rate of the embedding.
        context: modalities that every token sees as a whole, such as the picture of a sentence.

    Source: Collobert et al., Natural Language Processing (Almost) from Scratch, 2011, https://arxiv.org/abs/1103.0398;
        `context`: Moon et al., Multimodal Named Entity Recognition for Short Social Media Posts, 2018,
        https://arxiv.org/abs/1802.07862, without its attention over the modalities

    Example:
        >>> from mmkd_jax.models import ImageCNN, TextBag
        >>> small = Tagger({"words": TextBag(1_000, 32), "suffixes": TextBag(300, 16)}, tags=12, window=2)
        >>> with_picture = Tagger({"words": TextBag(1_000, 32), "image": ImageCNN()}, tags=12, context=("image",))
    """

    encoders: Mapping[str, Encoder]
    tags: int
    width: int = 64
    window: int = 0
    layers: tuple[int, ...] = ()
    dropout: float = 0.0
    context: tuple[str, ...] = ()

    @nn.compact
    def __call__(self, batch: Batch, ctx: StepContext, patch: ModelOutputs) -> ModelOutputs:
        if self.window and not self.width:
            raise UserError(f"Tagger: window is {self.window}, but width is 0: give the width of the embedding")
        if unknown := [m for m in self.context if m not in self.encoders]:
            raise UserError(f"Tagger: context {unknown[0]!r} has no encoder; there are: {choices(self.encoders)}")
        if not {*self.encoders} - {*self.context}:
            raise UserError(f"Tagger: all modalities are context, {choices(self.context)}: leave out that of the words")
        tap, tokens, context = Taps(patch), {}, {}
        for modality, encode in self.encoders.items():
            features = tap(f"features.{modality}", encode(batch, modality, ctx, tap))
            if modality in self.context:
                context[modality] = features
            else:
                tokens[modality] = self._tokens(batch, modality, tap.outputs)
        lengths = {m: x.shape[1] for m, (x, _) in tokens.items()}
        if len({*lengths.values()}) != 1:
            each = ", ".join(f"{m} {n}" for m, n in lengths.items())
            raise UserError(f"Tagger: numbers of tokens differ ({each}): give all modalities one length, in words")
        mask = jnp.any(jnp.stack([here for _, here in tokens.values()]), 0)
        whole = zero_absent(context, {m: present(batch, m) for m in context})
        seen = [jnp.where(mask[..., None], x[:, None], jnp.zeros((), x.dtype)) for x in whole.values()]
        x = jnp.concatenate([*(x for x, _ in tokens.values()), *seen], -1)
        if self.width:
            x = nn.relu(Conv(self.width, (2 * self.window + 1,))(x))
        x = tap("embedding", x)
        x = Dropout(self.dropout)(x, ctx, batch["example_id"])
        tap("logits", Classifier(self.tags)(x))
        tap("mask", mask)
        return tap.outputs

    @nn.nowrap
    def _tokens(
        self, batch: Batch, modality: str, outputs: ModelOutputs
    ) -> tuple[Float[Array, "b l d"], Bool[Array, "b l"]]:
        """Return the tokens of a modality, zero outside its mask, and the mask."""
        prefix = f"hidden.{modality}."
        hidden = {n: x for n, x in outputs.items() if n.startswith(prefix) and x.ndim == 3}
        if not hidden:
            raise UserError(f"Tagger: the encoder of {modality!r} has no tokens, {prefix}0, …: use one with tokens")
        last = outputs.get(f"tokens.{modality}", [*hidden.values()][-1])
        names = [f"{prefix}{i}" for i in self.layers]
        if missing := [n for n in names if n not in hidden and not self.is_initializing()]:
            raise UserError(
                f"Tagger: layers={self.layers}, but there is no {missing[0]!r}; there are {', '.join(hidden)}"
            )
        states = [hidden.get(n, last) for n in names] or [last]  # layers of encoders have no outputs in `init`
        x = jnp.concatenate(states, -1)
        seen = masked_input(batch, modality)
        mask = outputs.get(f"tokens_mask.{modality}")
        if mask is None:
            mask = seen.get(f"{modality}.mask", jnp.ones(x.shape[:2], bool))
        mask = mask & present(batch, modality)[:, None]
        if (words := seen.get(f"{modality}.words")) is not None:
            x, mask = of_words(x, mask, words)
        return jnp.where(mask[..., None], x, jnp.zeros((), x.dtype)), mask
