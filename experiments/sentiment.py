"""Sentiment intensity: a pretrained teacher tuned on few rated texts teaches small students on texts without ratings.

    mmkd run experiments/sentiment.py                                     # 500 labels; 17747 are all
    mmkd run experiments/sentiment.py --labels 2000 --out runs/sentiment-2000

A text's intensity is the mean of some 20 people's ratings, −4 … 4; all models give a distribution over the nine
ratings, and its mean is their answer. The teacher is MiniLM, 22.7 M parameters; the students read words of a small
vocabulary of their own, `bag` without their order. `raters` learns from the spread of the ratings, not from their mean
alone.
"""

import dataclasses
import math
import sys

import numpy as np
import optax

from mmkd_jax import cli, data, losses, pretrained
from mmkd_jax.connectors import Linear
from mmkd_jax.models import Multimodal, TextBag, TextLSTM, TextTransformer, expected
from mmkd_jax.objective import combine, term
from mmkd_jax.part import Part
from mmkd_jax.pretrained import packages
from mmkd_jax.tasks import regression
from mmkd_jax.views import linen

RATINGS = range(-4, 5)


@dataclasses.dataclass(frozen=True)
class Config:
    """Sentiment intensity."""

    seeds: int = 5
    """Runs of each part."""
    labels: int = 500
    """Rated texts; the other texts of the training split are there without ratings."""
    steps: int = 1_000
    """Updates of each student; the teacher takes 7 √labels."""
    batch: int = 64
    """Texts of a student's batch; the teacher's has half."""
    learning_rate: float = 2e-3
    """Peak learning rate of the students."""
    tuning_rate: float = 1e-4
    """Peak learning rate of the teacher."""


config = Config()
baseline = "lstm_labels"


def parts(config: Config) -> dict[str, Part]:
    task = regression("rating", groups=("source", 4))
    texts = {split: data.obtain("sentiment_intensity", split) for split in ("train", "validation", "test")}
    minilm = pretrained.load(packages.minilm())
    words = data.learned(texts["train"].columns["text"].tolist(), size=8_000, length=40, modality="words")
    read = {k: data.tokenized(rows, {minilm.processor: 40, words: 40}) for k, rows in texts.items()}
    known = np.random.default_rng(0).permutation(read["train"].size) < config.labels
    every = read["train"].with_columns(labelled=known)
    few = every.where("labelled")
    teacher = expected(linen(Multimodal(minilm.module.encoders, classes=9)), RATINGS)
    encoders = {
        "lstm": TextLSTM(words.vocabulary, 64),
        "transformer": TextTransformer(words.vocabulary, 64, heads=4, layers=2, length=40),
        "bag": TextBag(words.vocabulary, 64),
    }
    shared = {
        "task": task,
        "validation": data.Memory(read["validation"], 250),
        "test": data.Memory(read["test"], 250),
        "save_every": 10_000,
    }
    tuned = min(config.steps, int(7 * math.sqrt(config.labels)))
    rate = optax.warmup_cosine_decay_schedule(0, config.tuning_rate, max(1, tuned // 10), tuned)
    made = {
        "teacher": Part(
            models={"teacher": teacher},
            trained=("teacher",),
            objective=combine(spread=term(losses.cross_entropy, logits="teacher.logits", labels="batch.ratings")),
            optimizer=optax.adamw(rate, weight_decay=1e-2),
            data=data.Memory(few, config.batch // 2),
            steps=tuned,
            take=pretrained.given("teacher", minilm),
            evaluate_every=max(1, tuned // 2),
            **shared,
        )
    }
    for name, encoder in encoders.items():
        student = expected(linen(Multimodal({"words": encoder}, classes=9)), RATINGS)
        rate = optax.cosine_decay_schedule(config.learning_rate, config.steps)
        learn = {
            "models": {"student": student},
            "data": data.Memory(few, config.batch),
            "optimizer": optax.adamw(rate, weight_decay=1e-2),
            "steps": config.steps,
            "evaluate_every": max(1, config.steps // 10),
            **shared,
        }
        taught = learn | {
            "models": {"student": student, "teacher": teacher},
            "data": data.Memory(every, config.batch),
            "take": {"teacher": "teacher.teacher"},
            "cache": {"teacher": ("logits", "embedding", "prediction")},
        }
        ratings = {"logits": "student.logits", "labels": "batch.ratings", "where": "labelled"}
        spread = term(losses.cross_entropy, **ratings)
        few_of_many = term(losses.cross_entropy, **ratings, weight=0.1)  # two rated texts in a batch: with 1 they win
        soft = term(losses.kl, student="student.logits", teacher="teacher.logits")
        answer = term(losses.mse, predictions="student.prediction", targets="teacher.prediction")
        embedding = {"student": "student.embedding", "teacher": "teacher.embedding"}
        hint = term(losses.hint, **embedding, connect={"student": Linear(64)})
        made |= {
            f"{name}_labels": Part(objective=combine(task=task.objective()), **learn),
            f"{name}_raters": Part(objective=combine(spread=spread), **learn),
            f"{name}_kd": Part(objective=combine(soft=soft), **taught),
            f"{name}_kd_raters": Part(objective=combine(soft=soft, spread=few_of_many), **taught),
            f"{name}_answer": Part(objective=combine(answer=answer), **taught),
            f"{name}_kd_hint": Part(objective=combine(soft=soft, hint=hint), **taught),
        }
    return made


if __name__ == "__main__":
    cli.main(["run", __file__, *sys.argv[1:]])
