"""Model of encoders without fusion, for distilling pretrained and fine-tuned encoders."""

import dataclasses
from typing import Any

import flax.linen as nn

from mmkd_jax.core.model import Batch, ModelOutputs, StepContext, Taps
from mmkd_jax.models._inputs import masked_input
from mmkd_jax.models.sentence import SentenceHead


class Encoders(nn.Module):
    """Separate encoders per modality; outputs are `features.M` and every intermediate, and those of the heads.

    Variables are named `encoders_M`, as in a `Multimodal` model with the same encoders, and `heads_NAME`.

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
        encoded, logits = dict(tap.outputs), {}
        for name, head in self.heads.items():
            if isinstance(head, SentenceHead):
                tap(name, head(encoded, modality, mask))
                continue
            embedding = _tokens(encoder.variables["params"]) if head.tied else None
            made = head(encoded, modality, mask, batch["example_id"], ctx.at(name), embedding)
            logits[name] = tap(name, made)
        if logits and "logits" not in logits:
            tap("logits", sum(logits.values()) / len(logits))
        if any(self.heads[name].problem == "regression" and self.heads[name].classes == 1 for name in logits):
            tap("prediction", tap.outputs["logits"][..., 0])
        return tap.outputs


def _tokens(params):
    """The table of token embeddings, which factorized encoders have in a module."""
    return (params if "tokens" in params else params["embedded"])["tokens"]["embedding"]
