"""Fusions: Linen modules `(features by modality, presence masks, tap) -> fused` [b, d]."""

from mmkd_jax.models.fusion.concat import Concat as Concat
from mmkd_jax.models.fusion.gated import Gated as Gated
