"""Fusions: Linen modules `(features by modality, presence masks, tap) -> fused` [b, d]."""

from mmkd_jax.models.fusion.bottleneck import Bottleneck as Bottleneck
from mmkd_jax.models.fusion.concat import Concat as Concat
from mmkd_jax.models.fusion.cross_modal import CrossModal as CrossModal
from mmkd_jax.models.fusion.gated import Gated as Gated
from mmkd_jax.models.fusion.perceiver import Perceiver as Perceiver
