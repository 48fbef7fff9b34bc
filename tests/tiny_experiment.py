"""A teacher and a student on 48 made-up rows: an experiment that takes seconds."""

import dataclasses
import sys
from typing import Any

import numpy as np
import optax

from mmkd_jax import cli, data, losses
from mmkd_jax.core.model import linen
from mmkd_jax.core.objective import combine, term
from mmkd_jax.models import Multimodal
from mmkd_jax.models.image import ImageMLP
from mmkd_jax.tasks import classification
from mmkd_jax.training.roles import Frozen, Trained
from mmkd_jax.training.training import Training


@dataclasses.dataclass(frozen=True)
class Config:
    """Tiny."""

    seeds: int = 2
    steps: int = 60
    width: int = 4
    stream: bool = False
    """Read by Grain instead of from memory."""
    classes: int = 3
    cached: bool = False
    """The teacher's answers are kept on disk."""


config = Config()
baseline = "teacher"


def trainings(config: Config) -> dict[str, Training]:
    draw = np.random.default_rng(0)
    columns = {"image": draw.random((48, 3, 3, 1), np.float32), "label": (np.arange(48) % 3).astype(np.int32)}
    rows = data.from_columns(columns, "made-up")
    task = classification(config.classes)
    reader = data.GrainLoader(rows, 16) if config.stream else data.InMemory(rows, 16)
    whole = data.InMemory(rows, 20)
    shared: dict[str, Any] = {"task": task, "steps": config.steps, "evaluate_every": 5, "save_every": 10}
    shared |= {"data": reader, "validation": whole, "test": whole}
    nets = {
        n: linen(Multimodal({"image": ImageMLP((w,))}, config.classes, w))
        for n, w in (("teacher", 8), ("student", config.width))
    }
    return {
        "teacher": Training(
            models={"teacher": Trained(nets["teacher"])},
            objective=combine(task=task.objective("teacher")),
            optimizer=optax.adam(1e-2),
            **shared,
        ),
        "student": Training(
            models={
                "teacher": Frozen(
                    nets["teacher"], init_from="teacher.teacher", cache=("logits",) if config.cached else None
                ),
                "student": Trained(nets["student"]),
            },
            objective=combine(
                task=task.objective(),
                soft=term(losses.kl, student="student.logits", teacher="teacher.logits", temperature=2),
            ),
            optimizer=optax.adam(1e-2),
            **shared,
        ),
    }


if __name__ == "__main__":
    cli.main(["run", __file__, *sys.argv[1:]])
