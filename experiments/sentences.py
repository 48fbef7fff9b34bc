"""Text generation: a small language model of few sentences learns from a larger one that has read many.

    mmkd run experiments/sentences.py

A model reads a sentence of the Brown corpus and predicts each next word, of the 500 most frequent ones; all others
are one token. The teacher has read 6,000 sentences, the student 500 of other documents. It learns from these sentences
alone (`labels`), from the teacher's distribution over the next word as well (`word_kd`), or half of the time on
sentences that it writes itself after their first word (`gkd`).
"""

import dataclasses
import sys
from typing import Any

import numpy as np
import optax

import mmkd_jax as mmkd


@dataclasses.dataclass(frozen=True)
class Config:
    """Configuration of the language model experiment."""

    seeds: int = 3
    """Number of seeds per training."""
    sentences: int = 6_000
    """Number of the teacher's sentences."""
    labels: int = 500
    """Number of the student's sentences."""
    tested: int = 1_000
    """Number of test sentences; half as many are for validation."""
    length: int = 16
    """Number of words of a sentence that are read; later ones are cut."""
    vocabulary: int = 500
    """Number of tokens: words that the teacher's sentences use most, one for the others, and padding."""
    steps: int = 300
    """Training steps of each student; the teacher takes three times as many."""
    batch: int = 32
    """Batch size."""
    learning_rate: float = 1e-2
    """Peak learning rate."""
    dropout: float = 0.3
    """Dropout of the last state."""


config = Config()
baseline = "labels"


def selected(split: str, count: int) -> mmkd.data.Dataset:
    """Return a fixed random selection of sentences."""
    rows = mmkd.data.load_or_prepare("brown", split)
    return rows.with_columns(chosen=np.random.default_rng(0).permutation(rows.size) < count).where("chosen")


def trainings(config: Config) -> dict[str, mmkd.Training]:
    counts = {"train": config.sentences + config.labels, "validation": config.tested // 2, "test": config.tested}
    sentences = {split: selected(split, count) for split, count in counts.items()}
    document = sentences["train"].columns["document"]
    order = np.argsort(np.random.default_rng(0).permutation(document.max() + 1)[document], kind="stable")
    mine = np.zeros(len(order), bool)
    mine[order[: config.labels]] = True  # whole documents, but for one that both share
    train = sentences["train"].with_columns(mine=mine, others=~mine)
    texts = train.where("others").columns["text"].tolist()
    words = mmkd.data.train_tokenizer(texts, config.vocabulary, config.length, "words")
    splits = {k: mmkd.data.tokenize(x, {words: config.length}) for k, x in (sentences | {"train": train}).items()}
    task = mmkd.tasks.generation("words")

    def model(width):  # a tagger whose encoder reads from left to right, and whose tag is the next word
        encoder = {"words": mmkd.models.TextLSTM(words.vocabulary, width)}
        return mmkd.linen(mmkd.models.Tagger(encoder, words.vocabulary, width=0, dropout=config.dropout))

    def optimizer(steps):
        return optax.adamw(optax.cosine_decay_schedule(config.learning_rate, steps), weight_decay=1e-2)

    shared: dict[str, Any] = {
        "task": task,
        "validation": mmkd.data.InMemory(splits["validation"], 100),
        "test": mmkd.data.InMemory(splits["test"], 100),
        "save_every": 10_000,
    }
    teacher, student = model(96), model(32)
    learn: dict[str, Any] = {
        "optimizer": optimizer(config.steps),
        "data": mmkd.data.InMemory(splits["train"].where("mine"), config.batch),
        "steps": config.steps,
        "evaluate_every": max(1, config.steps // 10),
        **shared,
    }
    both = {
        "student": mmkd.Trained(student),
        "teacher": mmkd.Frozen(teacher, init_from="teacher.teacher"),
    }
    return {
        "teacher": mmkd.Training(
            models={"teacher": mmkd.Trained(teacher)},
            objective=mmkd.combine(task=task.objective("teacher")),
            optimizer=optimizer(3 * config.steps),
            data=mmkd.data.InMemory(splits["train"].where("others"), config.batch),
            steps=3 * config.steps,
            evaluate_every=config.steps,
            **shared,
        ),
        "labels": mmkd.Training(
            models={"student": mmkd.Trained(student)}, objective=mmkd.combine(task=task.objective()), **learn
        ),
        "word_kd": mmkd.Training(
            models=both, objective=mmkd.combine(words=mmkd.methods.word_kd(text="words", alpha=0.9)), **learn
        ),
        "gkd": mmkd.Training(
            models=both,
            objective=mmkd.combine(own=mmkd.methods.gkd(text="words", divergence="kl")),
            **learn,
        ),
    }


if __name__ == "__main__":
    mmkd.main(["run", __file__, *sys.argv[1:]])
