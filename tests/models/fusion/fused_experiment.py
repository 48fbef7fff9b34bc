"""Late fusion distilled from late fusion, and a model with auxiliary classifiers; rows lack either modality."""

import dataclasses
from typing import Any

import numpy as np
import optax

from mmkd_jax import data, losses
from mmkd_jax.core.model import linen
from mmkd_jax.core.objective import combine, term
from mmkd_jax.models import AudioTDNN, ImageMLP, Multimodal
from mmkd_jax.models.fusion import Late, MoE
from mmkd_jax.tasks import classification
from mmkd_jax.training.roles import Frozen, Trained
from mmkd_jax.training.training import Training


@dataclasses.dataclass(frozen=True)
class Config:
    """Tiny."""

    seeds: int = 1


config = Config()
baseline = "teacher"


def columns():
    """Means tell the class; what stands where a modality is absent would be noticed."""
    draw, label = np.random.default_rng(0), (np.arange(48) % 3).astype(np.int32)
    seen = {"present.image": draw.random(48) < 0.8}
    seen["present.audio"] = ~seen["present.image"] | (draw.random(48) < 0.7)
    image = draw.random((48, 3, 3, 1)) + label[:, None, None, None]
    audio = draw.random((48, 4, 3)) - label[:, None, None]
    image[~seen["present.image"]], audio[~seen["present.audio"]] = 1e6, -1e6
    return seen | {"image": image.astype(np.float32), "audio": audio.astype(np.float32), "label": label}


def trainings(config: Config) -> dict[str, Training]:
    task, rows = classification(3), data.from_columns(columns(), "made-up", classes=("low", "middle", "high"))
    loader = data.InMemory(rows, 24)
    shared: dict[str, Any] = {"task": task, "steps": 60, "evaluate_every": 60, "save_every": 60}
    shared |= {"data": loader, "validation": loader, "test": loader, "optimizer": optax.adam(0.03)}

    def encoders(width):
        return {"image": ImageMLP((width,)), "audio": AudioTDNN((width,), reach=1)}

    late = {n: linen(Multimodal(encoders(w), fusion=Late(3, "learned"))) for n, w in (("teacher", 8), ("student", 4))}
    terms = {"soft": term(losses.kl, student="student.logits", teacher="teacher.logits", temperature=2.0)}
    terms |= {
        f"soft {m}": term(losses.kl, student=f"student.logits.{m}", teacher=f"teacher.logits.{m}", where=f"present.{m}")
        for m in ("image", "audio")
    }
    mixed = linen(Multimodal(encoders(4), 3, 4, MoE(3, 4), auxiliary=True))
    own = {
        f"own {m}": term(losses.cross_entropy, logits=f"mixed.logits.{m}", labels="batch.label", where=f"present.{m}")
        for m in ("image", "audio")
    }
    own |= {"balance": term(losses.load_balancing, router="mixed.router", weight=0.01)}
    return {
        "teacher": Training({"teacher": Trained(late["teacher"])}, combine(task=task.objective("teacher")), **shared),
        "student": Training(
            {"teacher": Frozen(late["teacher"], init_from="teacher.teacher"), "student": Trained(late["student"])},
            combine(**terms),
            **shared,
        ),
        "mixed": Training({"mixed": Trained(mixed)}, combine(task=task.objective("mixed"), **own), **shared),
    }
