"""Fusions: Linen modules `(features by modality, presence masks, tap) -> fused` [b, d]."""

from mmkd_jax.models.fusion.attention import Attention as Attention
from mmkd_jax.models.fusion.bottleneck import Bottleneck as Bottleneck
from mmkd_jax.models.fusion.concat import Concat as Concat
from mmkd_jax.models.fusion.cross_modal import CrossModal as CrossModal
from mmkd_jax.models.fusion.film import FiLM as FiLM
from mmkd_jax.models.fusion.gated import Gated as Gated
from mmkd_jax.models.fusion.gmu import GMU as GMU
from mmkd_jax.models.fusion.late import Late as Late
from mmkd_jax.models.fusion.low_rank import LowRank as LowRank
from mmkd_jax.models.fusion.mixer import Mixer as Mixer
from mmkd_jax.models.fusion.moe import MoE as MoE
from mmkd_jax.models.fusion.multiplicative import Multiplicative as Multiplicative
from mmkd_jax.models.fusion.orthogonal import Orthogonal as Orthogonal
from mmkd_jax.models.fusion.perceiver import Perceiver as Perceiver
from mmkd_jax.models.fusion.sum import Sum as Sum
from mmkd_jax.models.fusion.tensor_fusion import TensorFusion as TensorFusion
