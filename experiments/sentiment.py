"""Sentiment intensity: a pretrained teacher, fine-tuned on few labels, distilled into small students on unlabeled text.

    mmkd run experiments/sentiment.py                                     # 500 labels; the maximum is 17747
    mmkd run experiments/sentiment.py --labels 2000 --out runs/sentiment-2000

The intensity of a text is its mean rating from −4 to 4 by about 20 people. All models predict a distribution over the
nine ratings; the prediction is its mean. The teacher is MiniLM (22.7 M parameters). The students have a small
vocabulary of words, and `bag` ignores their order. `raters` is trained on the distribution of the ratings instead of
their mean.
"""

import dataclasses
import math
import sys
from typing import Any

import numpy as np
import optax

import mmkd_jax as mmkd

RATINGS = range(-4, 5)


@dataclasses.dataclass(frozen=True)
class Config:
    """Configuration of the sentiment experiment."""

    seeds: int = 5
    """Number of seeds per training."""
    labels: int = 500
    """Number of labeled texts; the rest of the training split is unlabeled."""
    steps: int = 1_000
    """Training steps of each student; the teacher takes 7 √labels."""
    batch: int = 64
    """Batch size of the students; the teacher's is half of it."""
    learning_rate: float = 2e-3
    """Peak learning rate of the students."""
    tuning_rate: float = 1e-4
    """Peak learning rate of the teacher."""


config = Config()
baseline = "lstm_labels"


def trainings(config: Config) -> dict[str, mmkd.Training]:
    task = mmkd.tasks.regression("rating", groups=("source", 4))
    texts = {
        split: mmkd.data.load_or_prepare("sentiment_intensity", split) for split in ("train", "validation", "test")
    }
    minilm = mmkd.pretrained.load(mmkd.pretrained.packages.minilm())
    words = mmkd.data.train_tokenizer(texts["train"].columns["text"].tolist(), size=8_000, length=40, modality="words")
    splits = {k: mmkd.data.tokenize(rows, {minilm.processor: 40, words: 40}) for k, rows in texts.items()}
    is_labeled = np.random.default_rng(0).permutation(splits["train"].size) < config.labels
    train = splits["train"].with_columns(labelled=is_labeled)
    labeled = train.where("labelled")
    teacher = mmkd.models.ExpectedValue(mmkd.linen(mmkd.models.Multimodal(minilm.module.encoders, classes=9)), RATINGS)
    encoders = {
        "lstm": mmkd.models.TextLSTM(words.vocabulary, 64),
        "transformer": mmkd.models.TextTransformer(words.vocabulary, 64, num_heads=4, num_layers=2, length=40),
        "bag": mmkd.models.TextBag(words.vocabulary, 64),
    }
    shared = {
        "task": task,
        "validation": mmkd.data.InMemory(splits["validation"], 250),
        "test": mmkd.data.InMemory(splits["test"], 250),
        "save_every": 10_000,
    }
    tuned = min(config.steps, int(7 * math.sqrt(config.labels)))
    rate = optax.warmup_cosine_decay_schedule(0, config.tuning_rate, max(1, tuned // 10), tuned)
    all_trainings = {
        "teacher": mmkd.Training(
            models={"teacher": mmkd.Trained(teacher, init_from=mmkd.pretrained.init_from(minilm))},
            objective=mmkd.combine(
                spread=mmkd.term(mmkd.losses.cross_entropy, logits="teacher.logits", labels="batch.ratings")
            ),
            optimizer=optax.adamw(rate, weight_decay=1e-2),
            data=mmkd.data.InMemory(labeled, config.batch // 2),
            steps=tuned,
            evaluate_every=max(1, tuned // 2),
            **shared,
        )
    }
    answers = mmkd.Frozen(teacher, init_from="teacher.teacher", cache=("logits", "embedding", "prediction"))
    for name, encoder in encoders.items():
        student = mmkd.models.ExpectedValue(mmkd.linen(mmkd.models.Multimodal({"words": encoder}, classes=9)), RATINGS)
        rate = optax.cosine_decay_schedule(config.learning_rate, config.steps)
        learn = {
            "models": {"student": mmkd.Trained(student)},
            "data": mmkd.data.InMemory(labeled, config.batch),
            "optimizer": optax.adamw(rate, weight_decay=1e-2),
            "steps": config.steps,
            "evaluate_every": max(1, config.steps // 10),
            **shared,
        }
        taught: dict[str, Any] = learn | {
            "models": {"student": mmkd.Trained(student), "teacher": answers},
            "data": mmkd.data.InMemory(train, config.batch),
        }
        ratings = {"logits": "student.logits", "labels": "batch.ratings", "where": "labelled"}
        spread = mmkd.term(mmkd.losses.cross_entropy, **ratings)
        # only two labeled texts per batch: with weight 1, they would dominate and be memorized
        few_of_many = mmkd.term(mmkd.losses.cross_entropy, **ratings, weight=0.1)
        soft = mmkd.term(mmkd.losses.kl, student="student.logits", teacher="teacher.logits")
        answer = mmkd.term(mmkd.losses.mse, predictions="student.prediction", targets="teacher.prediction")
        embedding = {"student": "student.embedding", "teacher": "teacher.embedding"}
        hint = mmkd.term(mmkd.losses.hint, **embedding, connect={"student": mmkd.connectors.Linear(64)})
        all_trainings |= {
            f"{name}_labels": mmkd.Training(objective=mmkd.combine(task=task.objective()), **learn),
            f"{name}_raters": mmkd.Training(objective=mmkd.combine(spread=spread), **learn),
            f"{name}_kd": mmkd.Training(objective=mmkd.combine(soft=soft), **taught),
            f"{name}_kd_raters": mmkd.Training(objective=mmkd.combine(soft=soft, spread=few_of_many), **taught),
            f"{name}_answer": mmkd.Training(objective=mmkd.combine(answer=answer), **taught),
            f"{name}_kd_hint": mmkd.Training(objective=mmkd.combine(soft=soft, hint=hint), **taught),
        }
    return all_trainings


if __name__ == "__main__":
    mmkd.main(["run", __file__, *sys.argv[1:]])
