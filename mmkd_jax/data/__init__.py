"""Data sets and the loaders that batch them."""

from mmkd_jax.data import preprocess as preprocess
from mmkd_jax.data import text as text
from mmkd_jax.data._order import order as order
from mmkd_jax.data.commands import load_or_prepare as load_or_prepare
from mmkd_jax.data.dataset import Dataset as Dataset
from mmkd_jax.data.dataset import from_columns as from_columns
from mmkd_jax.data.dataset import load as load
from mmkd_jax.data.grain_loader import GrainLoader as GrainLoader
from mmkd_jax.data.images import Pictures as Pictures
from mmkd_jax.data.in_memory import InMemory as InMemory
from mmkd_jax.data.loader import Loader as Loader
from mmkd_jax.data.partners import Partners as Partners
from mmkd_jax.data.processing import process as process
from mmkd_jax.data.raw.from_files import from_files as from_files
from mmkd_jax.data.raw.from_huggingface import from_huggingface as from_huggingface
from mmkd_jax.data.raw.from_tfds import from_tfds as from_tfds
from mmkd_jax.data.sounds import Waves as Waves
from mmkd_jax.data.sounds import waveforms as waveforms
from mmkd_jax.data.tokenizer import Tokenizer as Tokenizer
from mmkd_jax.data.tokenizer import train_tokenizer as train_tokenizer
from mmkd_jax.data.tokenizing import tokenize as tokenize
from mmkd_jax.data.videos import Videos as Videos
from mmkd_jax.data.words import word_labels as word_labels
