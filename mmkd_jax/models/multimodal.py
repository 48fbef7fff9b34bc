"""Multimodal model: encoders, fusion and head; with one encoder, a unimodal model."""

from collections.abc import Mapping

import flax.linen as nn

from mmkd_jax.core.modalities import present
from mmkd_jax.core.model import Batch, Encoder, ModelOutputs, StepContext, Taps
from mmkd_jax.errors import UserError
from mmkd_jax.models.fusion import Concat
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

    @nn.compact
    def __call__(self, batch: Batch, ctx: StepContext, patch: ModelOutputs) -> ModelOutputs:
        tap = Taps(patch)
        masks = {m: present(batch, m) for m in self.encoders}
        features = {m: tap(f"features.{m}", encode(batch, m, ctx, tap)) for m, encode in self.encoders.items()}
        x = nn.Dense(self.width, use_bias=not self.batch_norm)(self.fusion(features, masks, tap))
        if self.batch_norm:
            x = BatchNorm()(x, ctx)
        x = tap("embedding", nn.relu(x))
        x = Dropout(self.dropout)(x, ctx, batch["example_id"])
        if self.head is None:
            assert self.classes is not None
            tap("logits", Classifier(self.classes)(x))
            return tap.outputs
        for name, y in self.head(x).items():
            tap(name, y)
        return tap.outputs

    def __post_init__(self):
        if (self.classes is None) == (self.head is None):
            raise UserError("Multimodal: give either classes, for a classifier, or head, such as models.head_for(task)")
        super().__post_init__()
