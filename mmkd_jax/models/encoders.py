"""Model of encoders without fusion and head, for distilling the features of pretrained encoders."""

from typing import Any

import flax.linen as nn

from mmkd_jax.core.model import Batch, ModelOutputs, StepContext, Taps


class Encoders(nn.Module):
    """Separate encoders per modality; outputs are `features.M` and every intermediate.

    Variables are named `encoders_M`, as in a `Multimodal` model with the same encoders.

    Attributes:
        encoders: modality -> encoder, as a dict.

    Example:
        >>> from mmkd_jax.models import AudioTDNN
        >>> model = Encoders({"audio": AudioTDNN((16, 16))})
    """

    encoders: Any

    def __call__(self, batch: Batch, ctx: StepContext, patch: ModelOutputs) -> ModelOutputs:
        tap = Taps(patch)
        for modality, encode in self.encoders.items():
            tap(f"features.{modality}", encode(batch, modality, ctx, tap))
        return tap.outputs
