"""Emoji classification: a pretrained image + text teacher for small image-only or text-only students.

    mmkd run experiments/emoji.py

A quarter of the training emoji are labeled with one of eight groups; the others have only an image and a name. The
teacher combines EfficientNet-Lite0 and MiniLM, fine-tuned on the labeled quarter. One student gets the image at half
its resolution, the other the name, tokenized with a small vocabulary.
"""

import dataclasses
import sys
from typing import Any

import jax.numpy as jnp
import numpy as np
import optax

import mmkd_jax as mmkd


@dataclasses.dataclass(frozen=True)
class Config:
    """Configuration of the emoji experiment."""

    seeds: int = 5
    """Number of seeds per training."""
    labels: int = 240
    """Number of labeled emoji."""
    steps: int = 800
    """Training steps of each student; the teacher takes one eighth as many."""
    batch: int = 64
    """Batch size of the students; the teacher's is half of it."""
    learning_rate: float = 3e-3
    """Peak learning rate of the students."""
    tuning_rate: float = 2e-4
    """Peak learning rate of the teacher."""


config = Config()
baseline = "sees_labels"


def halved(batch, ctx):
    """Downsample images to half the height and width by averaging 2 × 2 pixels."""
    b, h, w, c = batch["image"].shape
    small = batch["image"].astype(jnp.float32).reshape(b, h // 2, 2, w // 2, 2, c).mean((2, 4)) / 255
    return {**batch, "image": small}


def trainings(config: Config) -> dict[str, mmkd.Training]:
    emoji = {split: mmkd.data.load_or_prepare("emoji", split) for split in ("train", "validation", "test")}
    minilm = mmkd.pretrained.load(mmkd.pretrained.packages.minilm())
    efficientnet = mmkd.pretrained.load(mmkd.pretrained.packages.efficientnet_lite0())
    words = mmkd.data.train_tokenizer(emoji["train"].columns["text"].tolist(), size=1_000, length=8, modality="words")
    splits = {k: mmkd.data.tokenize(rows, {minilm.processor: 16, words: 8}) for k, rows in emoji.items()}
    is_labeled = np.random.default_rng(0).permutation(splits["train"].size) < config.labels
    train = splits["train"].with_columns(labelled=is_labeled)
    labeled = train.where("labelled")
    task = mmkd.tasks.classification(8)
    teacher = mmkd.linen(mmkd.models.Multimodal({**efficientnet.module.encoders, **minilm.module.encoders}, classes=8))
    sees = mmkd.models.Multimodal({"image": mmkd.models.ImageCNN((32, 64, 96, 96))}, classes=8)
    reads = mmkd.models.Multimodal({"words": mmkd.models.TextLSTM(words.vocabulary, 32)}, classes=8)
    students = {"sees": mmkd.with_input(mmkd.linen(sees), halved), "reads": mmkd.linen(reads)}
    shared = {
        "task": task,
        "validation": mmkd.data.InMemory(splits["validation"], 173),
        "test": mmkd.data.InMemory(splits["test"], 101),
        "save_every": 10_000,
    }
    tuned = max(1, config.steps // 8)
    rate = optax.warmup_cosine_decay_schedule(0, config.tuning_rate, max(1, tuned // 10), tuned)
    all_trainings = {
        "teacher": mmkd.Training(
            models={"teacher": mmkd.Trained(teacher, init_from=mmkd.pretrained.init_from(minilm, efficientnet))},
            objective=mmkd.combine(task=task.objective("teacher")),
            optimizer=optax.adamw(rate, weight_decay=1e-2),
            data=mmkd.data.InMemory(labeled, config.batch // 2),
            steps=tuned,
            evaluate_every=max(1, tuned // 4),
            **shared,
        )
    }
    answers = mmkd.Frozen(teacher, init_from="teacher.teacher", cache=("logits",))
    for name, student in students.items():
        rate = optax.cosine_decay_schedule(config.learning_rate, config.steps)
        learn = {
            "models": {"student": mmkd.Trained(student)},
            "data": mmkd.data.InMemory(labeled, config.batch),
            "optimizer": optax.adamw(rate, weight_decay=1e-2),
            "steps": config.steps,
            "evaluate_every": max(1, config.steps // 20),
            **shared,
        }
        taught: dict[str, Any] = learn | {
            "models": {"student": mmkd.Trained(student), "teacher": answers},
            "data": mmkd.data.InMemory(train, config.batch),
        }
        logits = {"student": "student.logits", "teacher": "teacher.logits"}
        soft = mmkd.term(mmkd.losses.kl, **logits, temperature=2.0)
        all_trainings |= {
            f"{name}_labels": mmkd.Training(objective=mmkd.combine(task=task.objective()), **learn),
            f"{name}_kd": mmkd.Training(
                objective=mmkd.combine(soft=soft, task=task.objective(where="labelled")), **taught
            ),
            f"{name}_mse": mmkd.Training(
                objective=mmkd.combine(mse=mmkd.term(mmkd.losses.logit_mse, **logits)), **taught
            ),
            f"{name}_dist": mmkd.Training(objective=mmkd.combine(dist=mmkd.term(mmkd.losses.dist, **logits)), **taught),
        }
    return all_trainings


if __name__ == "__main__":
    mmkd.main(["run", __file__, *sys.argv[1:]])
