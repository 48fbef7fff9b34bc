"""Data larger than memory: peak memory of a pass over pictures that `from_files` prepared.

`python -m benchmarks.own_files`: makes a table with pictures, prepares it, and streams it with GrainLoader through a
training-like pass, each in a process whose heap may not grow above a bound (`RLIMIT_DATA`) that is smaller than the
prepared rows. Prints the size of the rows, and of each process the seconds, the rows per second, and the peak of its
memory without the pages of the mapped file, which the system takes back when it needs them.
"""

import argparse
import pathlib
import resource
import subprocess
import sys
import tempfile
import threading
import time

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

import mmkd_jax as mmkd
from benchmarks.measure import MIB, machine, print_table

SIDE, DISTINCT, BATCH = 256, 64, 64


def make(folder, rows):
    """Write a table of pictures of noise; files repeat, so that the disk has to hold the prepared rows alone."""
    draw = np.random.default_rng(0)
    for i in range(DISTINCT):
        pixels = draw.integers(0, 256, (SIDE // 4, SIDE // 4, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.png")
    lines = [f"{i % DISTINCT}.png,{i % 3}" for i in range(rows)]
    (folder / "table.csv").write_text("\n".join(["photo,label", *lines]) + "\n")


def read(folder):
    """The prepared data set."""
    steps = (mmkd.data.preprocess.ReadImage(), mmkd.data.preprocess.Resize((SIDE, SIDE)))
    return mmkd.data.from_files(
        folder / "table.csv", {"photo": steps}, label="label", cache=folder, log=lambda line: None
    )["train"]


def streamed(rows):
    """A pass over all rows: each batch goes to the device and through a product."""
    score = jax.jit(lambda x: jnp.mean(x.astype(jnp.float32).reshape(len(x), -1) @ jnp.ones((3 * SIDE**2, 4))))
    total = 0.0
    batches = iter(mmkd.data.GrainLoader(rows, BATCH).batches(0))
    for _ in range(rows.size // BATCH):
        total += float(score(jnp.asarray(next(batches)["photo"])))
    return total


def anonymous():
    """Bytes of memory of this process that are no pages of files."""
    lines = pathlib.Path("/proc/self/status").read_text().splitlines()
    return sum(1024 * int(x.split()[1]) for x in lines if x.startswith(("RssAnon", "RssShmem")))


def work(folder, job, bound):
    """Prepare or stream under a memory bound, and print the seconds and the peak; runs in a subprocess."""
    resource.setrlimit(resource.RLIMIT_DATA, (bound, bound))
    peak, over = [0], threading.Event()

    def watch():
        while not over.wait(0.02):
            peak[0] = max(peak[0], anonymous())

    watcher = threading.Thread(target=watch)
    watcher.start()
    began = time.perf_counter()
    rows = read(folder)
    if job == "stream":
        began = time.perf_counter()
        streamed(rows)
    seconds = time.perf_counter() - began
    over.set()
    watcher.join()
    print(seconds, peak[0])


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=8_192)
    parser.add_argument("--bound", type=int, default=1_200, help="MiB of a process")
    parser.add_argument("--work", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        return work(pathlib.Path(options.work[0]), options.work[1], options.bound * MIB)
    size = options.rows * 3 * SIDE**2 / MIB
    assert size > options.bound, f"{size:.0f} MiB of rows are no more than the bound, {options.bound} MiB"
    print(f"{machine()}; {options.rows:,} rows, {size:,.0f} MiB; at most {options.bound:,} MiB in a process\n")
    with tempfile.TemporaryDirectory() as place:
        make(pathlib.Path(place), options.rows)
        cells = []
        for job in ("prepare", "stream"):
            words = [sys.executable, "-m", "benchmarks.own_files", "--bound", str(options.bound), "--work", place, job]
            done = subprocess.run(words, capture_output=True, text=True)
            assert done.returncode == 0, done.stderr
            seconds, peak = map(float, done.stdout.split())
            cells.append([job, f"{seconds:.1f}", f"{options.rows / seconds:,.0f}", f"{peak / MIB:,.0f}"])
    print_table(["", "s", "rows/s", "peak, MiB"], cells)


if __name__ == "__main__":
    main()
