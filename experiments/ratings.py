"""Ratings as levels in an order: how positive is a text, from −3 to 3?

    mmkd run experiments/ratings.py

The label of a text of the sentiment data is its mean rating, rounded: one of seven levels, whose order CORN uses. 300
of 4,000 training texts are labeled. The teacher is a head on frozen features of MiniLM (22.7 M parameters), the student
a bag of words: trained on the labeled texts, or on the teacher's probabilities of "above level k" for all texts.
"""

import dataclasses
import sys
from typing import Any

import jax
import numpy as np
import optax

import mmkd_jax as mmkd

LEVELS = 7


@dataclasses.dataclass(frozen=True)
class Config:
    """Configuration of the ratings experiment."""

    seeds: int = 5
    """Number of seeds per training."""
    labels: int = 300
    """Number of labeled texts."""
    texts: int = 4_000
    """Number of training texts."""
    tested: int = 1_000
    """Number of test texts; half as many are for validation."""
    steps: int = 600
    """Training steps of each student; the teacher takes a quarter as many."""
    batch: int = 64
    """Batch size."""
    learning_rate: float = 3e-3
    """Peak learning rate."""


config = Config()
baseline = "labels"


def selected(split: str, count: int) -> mmkd.data.Dataset:
    """Return a fixed random selection of texts, with their levels."""
    rows = mmkd.data.load_or_prepare("sentiment_intensity", split)
    label = (np.clip(np.round(rows.columns["rating"]), -3, 3) + 3).astype(np.int32)
    chosen = np.random.default_rng(0).permutation(rows.size) < count
    return rows.with_columns(label=label, selected=chosen).where("selected")


def with_features(rows: mmkd.data.Dataset, text: Any) -> mmkd.data.Dataset:
    """Add the column `features`: those of the texts by a pretrained encoder."""
    run = jax.jit(lambda variables, batch: mmkd.predict(text.model, variables, batch)["features.text"])
    batches = mmkd.data.InMemory(rows, 125).eval_batches()
    found = [np.asarray(run(text.variables, batch))[batch["valid"]] for batch in batches]
    return rows.with_columns(features=np.concatenate(found))


def trainings(config: Config) -> dict[str, mmkd.Training]:
    counts = {"train": config.texts, "validation": config.tested // 2, "test": config.tested}
    texts = {split: selected(split, count) for split, count in counts.items()}
    minilm = mmkd.pretrained.load(mmkd.pretrained.packages.minilm())
    words = mmkd.data.train_tokenizer(texts["train"].columns["text"].tolist(), size=4_000, length=40, modality="words")
    splits = {k: mmkd.data.tokenize(rows, {minilm.processor: 40, words: 40}) for k, rows in texts.items()}
    splits = {k: with_features(rows, minilm) for k, rows in splits.items()}
    is_labeled = np.random.default_rng(0).permutation(splits["train"].size) < config.labels
    train = splits["train"].with_columns(labelled=is_labeled)
    labeled = mmkd.data.InMemory(train.where("labelled"), config.batch)
    task = mmkd.tasks.ordinal(LEVELS, "corn")
    head = mmkd.models.head_for(task)
    teacher = mmkd.linen(mmkd.models.Multimodal({"features": mmkd.models.ImageMLP((64,))}, head=head))
    student = mmkd.linen(mmkd.models.Multimodal({"words": mmkd.models.TextBag(words.vocabulary, 64)}, head=head))
    shared: dict[str, Any] = {
        "task": task,
        "validation": mmkd.data.InMemory(splits["validation"], 250),
        "test": mmkd.data.InMemory(splits["test"], 250),
        "save_every": 10_000,
    }

    def optimizer(steps):
        return optax.adamw(optax.cosine_decay_schedule(config.learning_rate, steps), weight_decay=1e-2)

    learn: dict[str, Any] = {
        "models": {"student": mmkd.Trained(student)},
        "optimizer": optimizer(config.steps),
        "steps": config.steps,
        "evaluate_every": max(1, config.steps // 20),
        **shared,
    }
    quarter = max(1, config.steps // 4)
    answers = mmkd.Frozen(teacher, init_from="teacher.teacher", cache=("logits",))
    return {
        "teacher": mmkd.Training(
            models={"teacher": mmkd.Trained(teacher)},
            objective=mmkd.combine(task=task.objective("teacher")),
            optimizer=optimizer(quarter),
            data=labeled,
            steps=quarter,
            evaluate_every=max(1, quarter // 10),
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
