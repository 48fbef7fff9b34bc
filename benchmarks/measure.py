"""What the benchmarks share: clocks, the machine, how far two results are apart, a table."""

import datetime
import os
import pathlib
import platform
import time

import jax
import jax.numpy as jnp

MIB = 2**20
QUIET = 0.1  # share of the machine that others may take in a round whose wall clock counts


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


def temporaries(program) -> int:
    """Bytes that a compiled program needs beside its inputs and outputs."""
    stats = program.memory_analysis()
    assert stats is not None
    return stats.temp_size_in_bytes


def foreign(both):
    """The share of the machine that other processes took in a round."""
    wall, own, busy = (sum(x) for x in zip(*both, strict=True))
    return max(0.0, busy - own) / (wall * (os.cpu_count() or 1))


def machine():
    """What ran this, and how busy it was."""
    info = pathlib.Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [x.partition(":")[2].strip() for x in lines if x.startswith("model name")]
    where = f"{jax.devices()[0].device_kind}, {os.cpu_count()} × {(names or [platform.machine()])[0]}"
    return f"{datetime.date.today()}, {where}, jax {jax.__version__}, load {os.getloadavg()[0]:.1f}"


def print_table(header, rows):
    """In Markdown, a line as soon as it is known."""
    for cells in (header, ["---:"] * len(header)):
        print("| " + " | ".join(cells) + " |")
    for cells in rows:
        print("| " + " | ".join(cells) + " |", flush=True)
