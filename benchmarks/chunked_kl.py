"""KL over a large vocabulary, with all logits at once and in chunks: temporaries, time, differences.

`python -m benchmarks.chunked_kl` prints the table (`--rounds N` for steadier ratios). Value and gradients by the
student's features, head and bias are computed. Temporaries are XLA's own count for 2048 rows, without inputs and
outputs (the head's gradient is an output). The two forms are timed in turns, on fewer rows where that would take
minutes; a ratio is the median over rounds of chunked ÷ naive: by CPU seconds of the process, and by wall clock over
those rounds (their number in brackets) in which other processes took at most 10 % of the machine.
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

WIDTH, ROWS, MIB, QUIET = 256, 2048, 2**20, 0.1
TIMED = {2**14: 256, 2**15: 256, 2**16: 256, 2**17: 256, 50_000: ROWS}  # classes -> rows
MEMORY, TIME = ("naive MiB", "chunked MiB", "less"), ("naive CPU s", "chunked CPU s", "CPU", "wall", "others")
HEADER = ("classes", *MEMORY, "rows timed", *TIME, "Δ value", "Δ gradient")


def naive(student, teacher, head, teacher_head, bias):
    """The mean of `kl`."""
    return jnp.mean(losses.kl(student @ head + bias[None], teacher @ teacher_head, temperature=2.0))


def chunked(student, teacher, head, teacher_head, bias):
    """The same, never holding the logits."""
    return losses.chunked_kl(student, teacher, head, teacher_head, bias=bias, temperature=2.0)


def programs(inputs):
    """Value and gradients of both, compiled."""
    return [jax.jit(jax.value_and_grad(f, (0, 2, 4))).lower(*inputs).compile() for f in (naive, chunked)]


def draw(rows, classes):
    shapes = ((rows, WIDTH), (rows, WIDTH), (WIDTH, classes), (WIDTH, classes), (classes,))
    scales = (1, 1, WIDTH**-0.5, WIDTH**-0.5, 1)
    keys = jax.random.split(jax.random.key(0), len(shapes))
    return [x * jax.random.normal(k, s) for k, s, x in zip(keys, shapes, scales, strict=True)]


def difference(ours, plain):
    """The largest, relative to the largest magnitude."""
    return float(jnp.max(jnp.abs(ours - plain)) / jnp.max(jnp.abs(plain)))


def clocks():
    """Seconds: wall, CPU of this process, CPU of the machine over all cores (NaN where it does not tell)."""
    stat = pathlib.Path("/proc/stat")
    ticks = [int(x) for x in stat.read_text().split("\n", 1)[0].split()[1:9]] if stat.exists() else [float("nan")] * 8
    idle = ticks[3] + ticks[4]
    return time.perf_counter(), time.process_time(), (sum(ticks) - idle) / os.sysconf("SC_CLK_TCK")


def spent(program, inputs):
    """The clocks' advance in one call."""
    before = clocks()
    jax.block_until_ready(program(*inputs))
    return [b - a for a, b in zip(before, clocks(), strict=True)]


def foreign(both):
    """The share of the machine that other processes took in a round."""
    wall, own, busy = (sum(x) for x in zip(*both, strict=True))
    return max(0.0, busy - own) / (wall * (os.cpu_count() or 1))


def row(rows, classes, rounds):
    """One line of the table."""
    large = programs(jax.eval_shape(lambda: draw(ROWS, classes)))
    sizes = [p.memory_analysis().temp_size_in_bytes / MIB for p in large]
    inputs = draw(rows, classes)
    both = programs(inputs)
    (value, slopes), (our_value, our_slopes) = (p(*inputs) for p in both)
    gaps = difference(our_value, value), max(map(difference, our_slopes, slopes))
    del slopes, our_slopes
    seen = [[spent(p, inputs) for p in both] for _ in range(rounds)]
    ratios = [[ours[i] / plain[i] for plain, ours in seen] for i in range(2)]
    others = [foreign(r) for r in seen]
    quiet = [ratio for ratio, share in zip(ratios[0], others, strict=True) if not share > QUIET]
    cpu = [*(statistics.median(r[i][1] for r in seen) for i in range(2)), statistics.median(ratios[1])]
    wall = f"{statistics.median(quiet):.2f} ({len(quiet)})" if quiet else "–"
    memory = [*(f"{s:.0f}" for s in sizes), f"{sizes[0] / sizes[1]:.1f}×"]
    time_ = [*(f"{x:.2f}" for x in cpu), wall, f"{statistics.median(others):.0%}"]
    return [str(classes), *memory, str(rows), *time_, *(f"{g:.0e}" for g in gaps)]


def machine():
    """What ran this, and how busy it was."""
    info = pathlib.Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [x.partition(":")[2].strip() for x in lines if x.startswith("model name")]
    where = f"{jax.devices()[0].device_kind}, {os.cpu_count()} × {(names or [platform.machine()])[0]}"
    return f"{datetime.date.today()}, {where}, jax {jax.__version__}, load {os.getloadavg()[0]:.1f}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=6)
    rounds = parser.parse_args().rounds
    print(f"{machine()}; float32, width {WIDTH}, {rounds} rounds", end="\n\n")
    for cells in (HEADER, ["---:"] * len(HEADER)):
        print("| " + " | ".join(cells) + " |")
    for classes, rows in TIMED.items():
        print("| " + " | ".join(row(rows, classes, rounds)) + " |", flush=True)


if __name__ == "__main__":
    main()
