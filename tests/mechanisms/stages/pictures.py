"""Two convolutional models of pictures: logits, features, relations, regression; and what runs them again."""

import inspect
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mmkd_jax import losses, methods
from mmkd_jax.adversarial import PGD
from mmkd_jax.cli import catalogue
from mmkd_jax.core.model import linen
from mmkd_jax.core.objective import term
from mmkd_jax.models import ImageCNN, Multimodal
from mmkd_jax.nn.connectors import Conv, Each, Linear
from tests.mechanisms.stages.stage import Stage

CLASSES, ROWS, WIDE = 4, 12, 8
MODELS = {
    name: linen(Multimodal({"image": ImageCNN(widths)}, classes=CLASSES, width=width))
    for name, widths, width in (("teacher", (WIDE, WIDE), 6), ("student", (4, 6), 5))
}
WEIGHTS = jnp.array([0.5, 1.0, 2.0, 1.5])
TEACHER = {"teacher": "teacher.logits"}
EMBEDDING = {"student": "student.embedding", "teacher": "teacher.embedding"}
STAGES = tuple(f"{{}}.hidden.image.{i}" for i in (0, 1))


def of(path, **more) -> dict[str, Any]:
    """The same output of both models."""
    return {"student": f"student.{path}", "teacher": f"teacher.{path}", **more}


def stages(name):
    return tuple(s.format(name) for s in STAGES)


MAP = of("hidden.image.0", connect={"student": Conv(WIDE)})
RAW = of("hidden.image.0")
# what a loss is given beside the logits of student and teacher, or in their place
GIVEN: dict[str, Any] = {
    "cross_entropy": {"logits": "student.logits", "labels": "batch.label"},
    "weighted_cross_entropy": {"logits": "student.logits", "labels": "batch.label", "class_weights": WEIGHTS},
    "binary_cross_entropy": {"logits": "student.logits", "labels": "batch.labels"},
    "ordinal_coral": {"logits": "student.logits", "levels": "batch.label"},
    "ordinal_corn": {"logits": "student.logits", "levels": "batch.label"},
    "weighted_kl": of("logits", class_weights=WEIGHTS),
    "topk_kl": of("logits", k=2),
    "standardize": {"logits": "student.logits"},
    "chunked_kl": of("embedding", head="batch.head", teacher_head="batch.teacher_head"),
    "mse": {"predictions": "student.logits", "targets": "teacher.logits"},
    "l1": {"predictions": "student.logits", "targets": "teacher.logits"},
    "huber": {"predictions": "student.logits", "targets": "teacher.logits"},
    "bounded_regression": of("logits", targets="batch.targets", margin=1.0),
    "gaussian_kl": {m: (f"{m}.logits", f"{m}.logits") for m in ("student", "teacher")},
    "hint": MAP,
    "cosine": EMBEDDING | {"connect": {"student": Linear(6)}},
    "normalized_l2": EMBEDDING | {"connect": {"student": Linear(6)}},
    "pearson": MAP,
    "attention_transfer": RAW,
    "fsp": {
        "student": stages("student"),
        "teacher": stages("teacher"),
        "connect": {"student": Each((Conv(WIDE), Conv(WIDE)))},
    },
    "nst": RAW,
    "vid": {"mean": "student.logits", "teacher": "teacher.logits", "variance": jnp.ones(CLASSES)},
    "activation_boundary": of("preactivation.image.0", connect={"student": Conv(WIDE)}),
    "ofd": of("preactivation.image.0", margin=-jnp.ones(WIDE), connect={"student": Conv(WIDE)}),
    "factor_transfer": MAP,
    "cwd": MAP,
    "ickd": MAP,
    "affinity": RAW,
    "pairwise_affinity": RAW,
    "pad_l2": of("logits", log_variance="student.logits"),
    "mgd": MAP
    | {
        "mask": "batch.places",
        "block": (jnp.ones((3, 3, 8, 2)) / 9, jnp.zeros(2), jnp.ones((3, 3, 2, 8)) / 9, jnp.zeros(8)),
    },
    "hcl": {
        "student": stages("student"),
        "teacher": stages("teacher"),
        "connect": {"student": Each((Conv(WIDE), Conv(WIDE)))},
    },
    "semckd": {"student": ("student.logits",), "teacher": ("teacher.logits",), "weights": jnp.ones((ROWS, 1, 1))},
    "srrl": {m: (f"{m}.logits", f"{m}.logits") for m in ("student", "teacher")},
    "simkd": MAP,
    "cka": RAW,
    "mmanet": {"student": "student.embedding", "teacher": ("teacher.embedding", "teacher.logits")},
    "load_balancing": {"router": "student.logits", "connect": {"router": jax.nn.softmax}},
    **{n: EMBEDDING for n in ("sp", "cc", "cc_bilinear", "pkt", "rkd_distance", "rkd_angle", "dark_rank")},
}
METHODS = {
    "vid": methods.vid(),
    "ofd": methods.ofd(**of("preactivation.image.0")),
    "factor_transfer": methods.factor_transfer(**RAW, paraphrase_steps=1),
    "pad": methods.pad(),
    "mgd": methods.mgd(**RAW),
    "srrl": methods.srrl(),
    "reviewkd": methods.reviewkd(stages("student"), stages("teacher")),
    "semckd": methods.semckd(stages("student"), stages("teacher")),
}
AGAIN = {
    "crd": methods.crd(64, width=4, negatives=8),
    "rslad": methods.rslad("image", attack=PGD(steps=2)),
    "interchange": methods.interchange("features.image"),
}


