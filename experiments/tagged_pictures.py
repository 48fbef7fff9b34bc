"""Tagging with pictures: a teacher sees a sentence and what it names, a student reads the sentence alone.

    mmkd run experiments/tagged_pictures.py

The sentences are made up by the small grammar below, such as "my sister drew the hot pepper after lunch". Each names
one emoji and comes with its picture. The words of the name are tagged with its group, such as B-food-drink and
I-food-drink, the others are O. Emoji are split by family, so that test sentences have other names than those of
training; 120 of 966 training sentences are labeled. Student and teacher see words and their last letters; frozen
features of the picture by EfficientNet-Lite0 are joined to each word of the teacher.
"""

import dataclasses
import sys
from typing import Any

import jax
import numpy as np
import optax

import mmkd_jax as mmkd

WORDS = 20
"""Longest sentence."""
WHO = "my sister|our teacher|the neighbors|a friend of mine|someone|we|they|the children"
DID = "drew|posted|printed|looked for|sent|liked|asked for|wrote about"
WHEN = "yesterday|again|after lunch|in the first message|on a postcard|last week|without a reason|before we met"
ORDERS = ("{who} {did} {name} {when}", "{when} {who} {did} {name}", "{name} is what {who} {did} {when}")
ARTICLES = ("", "the ", "this ", "one more ")


@dataclasses.dataclass(frozen=True)
class Config:
    """Configuration of the experiment of tags with pictures."""

    seeds: int = 5
    """Number of seeds per training."""
    labels: int = 120
    """Number of labeled sentences."""
    steps: int = 900
    """Training steps."""
    learning_rate: float = 3e-3
    """Peak learning rate."""
    decay: float = 0.3
    """Weight decay of the trainings on labels alone."""
    soft_decay: float = 0.01
    """Weight decay of the distilled student."""
    temperature: float = 2.0
    """Temperature of the distillation."""


config = Config()
baseline = "labels"


def sentences(emoji: mmkd.data.Dataset, efficientnet: Any, seed: int) -> mmkd.data.Dataset:
    """Return a sentence about each emoji, the tags of its words, and features of the picture."""
    draw, groups = np.random.default_rng(seed), emoji.about["classes"]
    texts, tags = [], []
    for name, label in zip(emoji.columns["text"].tolist(), emoji.columns["label"].tolist(), strict=True):
        name = name.decode().split()
        phrases = {k: draw.choice(x.split("|")) for k, x in (("who", WHO), ("did", DID), ("when", WHEN))}
        before, after = str(draw.choice(ORDERS)).format(name="{name}", **phrases).split("{name}")
        before += str(draw.choice(ARTICLES))
        texts.append(f"{before}{' '.join(name)}{after}")
        inside = [f"I-{groups[label]}"] * (len(name) - 1)
        tags.append(["O"] * len(before.split()) + [f"B-{groups[label]}", *inside] + ["O"] * len(after.split()))
    names = ("O", *[f"{place}-{group}" for group in groups for place in "BI"])
    run = jax.jit(lambda variables, batch: mmkd.predict(efficientnet.model, variables, batch)["features.image"])
    batches = mmkd.data.InMemory(mmkd.data.tokenize(emoji, {}), 128).eval_batches()
    columns = {
        "text": np.array([t.encode() for t in texts]),
        "image": np.concatenate([np.asarray(run(efficientnet.variables, b))[b["valid"]] for b in batches]),
        **mmkd.data.word_labels(texts, tags, names, WORDS),
    }
    return mmkd.data.from_columns(columns, "emoji in sentences", classes=names)


def trainings(config: Config) -> dict[str, mmkd.Training]:
    efficientnet = mmkd.pretrained.load(mmkd.pretrained.packages.efficientnet_lite0())
    emoji = {split: mmkd.data.load_or_prepare("emoji", split) for split in ("train", "validation", "test")}
    made = {split: sentences(rows, efficientnet, seed) for seed, (split, rows) in enumerate(emoji.items())}
    task = mmkd.tasks.tagging(made["train"].about["classes"])
    texts, tags = made["train"].columns["text"].tolist(), len(task.classes)
    words = mmkd.data.train_tokenizer(texts, 2_000, WORDS, "words", split="spaces")
    suffixes = mmkd.data.train_tokenizer(texts, 500, WORDS, "suffixes", split="spaces", suffix=3)
    splits = {k: mmkd.data.tokenize(x, {words: WORDS, suffixes: WORDS}) for k, x in made.items()}
    is_labeled = np.random.default_rng(0).permutation(splits["train"].size) < config.labels
    train = splits["train"].with_columns(labelled=is_labeled)
    labeled = mmkd.data.InMemory(train.where("labelled"), 32)
    tables = {"words": (words.vocabulary, 32), "suffixes": (suffixes.vocabulary, 48)}
    encoders: dict[str, Any] = {k: mmkd.models.TextBag(*sizes) for k, sizes in tables.items()}
    how = {"tags": tags, "width": 64, "window": 2, "dropout": 0.5}
    student = mmkd.linen(mmkd.models.Tagger(encoders, **how))
    seeing = {**encoders, "image": mmkd.models.ImageMLP((32,))}
    teacher = mmkd.linen(mmkd.models.Tagger(seeing, **how, context=("image",)))
    rate = optax.cosine_decay_schedule(config.learning_rate, config.steps)
    shared: dict[str, Any] = {
        "task": task,
        "validation": mmkd.data.InMemory(splits["validation"], 173),
        "test": mmkd.data.InMemory(splits["test"], 101),
        "steps": config.steps,
        "evaluate_every": max(1, config.steps // 10),
        "save_every": 10_000,
    }

    def optimizer(decay):
        return optax.adamw(rate, weight_decay=decay)

    answers = mmkd.Frozen(teacher, init_from="teacher.teacher", cache=("logits",))
    paths = {"student": "student.logits", "teacher": "teacher.logits", "where": "label.mask"}
    return {
        "teacher": mmkd.Training(
            models={"teacher": mmkd.Trained(teacher)},
            objective=mmkd.combine(task=task.objective("teacher")),
            optimizer=optimizer(config.decay),
            data=labeled,
            **shared,
        ),
        "labels": mmkd.Training(
            models={"student": mmkd.Trained(student)},
            objective=mmkd.combine(task=task.objective()),
            optimizer=optimizer(config.decay),
            data=labeled,
            **shared,
        ),
        "distilled": mmkd.Training(
            models={"student": mmkd.Trained(student), "teacher": answers},
            objective=mmkd.combine(
                soft=mmkd.term(mmkd.losses.kl, **paths, temperature=config.temperature),
                task=task.objective(where="labelled"),
            ),
            optimizer=optimizer(config.soft_decay),
            data=mmkd.data.InMemory(train, 32),
            **shared,
        ),
    }


if __name__ == "__main__":
    mmkd.main(["run", __file__, *sys.argv[1:]])
