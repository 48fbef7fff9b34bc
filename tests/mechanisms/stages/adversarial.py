"""Attacked students beside their teacher, and a student that learns to be taken for it."""

from mmkd_jax import methods
from tests.mechanisms.stages.pictures import MODELS, rows
from tests.mechanisms.stages.stage import Stage

ATTACK = {"steps": 2, "eps": 0.1, "step_size": 0.05, "low": None, "high": None}
# logits have one width in both models
JUDGED = {"student": "student.logits", "teacher": "teacher.logits"}
PARTS = {
    "methods.ard": methods.ard("image", **ATTACK, alpha=0.5, temperature=2.0, where="labelled"),
    "methods.rslad, an output": methods.rslad("hidden.image.0", **ATTACK),
    "methods.iad": methods.iad("image", **ATTACK, alpha=0.5, where="labelled"),
    "methods.adaad": methods.adaad("image", **ATTACK, alpha=0.5),
    "methods.trades": methods.trades("image", **ATTACK, where="labelled"),
    "methods.discriminator": methods.discriminator(**JUDGED, hidden=4),
}
STAGES = {"attacks": Stage(MODELS, rows, PARTS)}
