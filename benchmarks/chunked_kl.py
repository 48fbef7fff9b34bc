"""KL over a large vocabulary, with all logits at once and in chunks: temporaries, time, differences.

`python -m benchmarks.chunked_kl` prints the table (`--rounds N` for steadier ratios). The two forms take turns; a ratio
is the median over rounds of chunked ÷ naive, of wall time and of the process's CPU time, which other load disturbs less.
Value and gradients by the student's features, head and bias are computed; temporaries are XLA's own count, without
inputs and outputs (the gradient of the head is an output).
"""

import argparse
import datetime
import os
import pathlib
import platform
import statistics
import time

import jax
import jax.numpy as jnp

from mmkd_jax import losses

WIDTH = 256
SHAPES = ((256, 2**14), (256, 2**15), (256, 2**16), (256, 2**17), (2048, 50_000))  # rows, classes
MIB = 2**20


def naive(student, teacher, head, teacher_head, bias):
    """The mean of `kl`."""
    return jnp.mean(losses.kl(student @ head + bias[None], teacher @ teacher_head, temperature=2.0))


def chunked(student, teacher, head, teacher_head, bias):
    """The same, never holding the logits."""
    return losses.chunked_kl(student, teacher, head, teacher_head, bias=bias, temperature=2.0)


def program(loss, inputs):
    """Value and gradients, compiled."""
    return jax.jit(jax.value_and_grad(loss, (0, 2, 4))).lower(*inputs).compile()


def arrays(rows, classes):
    shapes = ((rows, WIDTH), (rows, WIDTH), (WIDTH, classes), (WIDTH, classes), (classes,))
    keys = jax.random.split(jax.random.key(0), len(shapes))
    scale = (1, 1, WIDTH**-0.5, WIDTH**-0.5, 1)
    return [s * jax.random.normal(k, shape) for k, shape, s in zip(keys, shapes, scale, strict=True)]


def clocks(compiled, inputs):
    """Wall and CPU seconds of one call."""
    wall, cpu = time.perf_counter(), time.process_time()
    jax.block_until_ready(compiled(*inputs))
    return time.perf_counter() - wall, time.process_time() - cpu


def row(rows, classes, rounds):
    """One line of the table."""
    inputs = arrays(rows, classes)
    programs = [program(loss, inputs) for loss in (naive, chunked)]
    outputs = [jax.tree.leaves(p(*inputs)) for p in programs]
    largest = [float(jnp.max(jnp.abs(a - b))) for a, b in zip(*outputs, strict=True)]
    del outputs
    seen = [[clocks(p, inputs) for p in programs] for _ in range(rounds)]
    wall, cpu = (statistics.median(ours[i] / plain[i] for plain, ours in seen) for i in range(2))
    seconds = (statistics.median(r[i][0] for r in seen) for i in range(2))
    sizes = [p.memory_analysis().temp_size_in_bytes / MIB for p in programs]
    cells = [f"{rows} × {classes}", *(f"{s:.0f}" for s in sizes), f"{sizes[0] / sizes[1]:.1f}×"]
    cells += [
        *(f"{s:.2f}" for s in seconds),
        f"{wall:.2f}",
        f"{cpu:.2f}",
        f"{largest[0]:.0e}",
        f"{max(largest[1:]):.0e}",
    ]
    return "| " + " | ".join(cells) + " |"


def machine():
    """What ran this."""
    info = pathlib.Path("/proc/cpuinfo")
    names = [x.partition(":")[2].strip() for x in info.read_text().splitlines() if x.startswith("model name")]
    load = f"load {os.getloadavg()[0]:.1f}"
    device = jax.devices()[0].device_kind
    return f"{datetime.date.today()}, {device}, {os.cpu_count()} × {(names or [platform.machine()])[0]}, {load}, jax {jax.__version__}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=6)
    rounds = parser.parse_args().rounds
    print(f"{machine()}; float32, width {WIDTH}, {rounds} rounds", end="\n\n")
    print(
        "| rows × classes | naive MiB | chunked MiB | less | naive s | chunked s | wall | CPU | Δ value | Δ gradient |"
    )
    print("|" + " ---: |" * 10)
    for rows, classes in SHAPES:
        print(row(rows, classes, rounds), flush=True)


if __name__ == "__main__":
    main()
