"""Own files: distill a teacher that sees and hears into a student that hears, from a table of paths.

    python examples/make_files.py patterns
    mmkd run examples/own_files.py --table patterns/table.csv

One training row in five has a label. The teacher gets pictures and recordings of the labeled rows; one picture in ten
is missing. The student gets the recordings, and is trained on the labeled rows (labels), or on the teacher's logits
for all training rows (distilled). Test rows are from other devices.
"""

import dataclasses

import optax

import mmkd_jax as mmkd


@dataclasses.dataclass(frozen=True)
class Config:
    """Configuration of the experiment."""

    seeds: int = 5
    """Number of seeds per training."""
    table: str = "patterns/table.csv"
    """Table with the columns photo, sound, pattern, device and split."""
    steps: int = 600
    """Training steps of each model."""
    batch: int = 64
    """Batch size."""
    learning_rate: float = 3e-3
    """Peak learning rate."""


config = Config()
baseline = "labels"

INPUTS = {
    "photo": (mmkd.data.preprocess.ReadImage(channels=1), mmkd.data.preprocess.Resize((24, 24))),
    "sound": (
        mmkd.data.preprocess.Resample(8_000),
        mmkd.data.preprocess.PadOrTrim(4_000),
        mmkd.data.preprocess.LogMel(8_000, bands=32, window=512, hop=125, low=100.0, step_db=2.0),
    ),
}


def trainings(config: Config) -> dict[str, mmkd.Training]:
    """Return the trainings by name."""
    splits = mmkd.data.from_files(config.table, INPUTS, label="pattern", split="split", group="device")
    classes = len(splits["train"].about["classes"])
    task = mmkd.tasks.classification(classes)
    labeled, every = (mmkd.data.InMemory(d, config.batch) for d in (splits["train"].where("labelled"), splits["train"]))
    encoders = {"photo": mmkd.models.ImageCNN((16, 32)), "sound": mmkd.models.AudioTDNN((32, 32))}
    teacher = mmkd.linen(mmkd.models.Multimodal(encoders, classes=classes, width=32))
    student = mmkd.linen(mmkd.models.Multimodal({"sound": mmkd.models.AudioTDNN((16, 16))}, classes=classes, width=16))
    shared = {
        "optimizer": optax.adamw(optax.cosine_decay_schedule(config.learning_rate, config.steps), weight_decay=1e-3),
        "task": task,
        "validation": mmkd.data.InMemory(splits["validation"], 64),
        "test": mmkd.data.InMemory(splits["test"], 64),
        "steps": config.steps,
        "evaluate_every": max(1, config.steps // 20),
    }
    soft = mmkd.term(mmkd.losses.kl, student="student.logits", teacher="teacher.logits", temperature=2.0)
    answers = mmkd.Frozen(teacher, init_from="teacher.teacher", cache=("logits",))
    return {
        "teacher": mmkd.Training(
            models={"teacher": mmkd.Trained(teacher)},
            objective=mmkd.combine(task=task.objective("teacher")),
            data=labeled,
            **shared,
        ),
        "labels": mmkd.Training(
            models={"student": mmkd.Trained(student)},
            objective=mmkd.combine(task=task.objective("student")),
            data=labeled,
            **shared,
        ),
        "distilled": mmkd.Training(
            models={"student": mmkd.Trained(student), "teacher": answers},
            objective=mmkd.combine(soft=soft),
            data=every,
            **shared,
        ),
    }
