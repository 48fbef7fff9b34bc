"""Sixty made-up questions with their answers: a teacher and a student of retrieval, in seconds."""

import dataclasses
from typing import Any

import numpy as np
import optax

import mmkd_jax as mmkd


@dataclasses.dataclass(frozen=True)
class Config:
    """Tiny."""

    seeds: int = 1
    steps: int = 30
    batch: int = 16
    look: int = 7
    """Rows of a batch of the evaluation."""


config = Config()
baseline = "teacher"
THINGS = "ape bee cat dog elk fox gnu hen ibis jay koi lynx".split()
PLACES = "sea wood hill pond cave".split()
QUESTIONS = np.array([f"who sees the {t} at the {p}".encode() for t in THINGS for p in PLACES])
ANSWERS = np.array([f"the {t} of the {p}".encode() for t in THINGS for p in PLACES])


def trainings(config: Config) -> dict[str, mmkd.Training]:
    columns = {"question": QUESTIONS, "answer": ANSWERS, "present.question": np.ones(60, bool)}
    rows = mmkd.data.from_columns(columns | {"present.answer": np.ones(60, bool)}, "made-up")
    texts = {"question": QUESTIONS, "answer": ANSWERS}
    words = [mmkd.data.train_tokenizer(x.tolist(), size=60, length=8, modality=side) for side, x in texts.items()]
    rows = mmkd.data.tokenize(rows, dict.fromkeys(words, 8), {side: side for side in texts})
    task = mmkd.tasks.retrieval(recall=(1, 10))

    def net(width):
        encoders = (mmkd.models.TextBag(60, width), mmkd.models.TextBag(60, width))
        return mmkd.linen(mmkd.models.BiEncoder(*encoders, query="question", document="answer", width=width))

    shared: dict[str, Any] = {"task": task, "steps": config.steps, "evaluate_every": 5, "optimizer": optax.adam(3e-2)}
    shared |= {"data": mmkd.data.InMemory(rows, config.batch)}
    shared |= {n: mmkd.data.InMemory(rows, config.look) for n in ("validation", "test")}
    sides: dict[str, Any] = {m: (f"{m}.query", f"{m}.document") for m in ("student", "teacher")}
    taught = mmkd.combine(soft=mmkd.term(mmkd.losses.in_batch_kl, **sides), task=task.objective(weight=0.1))
    return {
        "teacher": mmkd.Training(
            {"teacher": mmkd.Trained(net(16))}, mmkd.combine(task=task.objective("teacher")), **shared
        ),
        "student": mmkd.Training(
            {
                "student": mmkd.Trained(net(6)),
                "teacher": mmkd.Frozen(net(16), init_from="teacher.teacher", cache=("query", "document")),
            },
            taught,
            **shared | {"steps": 200},
            patience=2,
        ),
    }
