"""Collectives side by side on virtual devices never wait for a thread."""

import os
import pathlib
import subprocess
import sys

PROGRAM = """
import functools, jax, jax.numpy as jnp, numpy as np
from jax.sharding import PartitionSpec as P
from mmkd_jax.core import sharding
jax.config.update("jax_num_cpu_devices", 4)
sharding.threads_for_devices()
mesh = sharding.make_mesh()

@jax.jit
@functools.partial(jax.shard_map, mesh=mesh, in_specs=P("data"), out_specs=P("data"))
def step(x):
    branches = [jnp.tanh(x * (i + 1)) @ jnp.ones((64, 64)) for i in range(6)]
    return 1e-6 * sum(jax.lax.psum(y, "data") + jax.lax.all_gather(y, "data").sum(0) for y in branches)

x = sharding.shard_batch(np.ones((256, 64), np.float32), mesh)
for _ in range(300):
    x = step(x)
print(float(x.sum()))
"""


def test_more_collectives_at_a_time_than_threads_by_default():
    """On one core XLA's default aborts here within the first steps."""
    root = pathlib.Path(__file__).parent.parent.parent
    environment = {**os.environ, "PYTHONPATH": str(root), "JAX_PLATFORMS": "cpu"}
    environment.pop("NPROC", None)
    environment["XLA_FLAGS"] = " ".join(
        f"--xla_cpu_collective_call_{name}_timeout_seconds={seconds}"
        for name, seconds in (("warn_stuck", 5), ("terminate", 20))
    )
    one_core = (
        "import os; hasattr(os, 'sched_setaffinity') and os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
    )
    done = subprocess.run([sys.executable, "-c", one_core + PROGRAM], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
