"""Attacked students beside their teacher, and a student that learns to be taken for it."""

from mmkd_jax import methods
from mmkd_jax.adversarial import PGD
from tests.mechanisms.stages.pictures import MODELS, rows
from tests.mechanisms.stages.stage import Stage

ATTACK = PGD(eps=0.1, step_size=0.05, steps=2, low=None, high=None)
# logits have one width in both models
JUDGED = {"student": "student.logits", "teacher": "teacher.logits"}
PARTS = {
    "methods.ard": methods.ard("image", attack=ATTACK, alpha=0.5, temperature=2.0, where="labelled"),
    "methods.rslad, an output": methods.rslad("hidden.image.0", attack=ATTACK),
    "methods.iad": methods.iad("image", attack=ATTACK, alpha=0.5, where="labelled"),
    "methods.adaad": methods.adaad("image", attack=ATTACK, alpha=0.5),
    "methods.trades": methods.trades("image", attack=ATTACK, where="labelled"),
    "methods.discriminator": methods.discriminator(**JUDGED, hidden=4),
}
STAGES = {"attacks": Stage(MODELS, rows, PARTS)}
