"""Two tasks of one model: how positive is a text, and where is it from?

    mmkd run experiments/two_tasks.py

The texts, the teacher's features and the student's words are those of ratings.py. The first head predicts the mean
rating, the second the source of the text: tweets, films, reviews or editorials. The student learns from 300 labeled
texts, or from both outputs of the teacher for all texts.
"""

import dataclasses
import sys
from typing import Any

import numpy as np
import optax
from ratings import Config as Ratings
from ratings import selected, with_features

import mmkd_jax as mmkd


@dataclasses.dataclass(frozen=True)
class Config(Ratings):
    """Configuration of the two tasks."""

    temperature: float = 2.0
    """Temperature of the distilled sources."""


config = Config()
baseline = "labels"


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
    each = {
        "rating": mmkd.tasks.regression("rating", "rating"),
        "source": mmkd.tasks.classification(4, "source", "source"),
    }
    task = mmkd.tasks.multi_task(each, headline="rating")
    head = mmkd.models.head_for(task)
    teacher = mmkd.linen(mmkd.models.Multimodal({"features": mmkd.models.ImageMLP((64,))}, head=head))
    student = mmkd.linen(mmkd.models.Multimodal({"words": mmkd.models.TextBag(words.vocabulary, 64)}, head=head))
    shared: dict[str, Any] = {
        "task": task,
        "optimizer": optax.adamw(optax.cosine_decay_schedule(config.learning_rate, config.steps), weight_decay=1e-2),
        "steps": config.steps,
        "validation": mmkd.data.InMemory(splits["validation"], 250),
        "test": mmkd.data.InMemory(splits["test"], 250),
        "evaluate_every": max(1, config.steps // 20),
        "save_every": 10_000,
    }
    answers = mmkd.Frozen(teacher, init_from="teacher.teacher", cache=("rating", "source"))
    return {
        "teacher": mmkd.Training(
            models={"teacher": mmkd.Trained(teacher)},
            objective=mmkd.combine(task=task.objective("teacher")),
            data=labeled,
            **shared,
        ),
        "labels": mmkd.Training(
            models={"student": mmkd.Trained(student)},
            objective=mmkd.combine(task=task.objective()),
            data=labeled,
            **shared,
        ),
        "distilled": mmkd.Training(
            models={"student": mmkd.Trained(student), "teacher": answers},
            objective=mmkd.combine(
                rating=mmkd.term(mmkd.losses.mse, predictions="student.rating", targets="teacher.rating"),
                source=mmkd.term(
                    mmkd.losses.kl,
                    student="student.source",
                    teacher="teacher.source",
                    temperature=config.temperature,
                ),
            ),
            data=mmkd.data.InMemory(train, config.batch),
            **shared,
        ),
    }


if __name__ == "__main__":
    mmkd.main(["run", __file__, *sys.argv[1:]])
