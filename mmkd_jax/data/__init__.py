"""Data sets and the readers that turn them into batches."""

from mmkd_jax.data.commands import obtain as obtain
from mmkd_jax.data.dataset import Dataset as Dataset
from mmkd_jax.data.dataset import from_columns as from_columns
from mmkd_jax.data.dataset import load as load
from mmkd_jax.data.memory import Memory as Memory
from mmkd_jax.data.partners import Partners as Partners
from mmkd_jax.data.pipeline import Pipeline as Pipeline
from mmkd_jax.data.tokenizer import learned as learned
from mmkd_jax.data.tokenizer import tokenized as tokenized
