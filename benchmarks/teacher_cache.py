"""A cached teacher against one that runs: steps, reading, exactness.

`python -m benchmarks.teacher_cache` prints the table (`--rounds N` for steadier ratios). Made-up rows of 64 tokens and
a 64 × 64 picture that is flipped and cropped anew in each of four slots; the teacher is a Transformer of 6 layers of
384 and a CNN, the student one of 2 layers of 128 and a small CNN; cross-entropy, KL and a hint, AdamW, batches of 32
read by Grain. The two are timed in turns, some steps each; a ratio is the median over rounds, by CPU seconds of the
process and by wall clock over those rounds (their number in brackets) in which other processes took at most 10 % of the
machine. Reading is what the reader gives by itself, against what the cached student's step eats; waiting is its share
of a round. The losses of ten steps from the same start are compared; a record of the largest logits has another KL.
"""

import argparse
import pathlib
import statistics
import tempfile
from functools import partial

import flax.linen as nn
import jax
import numpy as np
import optax

from benchmarks.measure import QUIET, clocks, foreign, machine, print_table
from mmkd_jax import augment, data, losses, programs, teacher
from mmkd_jax.cache import Kept, readable
from mmkd_jax.models import Multimodal
from mmkd_jax.models.image import ImageCNN
from mmkd_jax.models.text import TextTransformer
from mmkd_jax.objective import combine, term
from mmkd_jax.part import Part
from mmkd_jax.speed import Waited
from mmkd_jax.tasks import classification
from mmkd_jax.views import linen

ROWS, BATCH, CLASSES, SLOTS = 1024, 32, 100, 4
HEADER = (
    "kept as",
    "on disk",
    "online ÷ cached, CPU",
    "wall",
    "others",
    "rows/s eaten",
    "read",
    "waiting",
    "loss apart",
)


def part(kept: Kept | None) -> Part:
    """The student's part; the teacher runs in each step without `kept`."""
    draw = np.random.default_rng(0)
    columns = {
        "image": draw.integers(0, 256, (ROWS, 64, 64, 3), dtype=np.uint8),
        "text.ids": draw.integers(0, 30_522, (ROWS, 64), dtype=np.int32),
        "text.mask": np.ones((ROWS, 64), bool),
        "label": draw.integers(0, CLASSES, ROWS, dtype=np.int32),
    }
    rows, task = data.from_columns(columns, "made-up"), classification(CLASSES)
    large = Multimodal(
        {"text": TextTransformer(30_522, 384, 6, 6), "image": ImageCNN((32, 64, 128, 192))}, CLASSES, 384
    )
    small = Multimodal({"text": TextTransformer(30_522, 128, 2, 2), "image": ImageCNN((32, 64, 128))}, CLASSES, 128)
    return Part(
        models={"teacher": linen(large), "student": linen(small)},
        objective=combine(
            task=task.objective(),
            soft=term(losses.kl, student="student.logits", teacher="teacher.logits", temperature=4),
            hint=term(
                losses.hint,
                student="student.embedding",
                teacher="teacher.embedding",
                connect={"student": nn.Dense(384)},
            ),
        ),
        optimizer=optax.adamw(1e-4),
        task=task,
        data=data.Pipeline(rows, BATCH, slots=SLOTS),
        validation=data.Memory(rows, BATCH),
        test=data.Memory(rows, BATCH),
        steps=100,
        take={"teacher": "teacher.teacher"},
        cache={} if kept is None else {"teacher": kept},
        augment=augment.Augmented((augment.images.Flip(), augment.images.Crop(4))),
    )


class Run:
    """A part in training: each call takes some steps."""

    def __init__(self, own: Part, given, reader):
        self.program, self.reader = programs.compile_part(own), reader
        self.state, self.frozen = self.program.start(jax.random.key(0), given, {})
        self.source = Waited(reader.batches(0))

    def __call__(self, steps: int) -> float:
        """The mean loss."""
        metrics = self.program.nothing(self.state, self.frozen)
        advanced = self.program.advance(self.state, metrics, self.frozen, self.source, steps)
        self.state, metrics = jax.block_until_ready(advanced)
        return float(metrics["loss"]) / steps


def timed(run, steps):
    """The clocks' advance."""
    before = clocks()
    run(steps)
    return [b - a for a, b in zip(before, clocks(), strict=True)]


def row(kept: Kept, rounds: int, folder: pathlib.Path):
    """One line of the table."""
    live, own = part(None), part(kept)
    variables = jax.jit(lambda key: live.models["teacher"].init(key, zeros(own)))(jax.random.key(7))
    name = {"part": "teacher", "model": "teacher", "seed": 0, "kept": repr(kept)}
    records, about = teacher.recorded(
        own, "teacher", folder / kept.dtype, name, lambda: variables, say=lambda line: None
    )
    reader = own.data.with_records(records, {"teacher": about})
    online, cached = Run(live, {"teacher": variables}, live.data), Run(own, {}, reader)
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
    eaten = statistics.median(steps[1] * BATCH / b[0] for _, b in seen)
    source, before = reader.batches(1), clocks()[0]
    for _ in range(200):
        next(source)
    read = 200 * BATCH / (clocks()[0] - before)
    size = sum(p.stat().st_size for p in (folder / kept.dtype).rglob("*.bin"))
    return (
        f"{kept.dtype}" + (f", {kept.top_k} largest" if kept.top_k else ""),
        readable(size),
        f"{statistics.median(ratios[1]):.2f}",
        f"{statistics.median(quiet):.2f} ({len(quiet)})" if quiet else "–",
        f"{100 * statistics.median(others):.0f} %",
        f"{eaten:,.0f}",
        f"{read:,.0f}",
        f"{100 * waiting:.1f} %",
        f"{apart:.1e}",
    )


def zeros(own: Part):
    """A batch of the part's shapes."""
    return {k: np.zeros(s.shape, s.dtype) for k, s in own.data.spec.items()}


if __name__ == "__main__":
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--rounds", type=int, default=8)
    rounds = words.parse_args().rounds
    print(machine())
    outputs = ("logits", "embedding")
    with tempfile.TemporaryDirectory() as folder:
        ways = [Kept(outputs), Kept(outputs, "float16"), Kept(outputs, "bfloat16", top_k=20, temperature=4)]
        print_table(HEADER, map(partial(row, rounds=rounds, folder=pathlib.Path(folder)), ways))
