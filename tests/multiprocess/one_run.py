"""A training with all that is hard to move between devices, trained up to a step: `one_run.py FOLDER STEP`.

It has a bank spread over the devices, statistics of BatchNorm, dropout, a connector, a moving average, momentum.
Prints a JSON line: the losses of all steps so far, and the rows of the next batch.
"""

import contextlib
import json
import sys

import flax.linen as nn
import jax
import numpy as np
import optax

from mmkd_jax import data, losses, methods
from mmkd_jax.core import sharding
from mmkd_jax.core.model import linen
from mmkd_jax.core.objective import combine, term
from mmkd_jax.models import Multimodal
from mmkd_jax.models.image import ImageMLP
from mmkd_jax.tasks import classification
from mmkd_jax.training import compiled, loop
from mmkd_jax.training.checkpoint import Checkpoints
from mmkd_jax.training.roles import Frozen, MovingAverage, Trained
from mmkd_jax.training.training import Training


def training() -> Training:
    draw = np.random.default_rng(0)
    columns = {"image": draw.random((96, 3, 3, 1), np.float32), "label": (np.arange(96) % 3).astype(np.int32)}
    rows, task = data.from_columns(columns, "made-up"), classification(3)
    teacher = linen(Multimodal({"image": ImageMLP((8,))}, 3, 8))
    student = linen(Multimodal({"image": ImageMLP((4,))}, 3, 4, batch_norm=True, dropout=0.2))
    return Training(
        models={
            "teacher": Frozen(teacher),
            "student": Trained(student),
            "slow": MovingAverage(of="student", decay=0.9),
        },
        objective=combine(
            task=task.objective(),
            soft=term(losses.kl, student="student.logits", teacher="teacher.logits", temperature=2),
            slow=term(losses.kl, student="student.logits", teacher="slow.logits"),
            far=methods.crd(96, width=4, negatives=8, student="student.embedding", teacher="teacher.embedding"),
            hint=term(
                losses.hint,
                student="student.embedding",
                teacher="teacher.embedding",
                connect={"student": nn.Dense(8)},
            ),
        ),
        optimizer=optax.sgd(1e-2, momentum=0.9),  # Adam would blow rounding up where gradients are zero
        task=task,
        data=data.InMemory(rows, 24),
        validation=data.InMemory(rows, 96),
        test=data.InMemory(rows, 96),
        steps=20,
        evaluate_every=1,
        save_every=3,
    )


if __name__ == "__main__":
    folder, until = sys.argv[1], int(sys.argv[2])
    sharding.threads_for_devices()
    mine, seen = training(), []
    with contextlib.closing(Checkpoints(folder)) as checkpoints, contextlib.suppress(loop.Interrupted):
        loop.fit(
            mine,
            compiled.compile_training(mine),
            0,
            checkpoints,
            on_metrics=lambda step, row, speed: seen.append((step, row["loss"])),
            log=lambda line: print(line, file=sys.stderr),
            should_stop=lambda: bool(seen) and seen[-1][0] >= until,
        )
    batch = next(mine.data.batches(0, until))
    print(json.dumps({"devices": jax.device_count(), "losses": seen, "rows": np.asarray(batch["example_id"]).tolist()}))
