"""Tags of icons: a teacher that reads the names of the icons, and a student that only sees the pixels.

    mmkd run experiments/icons.py

Each icon has any number of 46 tags, such as Weather or Lock; 300 of 3,501 training icons are labeled. The teacher sees
the icon and reads its name and aliases by frozen features of MiniLM. The student is a small CNN: trained on the labeled
icons, or on the teacher's probability of each tag for all of them. No icon of the test split is derived from one of the
training split.
"""

import dataclasses
import sys
from typing import Any

import jax
import numpy as np
import optax

import mmkd_jax as mmkd


@dataclasses.dataclass(frozen=True)
class Config:
    """Configuration of the icons experiment."""

    seeds: int = 5
    """Number of seeds per training."""
    labels: int = 300
    """Number of labeled icons."""
    steps: int = 1_000
    """Training steps of each student; the teacher takes one fifth as many."""
    batch: int = 64
    """Batch size."""
    learning_rate: float = 3e-3
    """Peak learning rate."""


config = Config()
baseline = "labels"


def with_features(rows: mmkd.data.Dataset, text: Any) -> mmkd.data.Dataset:
    """Add the column `words`: the features of the texts by a pretrained encoder."""
    rows = mmkd.data.tokenize(rows, {text.processor: 32})
    run = jax.jit(lambda variables, batch: mmkd.predict(text.model, variables, batch)["features.text"])
    batches = mmkd.data.InMemory(rows, 128).eval_batches()
    found = [np.asarray(run(text.variables, batch))[batch["valid"]] for batch in batches]
    return rows.with_columns(words=np.concatenate(found))


def trainings(config: Config) -> dict[str, mmkd.Training]:
    minilm = mmkd.pretrained.load(mmkd.pretrained.packages.minilm())
    icons = {split: mmkd.data.load_or_prepare("icons", split) for split in ("train", "validation", "test")}
    icons = {split: with_features(rows, minilm) for split, rows in icons.items()}
    is_labeled = np.random.default_rng(0).permutation(icons["train"].size) < config.labels
    train = icons["train"].with_columns(labelled=is_labeled)
    labeled = mmkd.data.InMemory(train.where("labelled"), config.batch)
    task = mmkd.tasks.multi_label(icons["train"].spec["label"].shape[0])
    head = mmkd.models.head_for(task)
    encoders = {"image": mmkd.models.ImageCNN((16, 32, 64), first_stride=2), "words": mmkd.models.ImageMLP(())}
    teacher = mmkd.linen(mmkd.models.Multimodal(encoders, width=256, head=head))
    student = mmkd.linen(mmkd.models.Multimodal({"image": encoders["image"]}, head=head))
    shared: dict[str, Any] = {
        "task": task,
        "validation": mmkd.data.InMemory(icons["validation"], 203),
        "test": mmkd.data.InMemory(icons["test"], 306),
        "save_every": 10_000,
    }

    def optimizer(steps):
        return optax.adamw(optax.cosine_decay_schedule(config.learning_rate, steps), weight_decay=1e-2)

    learn: dict[str, Any] = {
        "models": {"student": mmkd.Trained(student)},
        "optimizer": optimizer(config.steps),
        "steps": config.steps,
        "evaluate_every": max(1, config.steps // 10),
        **shared,
    }
    fifth = max(1, config.steps // 5)
    answers = mmkd.Frozen(teacher, init_from="teacher.teacher", cache=("logits",))
    return {
        "teacher": mmkd.Training(
            models={"teacher": mmkd.Trained(teacher)},
            objective=mmkd.combine(task=task.objective("teacher")),
            optimizer=optimizer(fifth),
            data=labeled,
            steps=fifth,
            evaluate_every=max(1, fifth // 10),
            **shared,
        ),
        "labels": mmkd.Training(objective=mmkd.combine(task=task.objective()), data=labeled, **learn),
        "distilled": mmkd.Training(
            **learn | {"models": {"student": mmkd.Trained(student), "teacher": answers}},
            objective=mmkd.combine(
                soft=mmkd.term(mmkd.losses.binary_kl, student="student.logits", teacher="teacher.logits")
            ),
            data=mmkd.data.InMemory(train, config.batch),
        ),
    }


if __name__ == "__main__":
    mmkd.main(["run", __file__, *sys.argv[1:]])
