"""Three layers of MiniLM's six: does it help a student to begin with its teacher's layers?

    mmkd run experiments/students_from_teachers.py

Sentiment intensity, as in sentiment.py, with 500 rated texts. The teacher is tuned on them; the students have its
shape, but three layers: drawn at random, or the teacher's 0, 2 and 5, as DistilBERT spreads them. They learn from the
ratings, or from the teacher on all texts. `mmkd explain` says what is taken from where.
"""

import dataclasses
import sys

import numpy as np
import optax

from mmkd_jax import cli, data, losses, pretrained
from mmkd_jax.models import Encoders, Multimodal, expected
from mmkd_jax.objective import combine, term
from mmkd_jax.part import Part
from mmkd_jax.pretrained import packages
from mmkd_jax.pretrained.inheritance import Inheritance
from mmkd_jax.pretrained.origins import Keep
from mmkd_jax.pretrained.selection import spread
from mmkd_jax.tasks import regression
from mmkd_jax.views import linen

RATINGS = range(-4, 5)


@dataclasses.dataclass(frozen=True)
class Config:
    """Students from teachers."""

    seeds: int = 5
    """Runs of each part."""
    labels: int = 500
    """Rated texts; the other texts of the training split are there without ratings."""
    steps: int = 200
    """Updates of each student, and at most of the teacher."""
    batch: int = 32
    """Texts of a batch."""
    tuning_rate: float = 1e-4
    """Peak learning rate of models that begin with pretrained layers."""
    learning_rate: float = 3e-4
    """Peak learning rate of students that begin at random."""


config = Config()
baseline = "random_labels"


def parts(config: Config) -> dict[str, Part]:
    texts = {split: data.obtain("sentiment_intensity", split) for split in ("train", "validation", "test")}
    minilm = pretrained.load(packages.minilm())
    read = {k: data.tokenized(rows, {minilm.processor: 40}) for k, rows in texts.items()}
    known = np.random.default_rng(0).permutation(read["train"].size) < config.labels
    every, few = read["train"], read["train"].with_columns(labelled=known).where("labelled")
    large = minilm.module
    small = Encoders({"text": large.encoders["text"].clone(layers=3)})
    teacher, student = (expected(linen(Multimodal(m.encoders, classes=9)), RATINGS) for m in (large, small))
    shared = {
        "task": regression("rating", groups=("source", 4)),
        "validation": data.Memory(read["validation"], 250),
        "test": data.Memory(read["test"], 250),
        "evaluate_every": max(1, config.steps // 2),
        "save_every": 10_000,
    }

    def optimizer(peak, steps):
        return optax.adamw(optax.warmup_cosine_decay_schedule(0, peak, max(1, steps // 10), steps), weight_decay=1e-2)

    def ratings(name):
        return combine(ratings=term(losses.cross_entropy, logits=f"{name}.logits", labels="batch.ratings"))

    tuned = min(config.steps, 156)
    made = {
        "teacher": Part(
            models={"teacher": teacher},
            trained=("teacher",),
            objective=ratings("teacher"),
            optimizer=optimizer(config.tuning_rate, tuned),
            data=data.Memory(few, config.batch),
            steps=tuned,
            take=pretrained.given("teacher", minilm),
            **shared,
        )
    }
    begins = {
        "random": {"optimizer": optimizer(config.learning_rate, config.steps)},
        "spread": {"inherit": {"student": Inheritance(small, large, {"text": Keep(layers=spread(6, 3))})}},
    }
    for name, begin in begins.items():
        own = {"student": "teacher.teacher"} if "inherit" in begin else {}
        learn = {"optimizer": optimizer(config.tuning_rate, config.steps), "steps": config.steps, **shared, **begin}
        made[f"{name}_labels"] = Part(
            models={"student": student},
            objective=ratings("student"),
            data=data.Memory(few, config.batch),
            take=own,
            **learn,
        )
        made[f"{name}_kd"] = Part(
            models={"student": student, "teacher": teacher},
            objective=combine(soft=term(losses.kl, student="student.logits", teacher="teacher.logits")),
            data=data.Memory(every, config.batch),
            take={**own, "teacher": "teacher.teacher"},
            cache={"teacher": ("logits",)},
            **learn,
        )
    return made


if __name__ == "__main__":
    cli.main(["run", __file__, *sys.argv[1:]])
