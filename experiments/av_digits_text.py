"""AV-digits with a third modality: a transcript of the spoken word in which most letters are wrong.

    mmkd run experiments/av_digits_text.py

As av_digits.py, but the teacher also encodes the transcript, with a small Transformer. The student encodes audio and
text (an LSTM) and fuses them with gates. Modality dropout in training prepares it for missing modalities.
"""

import dataclasses
import sys
from typing import Any

import optax

import mmkd_jax as mmkd


@dataclasses.dataclass(frozen=True)
class Config:
    """Configuration of AV-digits with transcripts."""

    seeds: int = 5
    """Number of seeds per training."""
    steps: int = 2_000
    """Training steps of each student; the teacher takes half as many."""
    batch: int = 128
    """Batch size."""
    learning_rate: float = 3e-3
    """Peak learning rate of the students; the teacher's is one third of it."""
    drop: float = 0.2
    """Share of rows in which a modality of the student is dropped."""


config = Config()
baseline = "labels"


def trainings(config: Config) -> dict[str, mmkd.Training]:
    task = mmkd.tasks.classification(10)
    pairs = mmkd.data.load("av_digits", "train")
    labeled, all_pairs = (mmkd.data.InMemory(d, config.batch) for d in (pairs.where("labelled"), pairs))
    teacher = mmkd.linen(
        mmkd.models.Multimodal(
            encoders={
                "image": mmkd.models.ImageMLP((128, 64)),
                "audio": mmkd.models.AudioTDNN((64, 64)),
                "text": mmkd.models.TextTransformer(
                    mmkd.data.text.CHARACTERS, embed_dim=32, num_heads=2, num_layers=1, length=8
                ),
            },
            classes=10,
        )
    )
    student = mmkd.with_input(
        mmkd.linen(
            mmkd.models.Multimodal(
                encoders={
                    "audio": mmkd.models.AudioTDNN((16, 16)),
                    "text": mmkd.models.TextLSTM(mmkd.data.text.CHARACTERS, 8),
                },
                classes=10,
                width=16,
                fusion=mmkd.models.fusion.Gated(16),
            )
        ),
        mmkd.augment.modalities.drop_modality(config.drop, ("audio", "text")),
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
            data=all_pairs,
        ),
        "oracle": mmkd.Training(objective=mmkd.combine(task=task.objective("student")), data=all_pairs, **learn),
    }


if __name__ == "__main__":
    mmkd.main(["run", __file__, *sys.argv[1:]])
