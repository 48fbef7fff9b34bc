"""On-device data augmentation: pure functions of a batch, keyed by example and view index."""

from mmkd_jax.augment import audio as audio
from mmkd_jax.augment import images as images
from mmkd_jax.augment import mixing as mixing
from mmkd_jax.augment import modalities as modalities
from mmkd_jax.augment import operations as operations
from mmkd_jax.augment import text as text
from mmkd_jax.augment import video as video
from mmkd_jax.augment.chain import VERSION as VERSION
from mmkd_jax.augment.chain import Compose as Compose
from mmkd_jax.augment.embeddings import MixLabels as MixLabels
from mmkd_jax.augment.embeddings import mix_embeddings as mix_embeddings
