"""A cached teacher against one that runs: steps, reading, exactness.

`python -m benchmarks.teacher_cache` prints the table (`--rounds N` for steadier ratios). The work is that of
`peers/setting.py`, with pictures that are flipped and cropped anew in each of four views, and rows read by Grain. The
two are timed in turns, some steps each; a ratio is the median over rounds, by CPU seconds of the process and by wall
clock over those rounds (their number in brackets) in which other processes took at most 10 % of the machine. Reading is
what the reader gives by itself, against what the cached student's step eats; waiting is its share of a round. The
losses of ten steps from the same start are compared; a record of the largest logits has another KL.
"""

import argparse
import pathlib
import statistics
import tempfile
from functools import partial

import mmkd_jax as mmkd
from benchmarks.measure import QUIET, clocks, foreign, machine, print_table
from benchmarks.peers import setting
from benchmarks.peers.ours import Run, cached_run
from benchmarks.peers.setting import BATCH, OUTPUTS

SLOTS = 4
HEADER = (
    "stored as",
    "on disk",
    "online ÷ cached, CPU",
    "wall",
    "other load",
    "rows/s consumed",
    "rows/s read",
    "data wait",
    "loss difference",
)


def timed(run, steps):
    """The clocks' advance."""
    before = clocks()
    run(steps)
    return [b - a for a, b in zip(before, clocks(), strict=True)]


def row(kept: mmkd.CacheSpec, rounds: int, folder: pathlib.Path):
    """One line of the table."""
    pictures = mmkd.augment.Compose((mmkd.augment.images.RandomFlip(), mmkd.augment.images.RandomCrop(4)))
    live, own = (setting.training(k, mmkd.data.GrainLoader, pictures, num_views=SLOTS) for k in (None, kept))
    online = Run(live, setting.teacher_variables(live))
    cached = cached_run(own, folder, online.frozen["teacher"])
    apart = max(abs(online(1) - cached(1)) for _ in range(10))  # compiled by the first, ten steps of each
    steps = 4, 16
    seen = []
    cached.source.seconds = wall = 0.0
    for _ in range(rounds):
        seen.append([timed(online, steps[0]), timed(cached, steps[1])])
        wall += seen[-1][1][0]
    waiting = cached.source.seconds / wall
    ratios = [[a[i] / steps[0] / (b[i] / steps[1]) for a, b in seen] for i in range(2)]
    others = [foreign(pair) for pair in seen]
    quiet = [r for r, share in zip(ratios[0], others, strict=True) if not share > QUIET]
    consumed = statistics.median(steps[1] * BATCH / b[0] for _, b in seen)
    source, before = cached.reader.batches(1), clocks()[0]
    for _ in range(200):
        next(source)
    read = 200 * BATCH / (clocks()[0] - before)
    size = sum(p.stat().st_size for p in (folder / kept.dtype).rglob("*.bin"))
    return (
        f"{kept.dtype}" + (f", {kept.top_k} largest" if kept.top_k else ""),
        mmkd.training.readable(size),
        f"{statistics.median(ratios[1]):.2f}",
        f"{statistics.median(quiet):.2f} ({len(quiet)})" if quiet else "–",
        f"{100 * statistics.median(others):.0f} %",
        f"{consumed:,.0f}",
        f"{read:,.0f}",
        f"{100 * waiting:.1f} %",
        f"{apart:.1e}",
    )


if __name__ == "__main__":
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--rounds", type=int, default=8)
    rounds = words.parse_args().rounds
    print(machine())
    with tempfile.TemporaryDirectory() as folder:
        ways = [
            mmkd.CacheSpec(OUTPUTS),
            mmkd.CacheSpec(OUTPUTS, "float16"),
            mmkd.CacheSpec(OUTPUTS, "bfloat16", top_k=20, temperature=setting.TEMPERATURE),
        ]
        print_table(HEADER, map(partial(row, rounds=rounds, folder=pathlib.Path(folder)), ways))