def bound(loss):
    """The term of a loss: logits and labels as its arguments are named, unless the table says otherwise."""
    asks = inspect.signature(loss).parameters
    usual = of("logits") | ({"labels": "batch.label"} if "labels" in asks else {})
    return term(loss, **GIVEN.get(loss.__name__, usual), where="labelled", weight=0.01)


def batches(steps):
    draw = np.random.default_rng(0)
    for _ in range(steps):
        label = draw.integers(0, CLASSES, ROWS).astype(np.int32)
        yield {
            "image": (draw.normal(size=(ROWS, 4, 4, 1)) + label[:, None, None, None]).astype(np.float32),
            "label": label,
            "labels": draw.random((ROWS, CLASSES)) < 0.5,
            "targets": draw.normal(size=(ROWS, CLASSES)).astype(np.float32),
            "places": draw.random((ROWS, 4, 4)) < 0.5,
            "head": draw.normal(size=(5, CLASSES)).astype(np.float32),
            "teacher_head": draw.normal(size=(6, CLASSES)).astype(np.float32),
            "labelled": draw.random(ROWS) < 0.8,
            "example_id": draw.permutation(64)[:ROWS].astype(np.int32),
        }


def of_topic(topic):
    """All its losses that are in the library."""
    names = [e.name for e in catalogue.entries() if e.topic == topic and not e.name.startswith("methods.")]
    return {n: bound(getattr(losses, n)) for n in names}


def named(table):
    return {f"methods.{n}": objective for n, objective in table.items()}


def rows(steps):
    """Batches in which every array is of rows."""
    for batch in batches(steps):
        yield {k: x for k, x in batch.items() if "head" not in k}


WIDER = of("embedding", connect={"student": Linear(6)})
CONTRASTIVE = {"info_nce": term(losses.info_nce, **WIDER), "siglip": term(losses.siglip, **WIDER, bias=-2.0)}
STAGES = {t: Stage(MODELS, batches, of_topic(t)) for t in ("logits", "regression", "features", "relational")}
STAGES["methods"] = Stage(MODELS, batches, named(METHODS), rate=1e-3)
STAGES["run again"] = Stage(MODELS, rows, named(AGAIN))
STAGES["contrastive"] = Stage(MODELS, batches, CONTRASTIVE)
