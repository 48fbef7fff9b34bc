"""Model of encoders without fusion, for distilling pretrained and fine-tuned encoders."""

import dataclasses
from typing import Any

import flax.linen as nn

from mmkd_jax.core.modalities import present
from mmkd_jax.core.model import Batch, ModelOutputs, StepContext, Taps
from mmkd_jax.models._inputs import masked_input, of_words
from mmkd_jax.models.sentence import SentenceHead


class Encoders(nn.Module):
    """Separate encoders per modality; outputs are `features.M` and every intermediate, and those of the heads.

    Variables are named `encoders_M`, as in a `Multimodal` model with the same encoders, and `heads_NAME`.

    If the batch has `M.words`, the position of each word's first token (`data.tokenize(…, words=…)`), heads that
    classify each token have the logits of these tokens, one for each word, and `mask` is that of the words: the words
    of a teacher and of a student are the same, though their tokenizers differ. Language models keep all tokens.

    Attributes:
        encoders: modality -> encoder, as a dict.
        heads: name of an output, such as "logits" -> `TaskHead` or `SentenceHead` of a single encoder, as a dict.
            Without one of this name, `logits` is the mean of the task heads. A head with the problem "regression" and
            one logit also outputs it as `prediction` [b].

    Example:
        >>> from mmkd_jax.models import AudioTDNN
        >>> model = Encoders({"audio": AudioTDNN((16, 16))})
    """

    encoders: Any
    heads: Any = dataclasses.field(default_factory=dict)

    @property
    def class_outputs(self) -> tuple[str, ...]:
        """Outputs whose last axis has the classes of `logits`: those of the task heads with as many classes."""
        heads = {n: head for n, head in self.heads.items() if not isinstance(head, SentenceHead)}
        counts = {n: head.classes for n, head in heads.items()}
        return ("logits", *[n for n, count in counts.items() if n != "logits" and count == counts.get("logits", count)])

    def __call__(self, batch: Batch, ctx: StepContext, patch: ModelOutputs) -> ModelOutputs:
        tap = Taps(patch)
        for modality, encode in self.encoders.items():
            tap(f"features.{modality}", encode(batch, modality, ctx, tap))
        if not self.heads:
            return tap.outputs
        ((modality, encoder),) = self.encoders.items()
        mask = tap.outputs.get(f"tokens_mask.{modality}")
        if mask is None and f"{modality}.ids" in batch:
            mask = masked_input(batch, modality)[f"{modality}.mask"]
        words = masked_input(batch, modality).get(f"{modality}.words")
        encoded, logits = dict(tap.outputs), {}
        for name, head in self.heads.items():
            if isinstance(head, SentenceHead):
                tap(name, head(encoded, modality, mask))
                continue
            embedding = _tokens(encoder.variables["params"]) if head.tied else None
            made = head(encoded, modality, mask, batch["example_id"], ctx.at(name), embedding)
            if words is not None and mask is not None and head.read == "tokens" and not head.tied:
                made, here = of_words(made, mask & present(batch, modality)[:, None], words)
                if "mask" not in tap.outputs:
                    tap("mask", here)
            logits[name] = tap(name, made)
        if logits and "logits" not in logits:
            tap("logits", sum(logits.values()) / len(logits))
        if any(self.heads[name].problem == "regression" and self.heads[name].classes == 1 for name in logits):
            tap("prediction", tap.outputs["logits"][..., 0])
        return tap.outputs


def _tokens(params):
    """The table of token embeddings, which factorized encoders have in a module."""
    return (params if "tokens" in params else params["embedded"])["tokens"]["embedding"]
