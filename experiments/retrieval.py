"""Text-to-image retrieval: name an emoji and find its picture, with students of two small encoders.

    mmkd run experiments/retrieval.py

A query is the name of an emoji, and the document that answers it its picture. Of a quarter of the training emoji it is
known which name belongs to which picture. The teacher projects frozen features of MiniLM and EfficientNet-Lite0 into
one space, trained on these pairs. The student reads the name with a small vocabulary and sees the picture at half its
resolution: trained on the pairs, or also on the teacher's similarities of all names and pictures of a batch.
"""

import dataclasses
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import mmkd_jax as mmkd


@dataclasses.dataclass(frozen=True)
class Config:
    """Configuration of the retrieval experiment."""

    seeds: int = 5
    """Number of seeds per training."""
    labels: int = 240
    """Number of training emoji whose pair of name and picture is known."""
    steps: int = 150
    """Training steps of each model."""
    batch: int = 64
    """Batch size."""
    learning_rate: float = 3e-3
    """Peak learning rate."""
    temperature: float = 0.1
    """Temperature of teacher and student in the distillation term."""


config = Config()
baseline = "pairs"


def halved(batch, ctx):
    """Downsample images to half the height and width by averaging 2 × 2 pixels."""
    b, h, w, c = batch["image"].shape
    small = batch["image"].astype(jnp.float32).reshape(b, h // 2, 2, w // 2, 2, c).mean((2, 4)) / 255
    return {**batch, "image": small}


def with_features(rows: mmkd.data.Dataset, *pretrained) -> mmkd.data.Dataset:
    """Add the features of pretrained encoders as columns, such as `text_features`."""
    found: dict[str, list[np.ndarray]] = {}
    for loaded in pretrained:
        run = jax.jit(lambda variables, batch, model=loaded.model: mmkd.predict(model, variables, batch))
        (modality,) = loaded.module.encoders
        for batch in mmkd.data.InMemory(rows, 128).eval_batches():
            features = run(loaded.variables, batch)[f"features.{modality}"]
            found.setdefault(modality, []).append(np.asarray(features)[batch["valid"]])
    return rows.with_columns(**{f"{m}_features": np.concatenate(x) for m, x in found.items()})


def trainings(config: Config) -> dict[str, mmkd.Training]:
    emoji = {split: mmkd.data.load_or_prepare("emoji", split) for split in ("train", "validation", "test")}
    minilm = mmkd.pretrained.load(mmkd.pretrained.packages.minilm())
    efficientnet = mmkd.pretrained.load(mmkd.pretrained.packages.efficientnet_lite0())
    words = mmkd.data.train_tokenizer(emoji["train"].columns["text"].tolist(), size=1_000, length=8, modality="words")
    tokens = {minilm.processor: 16, words: 8}
    splits = {k: with_features(mmkd.data.tokenize(v, tokens), minilm, efficientnet) for k, v in emoji.items()}
    is_labeled = np.random.default_rng(0).permutation(splits["train"].size) < config.labels
    train = splits["train"].with_columns(labelled=is_labeled)
    pairs = mmkd.data.InMemory(train.where("labelled"), config.batch)
    models = mmkd.models
    teacher = mmkd.linen(
        models.BiEncoder(
            models.ImageMLP((256,)), models.ImageMLP((256,)), query="text_features", document="image_features", width=64
        )
    )
    student = models.BiEncoder(
        models.TextBag(words.vocabulary, 64),
        models.ImageCNN((16, 32, 64), first_stride=2),
        query="words",
        document="image",
        width=64,
    )
    student = mmkd.with_input(mmkd.linen(student), halved)
    task = mmkd.tasks.retrieval()
    shared: dict[str, Any] = {
        "task": task,
        "steps": config.steps,
        "optimizer": optax.adamw(optax.cosine_decay_schedule(config.learning_rate, config.steps), weight_decay=1e-2),
        "validation": mmkd.data.InMemory(splits["validation"], 173),
        "test": mmkd.data.InMemory(splits["test"], 101),
        "evaluate_every": max(1, config.steps // 6),
        "save_every": 10_000,
    }
    sides: dict[str, Any] = {m: (f"{m}.query", f"{m}.document") for m in ("student", "teacher")}
    temperatures = {"temperature": config.temperature, "teacher_temperature": config.temperature}
    soft = mmkd.term(mmkd.losses.in_batch_kl, **sides, **temperatures)
    frozen = mmkd.Frozen(teacher, init_from="teacher.teacher", cache=("query", "document"))
    return {
        "teacher": mmkd.Training(
            models={"teacher": mmkd.Trained(teacher)},
            objective=mmkd.combine(task=task.objective("teacher")),
            data=pairs,
            **shared,
        ),
        "pairs": mmkd.Training(
            models={"student": mmkd.Trained(student)},
            objective=mmkd.combine(task=task.objective()),
            data=pairs,
            **shared,
        ),
        "distilled": mmkd.Training(
            models={"student": mmkd.Trained(student), "teacher": frozen},
            objective=mmkd.combine(soft=soft, task=task.objective(where="labelled")),
            data=mmkd.data.InMemory(train, config.batch),
            **shared,
        ),
    }


if __name__ == "__main__":
    mmkd.main(["run", __file__, *sys.argv[1:]])
