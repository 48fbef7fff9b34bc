"""Trained students in use: their folder, predictions, and exported programs."""

from mmkd_jax.deploy.quantization import qat as qat
from mmkd_jax.deploy.student import Predictions as Predictions
from mmkd_jax.deploy.student import Student as Student
from mmkd_jax.deploy.student import load as load
