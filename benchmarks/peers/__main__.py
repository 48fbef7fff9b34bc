"""Benchmark against torchdistill and plain PyTorch, online and cached, on the same work and from the same weights.

`pip install -e '.[peers]'`, then `python -m benchmarks.peers` prints two tables (`--rounds N` for steadier ratios,
`--without-compile` leaves out torch.compile). `setting.py` defines the work. Each variant runs in a separate process
with all cores; they take turns of a few seconds, and a round is one turn of each. A ratio is the median over rounds of
the samples per second of one variant divided by those of another, over the rounds in which other processes used at most
10 % of the machine (their number in parentheses); the ratio by CPU seconds does not depend on free cores. "loss
difference" is the largest relative difference of the first five losses from torchdistill's.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

from benchmarks.measure import QUIET, machine, print_table
from benchmarks.peers.setting import BATCH
from benchmarks.peers.worker import PRODUCTS

OURS, CACHED, PEER = "mmkd_jax", "mmkd_jax, cached", "torchdistill 1.1.5"
WAYS = (OURS, CACHED, PEER, "PyTorch")
COMPILED = ("torch.compile", "torch.compile, cached")
REQUIRED = (
    (OURS, PEER, 0.95),
    (CACHED, OURS, 4.0),
    (CACHED, PEER, 4.0),
    (OURS, COMPILED[0], 0.85),
    (CACHED, COMPILED[1], 0.7),
)


class Worker:
    """A way in a process of its own."""

    def __init__(self, name: str, folder: pathlib.Path):
        command = [sys.executable, "-m", "benchmarks.peers.worker", name, str(folder)]
        self.name = name
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.process.stdin is not None and self.process.stdout is not None
        self.stdin, self.stdout = self.process.stdin, self.process.stdout

    def ask(self, line: str) -> dict:
        """Its answer to a line."""
        self.stdin.write(line + "\n")
        self.stdin.flush()
        answer = self.stdout.readline()
        if not answer:
            raise SystemExit(f"{self.name} ended with status {self.process.wait()}; what it said stands above")
        return json.loads(answer)


def others(turn: dict) -> float:
    """The share of the machine that other processes took."""
    return max(0.0, turn["busy"] - turn["own"]) / (turn["wall"] * (os.cpu_count() or 1))


def ratio(rounds: list[dict], one: str, other: str, clock: str = "wall") -> tuple[float, list[float], int]:
    """Median of the paired ratios of two ways' speeds, their quartiles, and the number of rounds."""
    quiet = [r for r in rounds if max(others(r[one]), others(r[other])) <= QUIET] if clock == "wall" else rounds
    each = [r[one]["steps"] / r[one][clock] / (r[other]["steps"] / r[other][clock]) for r in quiet]
    if len(each) < 2:
        return float("nan"), [float("nan")] * 3, len(each)
    return statistics.median(each), statistics.quantiles(each, n=4), len(each)


def main():
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--rounds", type=int, default=10)
    words.add_argument("--seconds", type=float, default=2.5, help="of a turn")
    words.add_argument("--without-compile", action="store_true")
    given = words.parse_args()
    ways = WAYS if given.without_compile else WAYS + COMPILED
    with tempfile.TemporaryDirectory() as folder:
        preparing = Worker(OURS, pathlib.Path(folder))
        operations = preparing.ask("prepare")
        preparing.stdin.close()
        preparing.process.wait()
        workers = {name: Worker(name, pathlib.Path(folder)) for name in (*ways, "products")}
        started = {name: worker.ask("start") for name, worker in workers.items()}
        print(machine())
        rounds = []
        for i in range(given.rounds):
            turns = {}
            names = list(workers) if i % 2 == 0 else list(workers)[::-1]
            for name in names:
                time.sleep(0.3)  # threads that wait for work spin for a while
                turns[name] = workers[name].ask(str(given.seconds))
            rounds.append(turns)
        for worker in workers.values():
            worker.stdin.close()
            worker.process.wait()
    expected = started[PEER]["losses"]

    def apart(name):
        found = zip(started[name]["losses"], expected, strict=True)
        return f"{max(abs(a - b) / abs(b) for a, b in found):.1e}"

    def speeds(name):
        return [r[name]["steps"] / r[name]["wall"] for r in rounds]

    best = [PRODUCTS * x for x in speeds("products")]

    def line(name):
        work = BATCH * operations["cached" if "cached" in name else "online"]
        return (
            name,
            f"{BATCH * statistics.median(speeds(name)):.1f}",
            f"{ratio(rounds, name, PEER)[0]:.2f}",
            f"{100 * statistics.median(work * x / y for x, y in zip(speeds(name), best, strict=True)):.0f} %",
            f"{started[name]['took']:.0f}",
            f"{100 * statistics.median(others(r[name]) for r in rounds):.0f} %",
            apart(name),
        )

    print_table(
        ("", "samples/s", f"× {PEER}", "vs. matrix products", "s to first step", "other load", "loss difference"),
        map(line, ways),
    )
    online, cached = operations["online"], operations["cached"]
    print(
        f"\nmatrix products {statistics.median(best) / 1e9:.0f} GFLOP/s; a row costs {online / 1e6:.0f} M operations, "
        f"cached {cached / 1e6:.0f} M: caching can gain at most {online / cached:.1f}×\n"
    )

    def compared(one, other, least):
        (wall, quarters, number), by_cpu = ratio(rounds, one, other), ratio(rounds, one, other, "own")[0]
        spread = f"{quarters[0]:.2f}–{quarters[2]:.2f}"
        return (
            f"{one} ÷ {other}",
            f"{least:g}",
            f"{wall:.2f} ({number})",
            spread,
            f"{by_cpu:.2f}",
            apart(one),
            apart(other),
        )

    required = [a for a in REQUIRED if a[1] in ways]
    differences = ("loss difference, numerator", "denominator")
    header = ("samples/s", "required", "measured", "middle half", "by CPU seconds", *differences)
    print_table(header, (compared(*a) for a in required))


if __name__ == "__main__":
    main()
