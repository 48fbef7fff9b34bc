"""AV-digits: distill an audio-visual teacher into an audio-only student on unlabeled pairs.

    mmkd run experiments/av_digits.py

The teacher gets the blurred image and the noisy recording of a digit and is trained on 500 labeled pairs. The small
student gets the audio only. It is trained on the same 500 labels (labels), on the teacher's logits for all 6,000 pairs
(distilled), or on all 6,000 labels (oracle). All students have the same initial weights and number of steps. The best
step is selected on validation; the test split, with unseen speakers, is used once.
"""

import dataclasses
import sys
from typing import Any

import optax

import mmkd_jax as mmkd


@dataclasses.dataclass(frozen=True)
class Teacher:
    """Architecture of the teacher."""

    image: tuple[int, ...] = (128, 64)
    """Widths of the image encoder's layers."""
    audio: tuple[int, ...] = (64, 64)
    """Widths of the audio encoder's layers."""
    width: int = 64
    """Width of the embedding."""


@dataclasses.dataclass(frozen=True)
class Student:
    """Architecture of the student."""

    audio: tuple[int, ...] = (16, 16)
    """Widths of the audio encoder's layers."""
    width: int = 16
    """Width of the embedding."""


@dataclasses.dataclass(frozen=True)
class Config:
    """Configuration of AV-digits."""

    seeds: int = 5
    """Number of seeds per training."""
    steps: int = 2_000
    """Training steps of each student; the teacher takes half as many."""
    batch: int = 128
    """Batch size."""
    learning_rate: float = 3e-3
    """Peak learning rate of the students; the teacher's is one third of it."""
    unlabelled: bool = True
    """Distill on all pairs; if False, on the labeled pairs only."""
    teacher: Teacher = Teacher()
    student: Student = Student()


# `mmkd run` reads these three: the configuration with the number of seeds, the training to compare with, the trainings
config = Config()
baseline = "labels"


def trainings(config: Config) -> dict[str, mmkd.Training]:
    task = mmkd.tasks.classification(10)
    pairs = mmkd.data.load("av_digits", "train")
    labeled, all_pairs = (mmkd.data.InMemory(d, config.batch) for d in (pairs.where("labelled"), pairs))
    teacher = mmkd.linen(
        mmkd.models.Multimodal(
            encoders={
                "image": mmkd.models.ImageMLP(config.teacher.image),
                "audio": mmkd.models.AudioTDNN(config.teacher.audio),
            },
            classes=10,
            width=config.teacher.width,
        )
    )
    student = mmkd.linen(
        mmkd.models.Multimodal(
            encoders={"audio": mmkd.models.AudioTDNN(config.student.audio)},
            classes=10,
            width=config.student.width,
        )
    )
    shared = {
        "task": task,
        "validation": mmkd.data.InMemory(mmkd.data.load("av_digits", "validation"), 500),
        "test": mmkd.data.InMemory(mmkd.data.load("av_digits", "test"), 500),
        "evaluate_every": max(1, min(50, config.steps // 20)),
        "save_every": max(1, config.steps // 4),
    }
    learn: dict[str, Any] = {
        "models": {"student": mmkd.Trained(student)},
        "optimizer": optax.adamw(optax.cosine_decay_schedule(config.learning_rate, config.steps), weight_decay=1e-4),
        "steps": config.steps,
        **shared,
    }
    half = max(1, config.steps // 2)
    answers = mmkd.Frozen(teacher, init_from="teacher.teacher", cache=("logits",))
    return {
        "teacher": mmkd.Training(
            models={"teacher": mmkd.Trained(teacher)},
            objective=mmkd.combine(task=task.objective("teacher")),
            optimizer=optax.adamw(optax.cosine_decay_schedule(config.learning_rate / 3, half), weight_decay=1e-2),
            data=labeled,
            steps=half,
            **shared,
        ),
        "labels": mmkd.Training(objective=mmkd.combine(task=task.objective("student")), data=labeled, **learn),
        "distilled": mmkd.Training(
            **learn | {"models": {"student": mmkd.Trained(student), "teacher": answers}},
            objective=mmkd.combine(
                soft=mmkd.term(mmkd.losses.kl, student="student.logits", teacher="teacher.logits", temperature=2.0),
            ),
            data=all_pairs if config.unlabelled else labeled,
        ),
        "oracle": mmkd.Training(objective=mmkd.combine(task=task.objective("student")), data=all_pairs, **learn),
    }


if __name__ == "__main__":
    mmkd.main(["run", __file__, *sys.argv[1:]])
