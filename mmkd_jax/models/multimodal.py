"""Encoders, a fusion and a head as one model; with one encoder, a unimodal model."""

from typing import Any

import flax.linen as nn

from mmkd_jax.batch_norm import BatchNorm
from mmkd_jax.modalities import present
from mmkd_jax.models.dropout import Dropout
from mmkd_jax.models.fusion import Concat
from mmkd_jax.models.heads import Classifier
from mmkd_jax.views import Batch, Context, Outputs, Taps


class Multimodal(nn.Module):
    """Encode each modality, fuse, embed, classify; every intermediate is returned and can be patched.

    A modality that a row lacks (`present.M` False) is zeros at the entry and in the fusion. A modality that the model
    never sees is not named.

    Attributes:
        encoders: modality -> encoder, as a dict.
        classes: number of classes.
        width: of the embedding.
        fusion: of the features; by default side by side.
        dropout: rate on the embedding.
        batch_norm: normalise the embedding.

    Example:
        >>> from mmkd_jax.models import AudioTDNN
        >>> student = Multimodal(encoders={"audio": AudioTDNN((16, 16))}, classes=10, width=16)
    """

    encoders: Any
    classes: int
    width: int = 64
    fusion: nn.Module = Concat()
    dropout: float = 0.0
    batch_norm: bool = False

    @nn.compact
    def __call__(self, batch: Batch, ctx: Context, patch: Outputs) -> Outputs:
        tap = Taps(patch)
        here = {m: present(batch, m) for m in self.encoders}
        features = {m: tap(f"features.{m}", encode(batch, m, ctx, tap)) for m, encode in self.encoders.items()}
        x = nn.Dense(self.width, use_bias=not self.batch_norm)(self.fusion(features, here, tap))
        if self.batch_norm:
            x = BatchNorm()(x, ctx)
        x = tap("embedding", nn.relu(x))
        x = Dropout(self.dropout)(x, ctx, batch["example_id"])
        tap("logits", Classifier(self.classes)(x))
        return tap.outputs
