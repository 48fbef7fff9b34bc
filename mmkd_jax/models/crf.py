"""Conditional random field on the logits of a token classifier."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from mmkd_jax import crf
from mmkd_jax.core.model import Batch, ModelOutputs, StepContext, Taps
from mmkd_jax.errors import UserError

_OWN = ("emissions", "transitions", "decoded")


class Crf(nn.Module):
    """Linear-chain CRF: a token classifier, with scores of each tag after another, of the first and of the last tag.

    Formula: score(y) = Σ_i (logits_i(y_i) + A(y_i−1, y_i)) + start(y_first) + end(y_last), over the tokens of `mask`

    All scores start at 0, where the best tags are those of the token classifier.

    Outputs, in addition to those of the classifier: `emissions` [b, l, c], the logits with the scores of the first and
    the last tag; `transitions` A [c, c]; `decoded` [b, l], the best tags by `crf.viterbi`, −1 outside the mask. The
    tags are not computed in steps whose objective does not read them.

    Attributes:
        model: module `(batch, ctx, patch) -> outputs` with `logits` [b, l, c] and `mask` [b, l], such as `Tagger`.

    Source: Lample et al., Neural Architectures for Named Entity Recognition, 2016, https://arxiv.org/abs/1603.01360

    Example:
        >>> from mmkd_jax.models import Tagger, TextLSTM
        >>> tagger = Crf(Tagger({"text": TextLSTM(1_000, 32)}, tags=9))
    """

    model: nn.Module

    @nn.compact
    def __call__(self, batch: Batch, ctx: StepContext, patch: ModelOutputs) -> ModelOutputs:
        classifier: Any = self.model
        outputs = classifier(batch, ctx, {k: x for k, x in patch.items() if k not in _OWN})
        if missing := [n for n in ("logits", "mask") if n not in outputs]:
            raise UserError(f"Crf: the model has no output {missing[0]!r}: wrap a token classifier, such as Tagger")
        tap = Taps({k: x for k, x in patch.items() if k in _OWN})
        logits, mask = outputs["logits"], outputs["mask"]
        if logits.ndim != 3:
            raise UserError(f"Crf: logits have shape {list(logits.shape)}; expected [b, l, c], one row for each token")
        count = logits.shape[-1]
        start, end = (self.param(n, nn.initializers.zeros, (count,)).astype(logits.dtype) for n in ("start", "end"))
        table = self.param("transitions", nn.initializers.zeros, (count, count)).astype(logits.dtype)
        number = jnp.cumsum(mask.astype(jnp.int32), 1)
        first, last = mask & (number == 1), mask & (number == number[:, -1:])
        zero = jnp.zeros((), logits.dtype)
        edges = jnp.where(first[..., None], start, zero) + jnp.where(last[..., None], end, zero)
        emissions, transitions = tap("emissions", logits + edges), tap("transitions", table)
        tap("decoded", crf.viterbi(jax.lax.stop_gradient(emissions), jax.lax.stop_gradient(transitions), mask))
        return {**outputs, **tap.outputs}
