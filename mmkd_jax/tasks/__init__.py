"""Tasks: what is learned, measured and checked. To add one, write a function that returns a `Task`."""

from mmkd_jax.core.task import Task as Task
from mmkd_jax.core.task import measure as measure
from mmkd_jax.tasks._tagging import tagging as tagging
from mmkd_jax.tasks.classification import classification as classification
from mmkd_jax.tasks.regression import regression as regression
