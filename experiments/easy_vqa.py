"""Visual questions: a student with few answers learns from a teacher that has answers about other pictures.

    mmkd run experiments/easy_vqa.py

Each picture of easy-VQA shows one shape; a question about it has one of 13 answers. The teacher learns from all
questions about one half of the training pictures, at 32 × 32 pixels. The student sees the other half at 16 × 16 pixels,
and the answers to 300 questions about it. Two further students lack the picture or the question, and have all answers
that the teacher has: they show what is answered without understanding both.
"""

import dataclasses
import sys
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import optax

import mmkd_jax as mmkd


@dataclasses.dataclass(frozen=True)
class Config:
    """Configuration of the experiment with visual questions."""

    seeds: int = 3
    """Number of seeds per training."""
    labels: int = 300
    """Number of the student's questions that are answered."""
    tested: int = 300
    """Number of test pictures; a third as many are for validation."""
    steps: int = 1_500
    """Training steps of each model."""
    batch: int = 32
    """Batch size."""
    learning_rate: float = 3e-3
    """Peak learning rate."""


config = Config()
baseline = "labels"


class Product(nn.Module):
    """Fusion of the features q of a question and i of a picture: [V q ∘ W i, V q, W i]."""

    width: int

    @nn.compact
    def __call__(self, features, present, tap):
        q, i = (nn.Dense(self.width, name=m)(features[m]) for m in ("words", "image"))
        return jnp.concatenate([q * i, q, i], -1)


def smaller(factor: int):
    """Return a function that downsamples images by averaging factor × factor pixels."""

    def inputs(batch, ctx):
        b, h, w, c = batch["image"].shape
        tiles = batch["image"].astype(jnp.float32).reshape(b, h // factor, factor, w // factor, factor, c)
        return {**batch, "image": tiles.mean((2, 4)) / 255}

    return inputs


def trainings(config: Config) -> dict[str, mmkd.Training]:
    rows = {split: mmkd.data.load_or_prepare("easy_vqa", split) for split in ("train", "validation", "test")}
    words = mmkd.data.train_tokenizer(rows["train"].columns["text"].tolist(), size=100, length=10, modality="words")
    answers = len(rows["train"].about["classes"])

    def asked(split, pictures):
        """The questions about some pictures of a split, in a fixed random order of the pictures."""
        label, picture = (rows[split].columns[k] for k in ("label", "picture"))
        order = np.random.default_rng(0).permutation(np.unique(picture))
        scores = np.eye(answers, dtype=np.float32)[label]  # one answer is right
        chosen = rows[split].with_columns(scores=scores, chosen=np.isin(picture, order[pictures])).where("chosen")
        return mmkd.data.tokenize(chosen, {words: 10})

    half = len(np.unique(rows["train"].columns["picture"])) // 2
    taught, mine = asked("train", slice(half)), asked("train", slice(half, None))
    mine = mine.with_columns(labelled=np.random.default_rng(0).permutation(mine.size) < config.labels)
    task = mmkd.tasks.visual_questions(answers, "scores")

    def model(encoders, width, factor=None):
        fusion = Product(width) if len(encoders) == 2 else mmkd.models.fusion.Concat()
        head = mmkd.models.head_for(task)
        net = mmkd.linen(mmkd.models.Multimodal(encoders, width=width, fusion=fusion, head=head))
        return mmkd.with_input(net, smaller(factor)) if factor else net

    sees = {"image": mmkd.models.ImageCNN((16, 32, 64))}
    reads = {"words": mmkd.models.TextBag(words.vocabulary, 32)}
    large: dict[str, Any] = {"image": mmkd.models.ImageCNN((24, 48, 96), first_stride=2)}
    large |= {"words": mmkd.models.TextLSTM(words.vocabulary, 64)}
    teacher, student = model(large, 128, 2), model(sees | reads, 32, 4)
    shared: dict[str, Any] = {
        "task": task,
        "steps": config.steps,
        "optimizer": optax.adamw(optax.cosine_decay_schedule(config.learning_rate, config.steps), weight_decay=1e-2),
        "validation": mmkd.data.InMemory(asked("validation", slice(config.tested // 3)), 200),
        "test": mmkd.data.InMemory(asked("test", slice(config.tested)), 200),
        "evaluate_every": max(1, config.steps // 5),
        "save_every": 10_000,
    }

    def learn(model, data, name="student"):
        return mmkd.Training(
            models={name: mmkd.Trained(model)},
            objective=mmkd.combine(task=task.objective(name)),
            data=mmkd.data.InMemory(data, config.batch),
            **shared,
        )

    soft = mmkd.term(mmkd.losses.binary_kl, student="student.logits", teacher="teacher.logits")
    frozen = mmkd.Frozen(teacher, init_from="teacher.teacher", cache=("logits",))
    return {
        "teacher": learn(teacher, taught, "teacher"),
        "question_only": learn(model(reads, 32), taught),
        "image_only": learn(model(sees, 32, 4), taught),
        "labels": learn(student, mine.where("labelled")),
        "distilled": mmkd.Training(
            models={"student": mmkd.Trained(student), "teacher": frozen},
            objective=mmkd.combine(soft=soft, task=task.objective(where="labelled")),
            data=mmkd.data.InMemory(mine, config.batch),
            **shared,
        ),
    }


if __name__ == "__main__":
    mmkd.main(["run", __file__, *sys.argv[1:]])
