"""Augmentations on the device: pure functions of a batch, keyed by example and slot."""

from mmkd_jax.augment import images as images
from mmkd_jax.augment import modalities as modalities
from mmkd_jax.augment.chain import VERSION as VERSION
from mmkd_jax.augment.chain import Augmented as Augmented
