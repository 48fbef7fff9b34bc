"""Tasks: what is learned, measured and checked. To add one, write a function that returns a `Task`."""

from mmkd_jax.core.task import Task as Task
from mmkd_jax.core.task import measure as measure
from mmkd_jax.tasks._classification import classification as classification
from mmkd_jax.tasks._generation import generation as generation
from mmkd_jax.tasks._multi_label import multi_label as multi_label
from mmkd_jax.tasks._multi_task import multi_task as multi_task
from mmkd_jax.tasks._ordinal import ordinal as ordinal
from mmkd_jax.tasks._regression import regression as regression
from mmkd_jax.tasks._retrieval import retrieval as retrieval
from mmkd_jax.tasks._tagging import tagging as tagging
from mmkd_jax.tasks._visual_questions import visual_questions as visual_questions
