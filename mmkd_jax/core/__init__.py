"""Models, outputs, objectives, state and the training step, as pure functions and explicit values."""

from mmkd_jax.core import generation as generation
from mmkd_jax.core import hyperparams as hyperparams
from mmkd_jax.core import modalities as modalities
from mmkd_jax.core import population as population
from mmkd_jax.core import sharding as sharding
from mmkd_jax.core import soft_logic as soft_logic
