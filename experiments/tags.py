"""Parts of speech: a tagger on a frozen text encoder, distilled on unlabeled sentences into one of words and suffixes.

    mmkd run experiments/tags.py

20 sentences of the Brown corpus are labeled, 490 are not; validation and test sentences are of other documents. The
teacher classifies the hidden states 3 and 6 of MiniLM (22.7 M parameters) at the first piece of each word; the encoder
is not trained. The student sees each word, its last letters, and two neighbors on each side.
"""

import dataclasses
import sys
from typing import Any

import jax
import numpy as np
import optax

import mmkd_jax as mmkd

WORDS, PIECES = 40, 64
"""Longest sentence of the corpus, in words, and of the selected ones, in pieces of words."""


@dataclasses.dataclass(frozen=True)
class Config:
    """Configuration of the tagging experiment."""

    seeds: int = 5
    """Number of seeds per training."""
    labels: int = 20
    """Number of labeled sentences."""
    sentences: int = 510
    """Number of training sentences."""
    tested: int = 500
    """Number of test sentences; half as many are for validation."""
    steps: int = 500
    """Training steps of each student."""
    tuning_steps: int = 60
    """Training steps of the teacher."""
    learning_rate: float = 3e-3
    """Peak learning rate."""
    decay: float = 3.0
    """Weight decay of the student that learns from the labels alone; the best on validation of 0.01, 1, 3 and 10."""


config = Config()
baseline = "labels"


def selected(split: str, count: int) -> mmkd.data.Dataset:
    """Return a fixed random selection of sentences, with the labels of their words."""
    rows = mmkd.data.load_or_prepare("brown", split)
    rows = rows.with_columns(selected=np.random.default_rng(0).permutation(rows.size) < count).where("selected")
    texts, tags = (rows.columns[k].tolist() for k in ("text", "tags"))
    names = [t.decode().split() for t in tags]
    return rows.with_columns(**mmkd.data.word_labels(texts, names, rows.about["classes"], WORDS))


def without_encoder(optimizer: optax.GradientTransformation) -> optax.GradientTransformation:
    """Return an optimizer that leaves the variables of encoders as they are."""

    def kinds(params):
        def kind(path, _):
            return "none" if "encoders" in jax.tree_util.keystr(path) else "all"

        return jax.tree.map_with_path(kind, params)

    return optax.multi_transform({"all": optimizer, "none": optax.set_to_zero()}, kinds)


def trainings(config: Config) -> dict[str, mmkd.Training]:
    counts = {"train": config.sentences, "validation": config.tested // 2, "test": config.tested}
    sentences = {split: selected(split, count) for split, count in counts.items()}
    task = mmkd.tasks.tagging(sentences["train"].about["classes"])
    minilm = mmkd.pretrained.load(mmkd.pretrained.packages.minilm())
    texts = sentences["train"].columns["text"].tolist()
    words = mmkd.data.train_tokenizer(texts, 2_000, WORDS, "words", split="spaces")
    suffixes = mmkd.data.train_tokenizer(texts, 500, WORDS, "suffixes", split="spaces", suffix=3)
    lengths = {minilm.processor: PIECES, words: WORDS, suffixes: WORDS}
    splits = {k: mmkd.data.tokenize(x, lengths, words={minilm.processor: WORDS}) for k, x in sentences.items()}
    is_labeled = np.random.default_rng(0).permutation(splits["train"].size) < config.labels
    train = splits["train"].with_columns(labelled=is_labeled)
    labeled = mmkd.data.InMemory(train.where("labelled"), min(config.labels, 10))
    tags = len(task.classes)
    teacher = mmkd.linen(mmkd.models.Tagger(minilm.module.encoders, tags, width=0, layers=(3, 6)))
    tables = {"words": (words.vocabulary, 32), "suffixes": (suffixes.vocabulary, 48)}
    encoders = {k: mmkd.models.TextBag(*sizes) for k, sizes in tables.items()}
    student = mmkd.linen(mmkd.models.Tagger(encoders, tags, width=64, window=2, dropout=0.5))
    shared = {
        "task": task,
        "validation": mmkd.data.InMemory(splits["validation"], 50),
        "test": mmkd.data.InMemory(splits["test"], 50),
        "save_every": 10_000,
    }
    rate = optax.cosine_decay_schedule(config.learning_rate, config.steps)
    learn: dict[str, Any] = {
        "models": {"student": mmkd.Trained(student)},
        "steps": config.steps,
        "evaluate_every": max(1, config.steps // 10),
        **shared,
    }
    answers = mmkd.Frozen(teacher, init_from="teacher.teacher", cache=("logits",))
    soft = {"student": "student.logits", "teacher": "teacher.logits", "where": "label.mask"}
    return {
        "teacher": mmkd.Training(
            models={"teacher": mmkd.Trained(teacher, init_from=mmkd.pretrained.init_from(minilm))},
            objective=mmkd.combine(task=task.objective("teacher")),
            optimizer=without_encoder(optax.adamw(config.learning_rate, weight_decay=1e-2)),
            data=labeled,
            steps=config.tuning_steps,
            evaluate_every=config.tuning_steps,
            **shared,
        ),
        "labels": mmkd.Training(
            objective=mmkd.combine(task=task.objective()),
            optimizer=optax.adamw(rate, weight_decay=config.decay),
            data=labeled,
            **learn,
        ),
        "distilled": mmkd.Training(
            **learn | {"models": {"student": mmkd.Trained(student), "teacher": answers}},
            objective=mmkd.combine(soft=mmkd.term(mmkd.losses.kl, **soft)),
            optimizer=optax.adamw(rate, weight_decay=1e-2),
            data=mmkd.data.InMemory(train, 32),
        ),
    }


if __name__ == "__main__":
    mmkd.main(["run", __file__, *sys.argv[1:]])
