"""Initialize a three-layer student from the layers of its six-layer teacher, MiniLM.

    mmkd run experiments/students_from_teachers.py

Sentiment intensity, as in sentiment.py, with 500 labeled texts, on which the teacher is fine-tuned. The students have
the same architecture with three layers, initialized at random or with the teacher's layers 0, 2 and 5, spread as in
DistilBERT. They are trained on the ratings, or on the teacher's outputs for all texts. `mmkd explain` prints the source
of each tensor.
"""

import dataclasses
import sys

import numpy as np
import optax

import mmkd_jax as mmkd

RATINGS = range(-4, 5)


@dataclasses.dataclass(frozen=True)
class Config:
    """Configuration of the initialization experiment."""

    seeds: int = 5
    """Number of seeds per training."""
    labels: int = 500
    """Number of labeled texts; the rest of the training split is unlabeled."""
    steps: int = 200
    """Training steps of each student; the maximum for the teacher."""
    batch: int = 32
    """Batch size."""
    tuning_rate: float = 1e-4
    """Peak learning rate of models with pretrained layers."""
    learning_rate: float = 3e-4
    """Peak learning rate of randomly initialized students."""


config = Config()
baseline = "random_labels"


def trainings(config: Config) -> dict[str, mmkd.Training]:
    texts = {
        split: mmkd.data.load_or_prepare("sentiment_intensity", split) for split in ("train", "validation", "test")
    }
    minilm = mmkd.pretrained.load(mmkd.pretrained.packages.minilm())
    splits = {k: mmkd.data.tokenize(rows, {minilm.processor: 40}) for k, rows in texts.items()}
    is_labeled = np.random.default_rng(0).permutation(splits["train"].size) < config.labels
    train, labeled = splits["train"], splits["train"].with_columns(labelled=is_labeled).where("labelled")
    large = minilm.module
    three = dataclasses.replace(large.encoders["text"].config, num_layers=3)
    small = mmkd.models.Encoders({"text": large.encoders["text"].clone(config=three)})
    modules = (mmkd.models.Multimodal(m.encoders, classes=9) for m in (large, small))
    teacher, student = (mmkd.models.ExpectedValue(mmkd.linen(m), RATINGS) for m in modules)
    shared = {
        "task": mmkd.tasks.regression("rating", groups=("source", 4)),
        "validation": mmkd.data.InMemory(splits["validation"], 250),
        "test": mmkd.data.InMemory(splits["test"], 250),
        "evaluate_every": max(1, config.steps // 2),
        "save_every": 10_000,
    }

    def optimizer(peak, steps):
        return optax.adamw(optax.warmup_cosine_decay_schedule(0, peak, max(1, steps // 10), steps), weight_decay=1e-2)

    def ratings(name):
        term = mmkd.term(mmkd.losses.cross_entropy, logits=f"{name}.logits", labels="batch.ratings")
        return mmkd.combine(ratings=term)

    tuned = min(config.steps, 156)
    all_trainings = {
        "teacher": mmkd.Training(
            models={"teacher": mmkd.Trained(teacher, init_from=mmkd.pretrained.init_from(minilm))},
            objective=ratings("teacher"),
            optimizer=optimizer(config.tuning_rate, tuned),
            data=mmkd.data.InMemory(labeled, config.batch),
            steps=tuned,
            **shared,
        )
    }
    six_to_three = mmkd.pretrained.SubNetwork(layers=mmkd.pretrained.selection.spread(6, 3))
    spread = mmkd.pretrained.Inheritance(small, large, {"text": six_to_three})
    starts = {
        "random": (mmkd.Trained(student), config.learning_rate),
        "spread": (mmkd.Trained(student, init_from="teacher.teacher", layers=spread), config.tuning_rate),
    }
    answers = mmkd.Frozen(teacher, init_from="teacher.teacher", cache=("logits",))
    for name, (trained, rate) in starts.items():
        learn = {"optimizer": optimizer(rate, config.steps), "steps": config.steps, **shared}
        all_trainings[f"{name}_labels"] = mmkd.Training(
            models={"student": trained},
            objective=ratings("student"),
            data=mmkd.data.InMemory(labeled, config.batch),
            **learn,
        )
        all_trainings[f"{name}_kd"] = mmkd.Training(
            models={"student": trained, "teacher": answers},
            objective=mmkd.combine(soft=mmkd.term(mmkd.losses.kl, student="student.logits", teacher="teacher.logits")),
            data=mmkd.data.InMemory(train, config.batch),
            **learn,
        )
    return all_trainings


if __name__ == "__main__":
    mmkd.main(["run", __file__, *sys.argv[1:]])
