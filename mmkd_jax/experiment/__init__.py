"""Experiments: load, check, explain and run experiment files."""

from mmkd_jax.experiment.callbacks import Callbacks as Callbacks
from mmkd_jax.experiment.definition import Experiment as Experiment
from mmkd_jax.experiment.definition import explain as explain
from mmkd_jax.experiment.definition import load as load
from mmkd_jax.experiment.description import describe as describe
from mmkd_jax.experiment.run_folder import provenance as provenance
from mmkd_jax.experiment.runner import build_caches as build_caches
from mmkd_jax.experiment.runner import run as run
from mmkd_jax.experiment.saved import load_variables as load_variables
from mmkd_jax.run_options import RunOptions as RunOptions
