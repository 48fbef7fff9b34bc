"""A linear teacher and student on twelve rows, whose training takes a second."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from mmkd_jax import losses
from mmkd_jax.core.model import plain
from mmkd_jax.core.objective import combine, term
from mmkd_jax.data import GrainLoader, InMemory, from_columns
from mmkd_jax.experiment import Callbacks, Experiment, RunOptions, run
from mmkd_jax.tasks import classification
from mmkd_jax.training.roles import Frozen, Trained
from mmkd_jax.training.training import Training

ROWS, CLASSES = 12, 3


@dataclasses.dataclass(frozen=True)
class Config:
    seeds: int = 1


def columns(**changes) -> dict[str, np.ndarray]:
    draw, label = np.random.default_rng(0), (np.arange(ROWS) % CLASSES).astype(np.int32)
    x = draw.normal(size=(ROWS, 4)).astype(np.float32)
    x[:, 0] += label
    return {"x": x, "label": label} | changes


def loader(rows, stream: bool = False, batch_size: int = 4):
    rows = from_columns(rows, "made-up") if isinstance(rows, dict) else rows
    return GrainLoader(rows, batch_size) if stream else InMemory(rows, batch_size)


def model():
    return plain(
        lambda params, batch: {"logits": batch["x"] @ params["w"]},
        lambda key, batch: {"w": jax.random.normal(key, (4, CLASSES)) * jnp.float32(0.1)},
    )


def teacher_and_student(**changes) -> dict[str, Training]:
    """A trained teacher, and a student distilled from it."""
    shared: dict[str, Any] = {"data": loader(columns()), "validation": loader(columns()), "test": loader(columns())}
    shared |= {"task": classification(CLASSES), "steps": 4, "evaluate_every": 2, "save_every": 2}
    shared |= {"optimizer": optax.sgd(0.1)} | changes
    soft = term(losses.kl, student="student.logits", teacher="teacher.logits")
    task = shared["task"].objective
    return {
        "teacher": Training(models={"teacher": Trained(model())}, objective=combine(task=task("teacher")), **shared),
        "kd": Training(
            models={"teacher": Frozen(model(), init_from="teacher.teacher"), "student": Trained(model())},
            objective=combine(task=task("student"), soft=soft),
            **shared,
        ),
    }


def experiment(trainings, **more) -> Experiment:
    return Experiment("made_up", Config(), lambda config: trainings, **more)


def train(folder, trainings, *, options: Any = None, lines: list[str] | None = None, **more):
    """Run an experiment of these trainings in a folder; messages are appended to `lines`."""
    callbacks = Callbacks(log=(lines if lines is not None else []).append)
    options = dataclasses.replace(options or RunOptions(), out=folder)
    return run(experiment(trainings, **more), options=options, callbacks=callbacks)
