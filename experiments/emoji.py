"""Emoji in eight groups: a teacher that sees and reads, both pretrained; small students that see, or read.

    mmkd run experiments/emoji.py

A quarter of the training emoji have a group; the others only their picture and name. The teacher is EfficientNet-Lite0
and MiniLM, tuned on that quarter; a student sees the picture at half its size, or reads the name by words of its own.
"""

import dataclasses
import sys

import jax.numpy as jnp
import numpy as np
import optax

from mmkd_jax import cli, data, losses, pretrained
from mmkd_jax.models import ImageCNN, Multimodal, TextLSTM
from mmkd_jax.objective import combine, term
from mmkd_jax.part import Part
from mmkd_jax.pretrained import packages
from mmkd_jax.tasks import classification
from mmkd_jax.views import linen, with_input


@dataclasses.dataclass(frozen=True)
class Config:
    """Emoji."""

    seeds: int = 5
    """Runs of each part."""
    labels: int = 240
    """Emoji of which the group is known."""
    steps: int = 800
    """Updates of each student; the teacher takes an eighth of them."""
    batch: int = 64
    """Rows of a student's batch; the teacher's has half."""
    learning_rate: float = 3e-3
    """Peak learning rate of the students."""
    tuning_rate: float = 2e-4
    """Peak learning rate of the teacher."""


config = Config()
baseline = "sees_labels"


def halved(batch, ctx):
    """Pictures of half the height and width: the mean of four pixels."""
    b, h, w, c = batch["image"].shape
    small = batch["image"].astype(jnp.float32).reshape(b, h // 2, 2, w // 2, 2, c).mean((2, 4)) / 255
    return {**batch, "image": small}


def parts(config: Config) -> dict[str, Part]:
    emoji = {split: data.obtain("emoji", split) for split in ("train", "validation", "test")}
    minilm, efficientnet = pretrained.load(packages.minilm()), pretrained.load(packages.efficientnet_lite0())
    words = data.learned(emoji["train"].columns["text"].tolist(), size=1_000, length=8, modality="words")
    read = {k: data.tokenized(rows, {minilm.processor: 16, words: 8}) for k, rows in emoji.items()}
    known = np.random.default_rng(0).permutation(read["train"].size) < config.labels
    every = read["train"].with_columns(labelled=known)
    few = every.where("labelled")
    task = classification(8)
    teacher = linen(Multimodal({**efficientnet.module.encoders, **minilm.module.encoders}, classes=8))
    students = {
        "sees": with_input(linen(Multimodal({"image": ImageCNN((32, 64, 96, 96))}, classes=8)), halved),
        "reads": linen(Multimodal({"words": TextLSTM(words.vocabulary, 32)}, classes=8)),
    }
    shared = {
        "task": task,
        "validation": data.Memory(read["validation"], 173),
        "test": data.Memory(read["test"], 101),
        "save_every": 10_000,
    }
    tuned = max(1, config.steps // 8)
    rate = optax.warmup_cosine_decay_schedule(0, config.tuning_rate, max(1, tuned // 10), tuned)
    made = {
        "teacher": Part(
            models={"teacher": teacher},
            trained=("teacher",),
            objective=combine(task=task.objective("teacher")),
            optimizer=optax.adamw(rate, weight_decay=1e-2),
            data=data.Memory(few, config.batch // 2),
            steps=tuned,
            take=pretrained.given("teacher", minilm, efficientnet),
            evaluate_every=max(1, tuned // 4),
            **shared,
        )
    }
    for name, student in students.items():
        rate = optax.cosine_decay_schedule(config.learning_rate, config.steps)
        learn = {
            "models": {"student": student},
            "data": data.Memory(few, config.batch),
            "optimizer": optax.adamw(rate, weight_decay=1e-2),
            "steps": config.steps,
            "evaluate_every": max(1, config.steps // 20),
            **shared,
        }
        taught = learn | {
            "models": {"student": student, "teacher": teacher},
            "data": data.Memory(every, config.batch),
            "take": {"teacher": "teacher.teacher"},
            "cache": {"teacher": ("logits",)},
        }
        logits = {"student": "student.logits", "teacher": "teacher.logits"}
        soft = term(losses.kl, **logits, temperature=2.0)
        made |= {
            f"{name}_labels": Part(objective=combine(task=task.objective()), **learn),
            f"{name}_kd": Part(objective=combine(soft=soft, task=task.objective(where="labelled")), **taught),
            f"{name}_mse": Part(objective=combine(mse=term(losses.logit_mse, **logits)), **taught),
            f"{name}_dist": Part(objective=combine(dist=term(losses.dist, **logits)), **taught),
        }
    return made


if __name__ == "__main__":
    cli.main(["run", __file__, *sys.argv[1:]])
