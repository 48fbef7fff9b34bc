"""Encoders as a model without fusion and head: what a pretrained encoder gives, to be distilled as it is."""

from typing import Any

import flax.linen as nn

from mmkd_jax.views import Batch, Context, Outputs, Taps


class Encoders(nn.Module):
    """Each modality's encoder by itself; the outputs are `features.M` and every intermediate.

    The variables have the names that they have in `Multimodal` with the same encoders, `encoders_M`.

    Attributes:
        encoders: modality -> encoder, as a dict.

    Example:
        >>> from mmkd_jax.models import AudioTDNN
        >>> model = Encoders({"audio": AudioTDNN((16, 16))})
    """

    encoders: Any

    def __call__(self, batch: Batch, ctx: Context, patch: Outputs) -> Outputs:
        tap = Taps(patch)
        for modality, encode in self.encoders.items():
            tap(f"features.{modality}", encode(batch, modality, ctx, tap))
        return tap.outputs
