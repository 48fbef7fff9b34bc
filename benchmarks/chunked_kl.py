"""KL over a large vocabulary, with all logits at once and in chunks: temporaries, time, differences.

`python -m benchmarks.chunked_kl` prints the table (`--rounds N` for steadier ratios). Value and gradients by the
student's features, head and bias are computed. Temporaries are XLA's own count for 2048 rows, without inputs and
outputs (the head's gradient is an output). The two forms are timed in turns, on fewer rows where that would take
minutes; a ratio is the median over rounds of chunked ÷ naive: by CPU seconds of the process, and by wall clock over
those rounds (their number in brackets) in which other processes took at most 10 % of the machine.
"""

import argparse
import statistics

import jax
import jax.numpy as jnp

import mmkd_jax as mmkd
from benchmarks.measure import MIB, QUIET, difference, foreign, machine, print_table, spent, temporaries

WIDTH, ROWS = 256, 2048
TIMED = {2**14: 256, 2**15: 256, 2**16: 256, 2**17: 256, 50_000: ROWS}  # classes -> rows
MEMORY, TIME = ("naive MiB", "chunked MiB", "saving"), ("naive CPU s", "chunked CPU s", "CPU", "wall", "other load")
HEADER = ("classes", *MEMORY, "rows timed", *TIME, "Δ value", "Δ gradient")


def naive(student, teacher, head, teacher_head, bias):
    """The mean of `kl`."""
    return jnp.mean(mmkd.losses.kl(student @ head + bias[None], teacher @ teacher_head, temperature=2.0))


def chunked(student, teacher, head, teacher_head, bias):
    """The same, never holding the logits."""
    return mmkd.losses.chunked_kl(student, teacher, head, teacher_head, bias=bias, temperature=2.0)


def programs(inputs):
    """Value and gradients of both, compiled."""
    return [jax.jit(jax.value_and_grad(f, (0, 2, 4))).lower(*inputs).compile() for f in (naive, chunked)]


def draw(rows, classes):
    shapes = ((rows, WIDTH), (rows, WIDTH), (WIDTH, classes), (WIDTH, classes), (classes,))
    scales = (1, 1, WIDTH**-0.5, WIDTH**-0.5, 1)
    keys = jax.random.split(jax.random.key(0), len(shapes))
    return [x * jax.random.normal(k, s) for k, s, x in zip(keys, shapes, scales, strict=True)]


def row(rows, classes, rounds):
    """One line of the table."""
    large = programs(jax.eval_shape(lambda: draw(ROWS, classes)))
    sizes = [temporaries(p) / MIB for p in large]
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
    state = [*(f"{s:.0f}" for s in sizes), f"{sizes[0] / sizes[1]:.1f}×"]
    time_ = [*(f"{x:.2f}" for x in cpu), wall, f"{statistics.median(others):.0%}"]
    return [str(classes), *state, str(rows), *time_, *(f"{g:.0e}" for g in gaps)]


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=6)
    rounds = parser.parse_args().rounds
    print(f"{machine()}; float32, width {WIDTH}, {rounds} rounds", end="\n\n")
    print_table(HEADER, (row(rows, classes, rounds) for classes, rows in TIMED.items()))


if __name__ == "__main__":
    main()
