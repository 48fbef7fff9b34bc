"""Gradient aggregators: gradient surgery and loss balancing over an objective's terms, listed by `mmkd losses`."""

from mmkd_jax.core.aggregator import Aggregator as Aggregator
from mmkd_jax.gradients._cagrad import cagrad as cagrad
from mmkd_jax.gradients._gradnorm import gradnorm as gradnorm
from mmkd_jax.gradients._pcgrad import pcgrad as pcgrad
from mmkd_jax.gradients._total import total as total
from mmkd_jax.gradients._uncertainty import uncertainty as uncertainty
