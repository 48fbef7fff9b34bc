"""Named preprocessing steps from raw inputs to columns of a batch, which a trained student takes along."""

from mmkd_jax.data.preprocess.preprocessing import Preprocessing as Preprocessing
from mmkd_jax.data.preprocess.preprocessing import Step as Step
