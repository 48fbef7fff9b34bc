"""Load pretrained Hugging Face encoders as Flax Linen modules, and save them again, without PyTorch."""

from mmkd_jax.child_process import Limits as Limits
from mmkd_jax.pretrained import packages as packages
from mmkd_jax.pretrained import selection as selection
from mmkd_jax.pretrained.fresh_head import with_head as with_head
from mmkd_jax.pretrained.head_tensors import HEADS as HEADS
from mmkd_jax.pretrained.inheritance import Inheritance as Inheritance
from mmkd_jax.pretrained.inputs import with_inputs as with_inputs
from mmkd_jax.pretrained.loading import FAMILIES as FAMILIES
from mmkd_jax.pretrained.loading import Pretrained as Pretrained
from mmkd_jax.pretrained.loading import init_from as init_from
from mmkd_jax.pretrained.loading import initial as initial
from mmkd_jax.pretrained.loading import load as load
from mmkd_jax.pretrained.loading import save as save
from mmkd_jax.pretrained.origins import SubNetwork as SubNetwork
from mmkd_jax.pretrained.prompts import zero_shot as zero_shot
from mmkd_jax.pretrained.soft_prompts import with_prompts as with_prompts
