"""Training: compiled programs, the training loop, checkpoints, and cached teacher outputs."""

from mmkd_jax.training.checkpoint import Checkpoints as Checkpoints
from mmkd_jax.training.compiled import Program as Program
from mmkd_jax.training.compiled import compile_training as compile_training
from mmkd_jax.training.init_from import PretrainedVariables as PretrainedVariables
from mmkd_jax.training.loop import Interrupted as Interrupted
from mmkd_jax.training.loop import fit as fit
from mmkd_jax.training.memory import readable as readable
from mmkd_jax.training.operations import flops as flops
from mmkd_jax.training.teacher_cache import CacheSpec as CacheSpec
from mmkd_jax.training.teacher_outputs import recorded as recorded
from mmkd_jax.training.throughput import Waited as Waited
from mmkd_jax.training.training import Training as Training
from mmkd_jax.variables_file import read_variables as read_variables
from mmkd_jax.variables_file import write_variables as write_variables
