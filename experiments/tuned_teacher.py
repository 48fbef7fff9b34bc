"""Distill a fine-tuned text classifier from a model folder into an LSTM, first fine-tuning it here.

    mmkd run experiments/tuned_teacher.py --out runs/tune             # fine-tune MiniLM
    python experiments/tuned_teacher.py save runs/tune tuned-minilm   # write it as transformers does
    mmkd run experiments/tuned_teacher.py --teacher tuned-minilm      # distill it, as any folder or hub id

Is a text negative or positive? The teacher is fine-tuned on 2,000 labeled texts; the LSTM is trained on 500 of them
(labels), or on the teacher's logits for all texts (distilled). A folder from the hub works alike, if its classes have
these names: its tokenizer, head and names are read from it.
"""

import dataclasses
import sys

import numpy as np
import optax

import mmkd_jax as mmkd

CLASSES = ("negative", "positive")


@dataclasses.dataclass(frozen=True)
class Config:
    """Configuration of the experiment."""

    seeds: int = 5
    """Number of seeds per training."""
    teacher: str = ""
    """Folder or hub id of a fine-tuned text classifier; empty to fine-tune one."""
    steps: int = 1_000
    """Training steps of each student."""
    tuning_steps: int = 200
    """Training steps of the teacher."""
    batch: int = 64
    """Batch size of the students; the teacher's is half of it."""


config = Config()
baseline = "labels"


def split(name: str) -> mmkd.data.Dataset:
    """Return the texts that are rated negative or positive on average, with that class as their label."""
    rows = mmkd.data.load_or_prepare("sentiment_intensity", name)
    rating = rows.columns["rating"]
    labeled = rows.with_columns(label=(rating > 0).astype(np.int32), rated=rating != 0).where("rated")
    return dataclasses.replace(labeled, about={**labeled.about, "classes": CLASSES})


def first(rows: mmkd.data.Dataset, count: int) -> mmkd.data.Dataset:
    """Return a fixed random selection of rows, in which each smaller one is contained."""
    return rows.with_columns(labelled=np.random.default_rng(0).permutation(rows.size) < count).where("labelled")


def trainings(config: Config) -> dict[str, mmkd.Training]:
    rows = {name: split(name) for name in ("train", "validation", "test")}
    task = mmkd.tasks.classification(len(CLASSES))
    loaded = mmkd.pretrained.load(config.teacher or mmkd.pretrained.packages.minilm())
    words = mmkd.data.train_tokenizer(rows["train"].columns["text"].tolist(), 8_000, 40, "words")
    tokens = {name: mmkd.data.tokenize(each, {loaded.processor: 40, words: 40}) for name, each in rows.items()}
    shared = {
        "task": task,
        "validation": mmkd.data.InMemory(tokens["validation"], 250),
        "test": mmkd.data.InMemory(tokens["test"], 250),
        "save_every": 10_000,
    }
    if not config.teacher:
        tuned = mmkd.pretrained.with_head(loaded, CLASSES)
        rate = optax.warmup_cosine_decay_schedule(0, 1e-4, max(1, config.tuning_steps // 10), config.tuning_steps)
        return {
            "labels": mmkd.Training(
                models={"teacher": mmkd.Trained(tuned)},
                objective=mmkd.combine(task=task.objective("teacher")),
                optimizer=optax.adamw(rate, weight_decay=1e-2),
                data=mmkd.data.InMemory(first(tokens["train"], 2_000), max(1, config.batch // 2)),
                steps=config.tuning_steps,
                evaluate_every=max(1, config.tuning_steps // 2),
                **shared,
            )
        }
    student = mmkd.linen(
        mmkd.models.Multimodal({"words": mmkd.models.TextLSTM(words.vocabulary, 64)}, classes=len(CLASSES))
    )
    learn = {
        "optimizer": optax.adamw(optax.cosine_decay_schedule(3e-3, config.steps), weight_decay=1e-2),
        "steps": config.steps,
        "evaluate_every": max(1, config.steps // 10),
        **shared,
    }
    return {
        "teacher": mmkd.Training.evaluation(loaded, task, shared["validation"], shared["test"]),
        "labels": mmkd.Training(
            models={"student": mmkd.Trained(student)},
            objective=mmkd.combine(task=task.objective()),
            data=mmkd.data.InMemory(first(tokens["train"], 500), config.batch),
            **learn,
        ),
        "distilled": mmkd.Training(
            models={"student": mmkd.Trained(student), "teacher": mmkd.Frozen(loaded, cache=("logits",))},
            objective=mmkd.combine(
                soft=mmkd.term(mmkd.losses.kl, student="student.logits", teacher="teacher.logits", temperature=2.0)
            ),
            data=mmkd.data.InMemory(tokens["train"], config.batch),
            **learn,
        ),
    }


def save(run: str, folder: str) -> None:
    """Write the teacher that a run has fine-tuned, with its tokenizer and the names of its classes."""
    training = trainings(config)["labels"]
    tuned = mmkd.pretrained.with_head(mmkd.pretrained.load(mmkd.pretrained.packages.minilm()), CLASSES)
    variables = mmkd.experiment.load_variables(run, training, "labels")["teacher"]
    mmkd.pretrained.save(folder, tuned.kind, tuned.module, variables, tuned.processor, tuned.labels)


if __name__ == "__main__":
    if sys.argv[1:2] == ["save"]:
        save(*sys.argv[2:])
    else:
        mmkd.main(["run", __file__, *sys.argv[1:]])
