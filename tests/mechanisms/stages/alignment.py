"""Models of image and audio: the alignment of their features, subspaces and predictions."""

from typing import Any

from mmkd_jax import losses, methods
from mmkd_jax.core.objective import term
from mmkd_jax.nn.connectors import Each, Linear
from tests.mechanisms.stages.stage import Stage
from tests.small import CLASSES, make_batches, net

MODELS = {"teacher": net(6, "image", "audio"), "student": net(5, "image", "audio")}
ROWS = 24
MODALITIES = ("student.features.image", "student.features.audio")
PRESENT = ("valid", "present.audio")
OPTIONS = {"grassmann": {"dimensions": 2}, "sinkhorn": {"iterations": 20}}


def across(name):
    """From a teacher that sees both to what the student makes of the audio."""
    both = {"student": MODALITIES[1], "teacher": "teacher.embedding"}
    options: dict[str, Any] = OPTIONS.get(name, {})
    return term(getattr(losses, name), **both, connect={"student": Linear(6)}, weight=0.01, **options)


def agreed(loss):
    masks = tuple(f"batch.{m}" for m in PRESENT)
    heads = Each((Linear(CLASSES), Linear(CLASSES)))
    return term(loss, logits=MODALITIES, present=masks, connect={"logits": heads}, weight=0.1)


PARTS = {name: across(name) for name in ("coral", "cmd", "mmd", "cca", "grassmann", "sinkhorn")}
PARTS |= {"agreement_jsd": agreed(losses.agreement_jsd), "agreement_kl": agreed(losses.agreement_kl)}
PARTS |= {
    "methods.feature_alignment": methods.feature_alignment(losses.info_nce, student=MODALITIES[1], width=4, weight=0.1),
    "methods.subspace_alignment": methods.subspace_alignment(losses.cca, student=MODALITIES[1], width=3, weight=0.1),
    "methods.label_alignment": methods.label_alignment(
        losses.agreement_jsd, MODALITIES, classes=CLASSES, present=PRESENT, labelled="labelled", weight=0.1
    ),
}
STAGES = {"image and audio": Stage(MODELS, lambda steps: make_batches(steps, ROWS), PARTS)}
