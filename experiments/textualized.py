"""Image textualization: pictures become words, through which a teacher of text and a student of pixels meet.

    mmkd run experiments/textualized.py

The pictures are the emoji of experiments/emoji.py, with its split and its 240 labels. Two ways from pictures to words
are compared; neither reads the emoji's own name. `classes` are the names of the three likeliest ImageNet classes by
EfficientNet-Lite0, which are mostly wrong for drawings of 72 × 72 pixels. `names` are those of the three training emoji
that look most alike, by features of EfficientNet-Lite0, and belong to another family. Teachers are classifiers on
frozen features: of these words by MiniLM, or of the pictures by EfficientNet-Lite0. One student sees 36 × 36 pixels.
The other reads `names`: wherever it is used, it still needs EfficientNet-Lite0 and the training emoji.
"""

import dataclasses
import sys
from typing import Any

import jax
import numpy as np
import optax
from retrieval import halved
from tensorflow_datasets.datasets.siscore.labels import IMAGENET_LABELS_LIST as IMAGENET

import mmkd_jax as mmkd

NEAREST = 3
"""Number of names, or of classes, that describe a picture."""


@dataclasses.dataclass(frozen=True)
class Config:
    """Configuration of the textualization experiment."""

    seeds: int = 5
    """Number of seeds per training."""
    labels: int = 240
    """Number of labeled emoji."""
    steps: int = 600
    """Training steps."""
    batch: int = 64
    """Batch size."""
    learning_rate: float = 3e-3
    """Peak learning rate of the students; that of the teachers is a third of it."""
    temperature: float = 2.0
    """Temperature of the distillation."""


config = Config()
baseline = {
    "classes_teacher": "image_teacher",
    "names_teacher": "image_teacher",
    "sees_words": "sees_labels",
    "sees_image": "sees_labels",
    "reads_words": "reads_labels",
    "reads_image": "reads_labels",
}


def outputs(loaded: Any, rows: mmkd.data.Dataset, *names: str) -> list[np.ndarray]:
    """Return outputs of a pretrained model for all rows."""

    def run(variables, batch):
        found = mmkd.predict(loaded.model, variables, batch)
        return [found[name] for name in names]

    run = jax.jit(run)
    batches = mmkd.data.InMemory(rows, 128).eval_batches()
    found = [[np.asarray(x)[b["valid"]] for x in run(loaded.variables, b)] for b in batches]
    return [np.concatenate(x) for x in zip(*found, strict=True)]


def nearest(features: np.ndarray, family: np.ndarray, train: np.ndarray, families: np.ndarray) -> np.ndarray:
    """Return the training pictures of other families with the largest cosine of centered features."""
    mean = train.mean(0)
    one, other = ((x - mean) / np.linalg.norm(x - mean, axis=1, keepdims=True) for x in (features, train))
    alike = np.where(family[:, None] == families, -np.inf, one @ other.T)
    return np.argsort(-alike, 1)[:, :NEAREST]


def textualized(emoji: dict[str, mmkd.data.Dataset]) -> dict[str, mmkd.data.Dataset]:
    """Add both descriptions, features of them and of the pictures; the emoji's own names are left out."""
    minilm = mmkd.pretrained.load(mmkd.pretrained.packages.minilm())
    efficientnet = mmkd.pretrained.load(mmkd.pretrained.packages.efficientnet_lite0())
    names = [name.decode() for name in emoji["train"].columns["text"].tolist()]
    family = {split: rows.columns["family"] for split, rows in emoji.items()}
    pictures = {split: mmkd.data.tokenize(rows, {}) for split, rows in emoji.items()}
    seen = {split: outputs(efficientnet, rows, "features.image", "logits") for split, rows in pictures.items()}
    found = {}
    for split, (features, logits) in seen.items():
        alike = nearest(features, family[split], seen["train"][0], family["train"])
        words = {
            "names": [", ".join(names[i] for i in row) for row in alike],
            "classes": [", ".join(IMAGENET[i].split(",")[0] for i in row[:NEAREST]) for row in np.argsort(-logits, 1)],
        }
        columns: dict[str, Any] = {"image_features": features}
        for kind, texts in words.items():
            rows = mmkd.data.from_columns({"text": np.array([t.encode() for t in texts])}, kind)
            tokens = mmkd.data.tokenize(rows, {minilm.processor: 40})
            (columns[f"{kind}_features"],) = outputs(minilm, tokens, "features.text")
            columns[kind] = rows.columns["text"]
        found[split] = pictures[split].with_columns(**columns)
    return found


def trainings(config: Config) -> dict[str, mmkd.Training]:
    emoji = {split: mmkd.data.load_or_prepare("emoji", split) for split in ("train", "validation", "test")}
    made = textualized(emoji)
    words = mmkd.data.train_tokenizer(made["train"].columns["names"].tolist(), size=1_000, length=24, modality="words")
    splits = {k: mmkd.data.tokenize(rows, {words: 24}, "names") for k, rows in made.items()}
    is_labeled = np.random.default_rng(0).permutation(splits["train"].size) < config.labels
    train = splits["train"].with_columns(labelled=is_labeled)
    labeled = mmkd.data.InMemory(train.where("labelled"), config.batch)
    task = mmkd.tasks.classification(8)
    models = mmkd.models

    def teacher(kind):
        encoders = {f"{kind}_features": models.ImageMLP(())}
        return mmkd.linen(models.Multimodal(encoders, classes=8, width=128, dropout=0.5))

    sees = models.Multimodal({"image": models.ImageCNN((16, 32, 64), first_stride=2)}, classes=8)
    reads = models.Multimodal({"words": models.TextLSTM(words.vocabulary, 32)}, classes=8)
    students = {"sees": mmkd.with_input(mmkd.linen(sees), halved), "reads": mmkd.linen(reads)}

    def optimizer(peak):
        return optax.adamw(optax.cosine_decay_schedule(peak, config.steps), weight_decay=1e-2)

    shared: dict[str, Any] = {
        "task": task,
        "optimizer": optimizer(config.learning_rate),
        "validation": mmkd.data.InMemory(splits["validation"], 173),
        "test": mmkd.data.InMemory(splits["test"], 101),
        "steps": config.steps,
        "evaluate_every": max(1, config.steps // 10),
        "save_every": 10_000,
    }
    all_trainings = {
        f"{kind}_teacher": mmkd.Training(
            models={"teacher": mmkd.Trained(teacher(kind))},
            objective=mmkd.combine(task=task.objective("teacher")),
            data=labeled,
            **shared | {"optimizer": optimizer(config.learning_rate / 3)},
        )
        for kind in ("image", "classes", "names")
    }
    logits = {"student": "student.logits", "teacher": "teacher.logits"}
    soft = mmkd.term(mmkd.losses.kl, **logits, temperature=config.temperature)
    for name, student in students.items():
        all_trainings[f"{name}_labels"] = mmkd.Training(
            models={"student": mmkd.Trained(student)},
            objective=mmkd.combine(task=task.objective()),
            data=labeled,
            **shared,
        )
        for how, kind in {"words": "names", "image": "image"}.items():
            answers = mmkd.Frozen(teacher(kind), init_from=f"{kind}_teacher.teacher", cache=("logits",))
            all_trainings[f"{name}_{how}"] = mmkd.Training(
                models={"student": mmkd.Trained(student), "teacher": answers},
                objective=mmkd.combine(soft=soft, task=task.objective(where="labelled")),
                data=mmkd.data.InMemory(train, config.batch),
                **shared,
            )
    return all_trainings


if __name__ == "__main__":
    mmkd.main(["run", __file__, *sys.argv[1:]])
