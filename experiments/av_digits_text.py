"""AV-digits with a third modality: the spoken word's transcript, most of its letters wrong.

    mmkd run experiments/av_digits_text.py

As av_digits.py, but the teacher reads the transcript, too (a small Transformer); the student hears and reads (an LSTM),
and weighs the two by gates. In training it loses a modality now and then, so that it copes without.
"""

import dataclasses
import sys

import optax

from mmkd_jax import cli, data, losses
from mmkd_jax.augment.modalities import drop_modality
from mmkd_jax.data.text import CHARACTERS
from mmkd_jax.models import AudioTDNN, Gated, ImageMLP, Multimodal, TextLSTM, TextTransformer
from mmkd_jax.objective import combine, term
from mmkd_jax.part import Part
from mmkd_jax.tasks import classification
from mmkd_jax.views import linen, with_input


@dataclasses.dataclass(frozen=True)
class Config:
    """AV-digits with transcripts."""

    seeds: int = 5
    """Runs of each part."""
    steps: int = 2_000
    """Updates of each student; the teacher takes half of them."""
    batch: int = 128
    """Rows of a batch."""
    learning_rate: float = 3e-3
    """Peak learning rate of the students; the teacher's is a third."""
    drop: float = 0.2
    """Share of rows in which the student loses a modality."""


config = Config()
baseline = "labels"


def parts(config: Config) -> dict[str, Part]:
    task = classification(10)
    pairs = data.load("av_digits", "train")
    few, every = (data.Memory(d, config.batch) for d in (pairs.where("labelled"), pairs))
    teacher = linen(
        Multimodal(
            encoders={
                "image": ImageMLP((128, 64)),
                "audio": AudioTDNN((64, 64)),
                "text": TextTransformer(CHARACTERS, width=32, heads=2, layers=1, length=8),
            },
            classes=10,
        )
    )
    student = with_input(
        linen(
            Multimodal(
                encoders={"audio": AudioTDNN((16, 16)), "text": TextLSTM(CHARACTERS, 8)},
                classes=10,
                width=16,
                fusion=Gated(16),
            )
        ),
        drop_modality(config.drop, ("audio", "text")),
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
            data=every,
            take={"teacher": "teacher.teacher"},
            cache={"teacher": ("logits",)},
        ),
        "oracle": Part(objective=combine(task=task.objective("student")), data=every, **learn),
    }


if __name__ == "__main__":
    cli.main(["run", __file__, *sys.argv[1:]])
