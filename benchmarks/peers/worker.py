"""One way to do the work in a process of its own: `python -m benchmarks.peers.worker NAME FOLDER`.

Answers each line of its input with a line of JSON: `prepare`, `start` (how long it took until the first step was done,
and the first five losses), or a number of seconds, for which it trains.
"""

import json
import pathlib
import sys
import time

from benchmarks.measure import clocks

COUNTED = 5  # losses that are compared
ROWS, WIDTHS, TIMES = 2048, (384, 1536), 50
PRODUCTS = TIMES * 2 * ROWS * WIDTHS[0] * WIDTHS[1]  # operations of a step of `products`


def ready(name: str, folder: pathlib.Path):
    """`run(steps) -> mean loss`."""
    if name == "products":
        return products()
    if name.startswith("mmkd"):
        from benchmarks.peers import ours

        return ours.online() if name == "mmkd_jax" else ours.cached(folder)
    from benchmarks.peers import theirs

    if name.startswith("torchdistill"):
        return theirs.torchdistill(folder)
    return theirs.plain(folder, cached="cached" in name, compiled="compile" in name)


def products():
    """Matrix products of the teacher's largest shape: what this machine can do at best."""
    import torch

    rows, weights = torch.randn(ROWS, WIDTHS[0]), torch.randn(WIDTHS)

    def run(steps):
        for _ in range(TIMES * steps):
            torch.mm(rows, weights)
        return 0.0

    return run


def slice_of(run, seconds: float) -> dict[str, float]:
    """Train for about so long."""
    before, steps, more = clocks(), 0, 1
    while True:
        run(more)
        steps += more
        wall, own, busy = (b - a for a, b in zip(before, clocks(), strict=True))
        if wall >= seconds:
            return {"steps": steps, "wall": wall, "own": own, "busy": busy}
        more = max(1, min(4 * steps, round(steps * (seconds - wall) / wall)))


def main():
    name, folder = sys.argv[1], pathlib.Path(sys.argv[2])
    run = None
    for line in sys.stdin:
        if line.strip() == "prepare":
            from benchmarks.peers import ours

            answer = ours.prepare(folder)
        elif line.strip() == "start":
            begun = time.perf_counter()
            run = ready(name, folder)
            losses, took = [run(1)], time.perf_counter() - begun
            answer = {"losses": losses + [run(1) for _ in range(COUNTED - 1)], "took": took}
        else:
            answer = slice_of(run, float(line))
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
