"""AV-digits: an audio-only student learns from an image + audio teacher, on pairs that nobody labelled.

    mmkd run experiments/av_digits.py

The teacher sees the blurred image and the noisy recording of a digit, and learns from 500 labelled pairs. The small
student only hears. It learns from the same 500 labels (labels), from the teacher's answers on all 6,000 pairs
(distilled), or from all 6,000 labels (oracle). All students start from the same values and take the same number of
steps; the best step is chosen on validation; the test split, with voices that nobody heard, is used once.
"""

import dataclasses
import sys

import optax

from mmkd_jax import cli, data, losses
from mmkd_jax.models import AudioTDNN, ImageMLP, Multimodal
from mmkd_jax.objective import combine, term
from mmkd_jax.part import Part
from mmkd_jax.tasks import classification
from mmkd_jax.views import linen


@dataclasses.dataclass(frozen=True)
class Teacher:
    """Sizes of the teacher."""

    image: tuple[int, ...] = (128, 64)
    """Layers of the image encoder."""
    audio: tuple[int, ...] = (64, 64)
    """Layers of the audio encoder."""
    width: int = 64
    """Width of the embedding."""


@dataclasses.dataclass(frozen=True)
class Student:
    """Sizes of the student."""

    audio: tuple[int, ...] = (16, 16)
    """Layers of the audio encoder."""
    width: int = 16
    """Width of the embedding."""


@dataclasses.dataclass(frozen=True)
class Config:
    """AV-digits."""

    seeds: int = 5
    """Runs of each part."""
    steps: int = 2_000
    """Updates of each student; the teacher takes half of them."""
    batch: int = 128
    """Rows of a batch."""
    learning_rate: float = 3e-3
    """Peak learning rate of the students; the teacher's is a third."""
    unlabelled: bool = True
    """Distil on all pairs; if not, on the labelled ones only."""
    teacher: Teacher = Teacher()
    student: Student = Student()


config = Config()
baseline = "labels"


def parts(config: Config) -> dict[str, Part]:
    task = classification(10)
    pairs = data.load("av_digits", "train")
    few, every = (data.Memory(d, config.batch) for d in (pairs.where("labelled"), pairs))
    teacher = linen(
        Multimodal(
            encoders={"image": ImageMLP(config.teacher.image), "audio": AudioTDNN(config.teacher.audio)},
            classes=10,
            width=config.teacher.width,
        )
    )
    student = linen(
        Multimodal(encoders={"audio": AudioTDNN(config.student.audio)}, classes=10, width=config.student.width)
    )
    shared = {
        "task": task,
        "validation": data.Memory(data.load("av_digits", "validation"), 500),
        "test": data.Memory(data.load("av_digits", "test"), 500),
        "evaluate_every": max(1, min(50, config.steps // 20)),
        "save_every": max(1, config.steps // 4),
    }
    learn = {
        "models": {"student": student},
        "optimizer": optax.adamw(optax.cosine_decay_schedule(config.learning_rate, config.steps), weight_decay=1e-4),
        "steps": config.steps,
        **shared,
    }
    half = max(1, config.steps // 2)
    return {
        "teacher": Part(
            models={"teacher": teacher},
            trained=("teacher",),
            objective=combine(task=task.objective("teacher")),
            optimizer=optax.adamw(optax.cosine_decay_schedule(config.learning_rate / 3, half), weight_decay=1e-2),
            data=few,
            steps=half,
            **shared,
        ),
        "labels": Part(objective=combine(task=task.objective("student")), data=few, **learn),
        "distilled": Part(
            **learn | {"models": {"student": student, "teacher": teacher}},
            objective=combine(
                soft=term(losses.kl, student="student.logits", teacher="teacher.logits", temperature=2.0),
            ),
            data=every if config.unlabelled else few,
            take={"teacher": "teacher.teacher"},
            cache={"teacher": ("logits",)},
        ),
        "oracle": Part(objective=combine(task=task.objective("student")), data=every, **learn),
    }


if __name__ == "__main__":
    cli.main(["run", __file__, *sys.argv[1:]])
