"""What a step costs inside a compiled loop and as a call of its own, and convolutions in both.

`python -m benchmarks.loops` prints two tables; milliseconds, medians. The first is the student's three convolutions of
`peers/setting.py` with their gradients, XLA's own against `mmkd.nn.convolve`. The second is a step of its cached
student from data in memory, which runs in a loop, and streamed, which does not; and the page faults of a step.
"""

import pathlib
import resource
import statistics
import tempfile
import time
from functools import partial

import jax
import jax.numpy as jnp

import mmkd_jax as mmkd
from benchmarks.measure import machine, print_table
from benchmarks.peers import setting
from benchmarks.peers.ours import cached_run

TIMES, STEPS = 7, 8


def milliseconds(program, steps=1):
    """Median over some calls, by step."""
    jax.block_until_ready(program())
    taken = []
    for _ in range(TIMES):
        begun = time.perf_counter()
        jax.block_until_ready(program())
        taken.append(1e3 * (time.perf_counter() - begun) / steps)
    return statistics.median(taken)


def convolutions(name, conv):
    """Alone, and in a loop."""
    sizes = zip((3, *setting.STUDENT["image"]), setting.STUDENT["image"], strict=False)
    kernels = [0.1 * jax.random.normal(jax.random.key(i), (3, 3, *size)) for i, size in enumerate(sizes)]
    pictures = jax.random.normal(jax.random.key(9), (setting.BATCH, setting.PIXELS, setting.PIXELS, 3))

    def value(kernels):
        x = pictures
        for kernel in kernels:
            x = jax.nn.relu(conv(x, kernel))
        return jnp.mean(x**2)

    def step(kernels):
        return jax.tree.map(lambda k, g: k - 1e-6 * g, kernels, jax.grad(value)(kernels))

    alone, loop = jax.jit(step), jax.jit(lambda k: jax.lax.fori_loop(0, 2, lambda _, k: step(k), k))
    return name, f"{milliseconds(lambda: alone(kernels)):.0f}", f"{milliseconds(lambda: loop(kernels), 2):.0f}"


def steps(name, reader, folder, variables):
    """A cached student's step."""
    run = cached_run(setting.training(mmkd.CacheSpec(setting.OUTPUTS), reader), folder, variables)
    run(STEPS)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    took = milliseconds(partial(run, STEPS), STEPS)
    faults = (resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) / (STEPS * (TIMES + 1))
    return name, f"{took:.0f}", f"{faults:,.0f}"


def xla(x, kernel):
    """XLA's own."""
    layout = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(x, kernel, (2, 2), "SAME", dimension_numbers=layout)


if __name__ == "__main__":
    print(machine())
    ways = [("XLA's own", xla), ("mmkd.nn.convolve", partial(mmkd.nn.convolve, strides=2))]
    print_table(("convolutions, ms", "alone", "in a loop"), (convolutions(*way) for way in ways))
    print()
    teacher = setting.teacher_variables(setting.training())
    with tempfile.TemporaryDirectory() as folder:
        ways = [("in memory: a loop", mmkd.data.InMemory), ("streamed: calls", mmkd.data.GrainLoader)]
        rows = (steps(*way, pathlib.Path(folder), teacher) for way in ways)
        print_table(("cached step", "ms", "page faults"), rows)
