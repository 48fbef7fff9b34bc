"""Named preprocessing steps from raw inputs to columns of a batch, which a trained student takes along."""

from mmkd_jax.data.preprocess.center_crop import CenterCrop as CenterCrop
from mmkd_jax.data.preprocess.characters import Characters as Characters
from mmkd_jax.data.preprocess.log_mel import LogMel as LogMel
from mmkd_jax.data.preprocess.normalize import Normalize as Normalize
from mmkd_jax.data.preprocess.pad_or_trim import PadOrTrim as PadOrTrim
from mmkd_jax.data.preprocess.preprocessing import Preprocessing as Preprocessing
from mmkd_jax.data.preprocess.preprocessing import Step as Step
from mmkd_jax.data.preprocess.processed import Processed as Processed
from mmkd_jax.data.preprocess.read_array import ReadArray as ReadArray
from mmkd_jax.data.preprocess.read_image import ReadImage as ReadImage
from mmkd_jax.data.preprocess.read_video import ReadVideo as ReadVideo
from mmkd_jax.data.preprocess.resample import Resample as Resample
from mmkd_jax.data.preprocess.resize import Resize as Resize
from mmkd_jax.data.preprocess.row import Row as Row
from mmkd_jax.data.preprocess.standardize import Standardize as Standardize
from mmkd_jax.data.preprocess.tokenize import Tokenize as Tokenize
from mmkd_jax.data.preprocess.tokenize_words import TokenizeWords as TokenizeWords
from mmkd_jax.data.preprocess.train_tokenizer import TrainTokenizer as TrainTokenizer
