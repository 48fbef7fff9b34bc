"""Multimodal model: encoders, fusion and head; with one encoder, a unimodal model."""

from collections.abc import Mapping

import flax.linen as nn

from mmkd_jax.core.modalities import present
from mmkd_jax.core.model import Batch, Encoder, ModelOutputs, StepContext, Taps
from mmkd_jax.errors import UserError, choices
from mmkd_jax.models.fusion._inputs import gives_logits, zero_absent
from mmkd_jax.models.fusion._tokens import check_masks
from mmkd_jax.models.fusion.concat import Concat
from mmkd_jax.models.heads import Classifier
from mmkd_jax.nn.batch_norm import BatchNorm
from mmkd_jax.nn.dropout import Dropout


class Multimodal(nn.Module):
    """Multimodal model: encode each modality, fuse, embed, and end with a classifier or another head.

    Every intermediate is an output and can be patched. A modality that a row lacks (`present.M` is False) is zeroed at
    the input and in the fusion. Omit modalities that the model never uses.

    Attributes:
        encoders: modality -> encoder, as a dict.
        classes: number of classes, for a linear classifier that gives `logits`; None with another head.
        width: width of the embedding.
        fusion: fusion module; concatenation by default.
        dropout: dropout rate of the embedding.
        batch_norm: apply BatchNorm to the embedding.
        head: `embedding -> outputs by name`, as from `models.head_for(task)`, in place of the classifier.
        auxiliary: add a classifier or head on the features of each modality M; its outputs are `logits.M`, or those of
            the head with `.M` after their names. Restrict losses on them to rows that have M: `where="present.M"`.

    A fusion whose attribute `output` is "logits", such as `fusion.Late`, ends the model, without an `embedding`: leave
    out `classes`, `head` and `width`.

    Example:
        >>> from mmkd_jax.models import AudioTDNN
        >>> student = Multimodal(encoders={"audio": AudioTDNN((16, 16))}, classes=10, width=16)
    """

    encoders: Mapping[str, Encoder]
    classes: int | None = None
    width: int = 64
    fusion: nn.Module = Concat()
    dropout: float = 0.0
    batch_norm: bool = False
    head: nn.Module | None = None
    auxiliary: bool = False

    @property
    def class_outputs(self) -> tuple[str, ...]:
        """Names of the outputs whose last axis has the classes."""
        each = self.auxiliary or gives_logits(self.fusion)
        return ("logits", *[f"logits.{m}" for m in self.encoders if each])

    @property
    def problem(self) -> str:
        """What the logits are for, if they are normalized by a fusion; see `Model`."""
        return "single_label_classification" if gives_logits(self.fusion) else ""

    @nn.compact
    def __call__(self, batch: Batch, ctx: StepContext, patch: ModelOutputs) -> ModelOutputs:
        tap = Taps(patch)
        masks = {m: present(batch, m) for m in self.encoders}
        features = {m: tap(f"features.{m}", encode(batch, m, ctx, tap)) for m, encode in self.encoders.items()}
        check_masks(self.fusion, self.encoders, batch, tap.outputs)
        fused = self.fusion(features, masks, tap)
        if gives_logits(self.fusion):
            tap("logits", fused)
            return tap.outputs
        x = nn.Dense(self.width, use_bias=not self.batch_norm)(fused)
        if self.batch_norm:
            x = BatchNorm()(x, ctx)
        x = tap("embedding", nn.relu(x))
        x = Dropout(self.dropout)(x, ctx, batch["example_id"])
        for name, y in self._outputs(self.head, x).items():
            tap(name, y)
        if self.auxiliary:
            for m, y in zero_absent(features, masks).items():
                head = None if self.head is None else self.head.copy(name=f"auxiliary_{m}")
                for name, z in self._outputs(head, y, f"auxiliary_{m}").items():
                    tap(f"{name}.{m}", z)
        return tap.outputs

    @nn.nowrap
    def _outputs(self, head: nn.Module | None, x, name: str | None = None):
        if head is not None:
            return head(x)
        assert self.classes is not None
        return {"logits": Classifier(self.classes, name=name)(x)}

    def __post_init__(self):
        if gives_logits(self.fusion):
            unread = {"classes": self.classes is not None, "head": self.head is not None, "auxiliary": self.auxiliary}
            unread |= {
                "width": self.width != type(self).width,
                "dropout": self.dropout != 0,
                "batch_norm": self.batch_norm,
            }
            if names := [k for k, is_set in unread.items() if is_set]:
                kind = type(self.fusion).__name__
                raise UserError(f"Multimodal: {kind} gives the logits itself; leave out {choices(names)}")
        elif (self.classes is None) == (self.head is None):
            raise UserError("Multimodal: give either classes, for a classifier, or head, such as models.head_for(task)")
        super().__post_init__()
