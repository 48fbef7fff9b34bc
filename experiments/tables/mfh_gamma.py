"""MFH figure 3a: with more of the decisive features in common, cross-modal distillation helps; with few it hurts.

Xue et al., The Modality Focusing Hypothesis: Towards Understanding Crossmodal Knowledge Distillation, ICLR 2023,
https://arxiv.org/abs/2206.06487, synthetic Gaussian data. Published figures are read off the plot.

    mmkd table mfh-gamma
"""

import jax
import jax.numpy as jnp
import optax

from mmkd_jax import losses
from mmkd_jax.objective import combine, term
from mmkd_jax.population import train
from mmkd_jax.state import Distillation
from mmkd_jax.tables import Table, figures
from mmkd_jax.views import plain

TRAIN, TEST, STEPS, RATE = 200, 1000, 1000, 0.1
DECISIVE, TEACHER, STUDENT, SHARED = 20, 25, 50, 10  # features: decisive ones, of x1, of x2, decisive ones in x2


def linear(modality):
    """A softmax model of one modality, as torch.nn.Linear starts."""

    def init(key, batch):
        bound = batch[modality].shape[-1] ** -0.5
        weight, bias = jax.random.split(key)
        return {
            "weight": jax.random.uniform(weight, (batch[modality].shape[-1], 2), minval=-bound, maxval=bound),
            "bias": jax.random.uniform(bias, (2,), minval=-bound, maxval=bound),
        }

    return plain(lambda w, batch: {"logits": batch[modality] @ w["weight"] + w["bias"]}, init)


def draw(key, wall, rows, overlap):
    """x1 for the teacher, x2 for the student; `overlap` of the decisive features in x2 are in x1, too."""
    keys = jax.random.split(key, 3)
    decisive, one, two = (
        jax.random.normal(k, (rows, n)) for k, n in zip(keys, (DECISIVE, TEACHER, STUDENT), strict=True)
    )
    place = jnp.arange(TEACHER)
    common = (place >= SHARED - overlap) & (place < 2 * SHARED - overlap)
    one = jnp.where(common, jnp.pad(decisive, ((0, 0), (0, TEACHER - DECISIVE))), one)
    two = two.at[:, :SHARED].set(decisive[:, :SHARED])
    label = (decisive @ wall > 0).astype(jnp.int32)
    return {"x1": one, "x2": two, "label": label, "example_id": jnp.arange(rows)}


task = term(losses.cross_entropy, logits="student.logits", labels="batch.label")
soft = term(losses.kl, student="student.logits", teacher="teacher.logits", weight=1 / 2)  # over classes, as in PyTorch


def member(shared, seed, overlap):
    """Teacher, student without and with distillation, of one seed: accuracy on test rows."""
    key = jax.random.key(seed)
    wall = jax.random.normal(jax.random.fold_in(key, 0), (DECISIVE,))
    rows = draw(jax.random.fold_in(key, 1), wall, TRAIN, overlap)
    test = draw(jax.random.fold_in(key, 2), wall, TEST, overlap)

    def fit(modality, objective, models=(), given=()):
        models = {**dict(models), "student": linear(modality)}
        distillation = Distillation(models, objective, optax.sgd(RATE))
        return train(distillation, lambda step: rows, STEPS, jax.random.fold_in(key, 3), dict(given))["student"]

    def accuracy(modality, variables):
        w = variables["params"]
        return 100 * jnp.mean(jnp.argmax(test[modality] @ w["weight"] + w["bias"], -1) == test["label"])

    teacher = fit("x1", task)
    alone = fit("x2", task)
    distilled = fit("x2", combine(task=task, soft=soft), {"teacher": linear("x1")}, {"teacher": teacher})
    return {
        "teacher": accuracy("x1", teacher),
        "without KD": accuracy("x2", alone),
        "with KD": accuracy("x2", distilled),
    }


NAMES = ("teacher", "without KD", "with KD")
OVERLAPS = (0, 2, 4, 6, 8, 10)
GAMMA = {f"γ = {n / (20 - n):.2f}": n for n in OVERLAPS}
READ = [
    (71.4, 67.95, 66.3),
    (None, None, 67.1),
    (None, None, 67.8),
    (None, None, 68.65),
    (None, None, 69.4),
    (70.9, 67.95, 70.05),
]
AGAIN = [
    (70.93, 68.20, 66.68),
    (71.22, 68.20, 67.51),
    (71.68, 68.35, 68.38),
    (71.70, 68.35, 69.08),
    (71.86, 68.35, 69.78),
    (71.83, 68.35, 70.66),
]


table = Table(
    title="MFH, γ sweep: share of decisive features that teacher and student have in common",
    source="Xue et al., The Modality Focusing Hypothesis, ICLR 2023, https://arxiv.org/abs/2206.06487, figure 3a",
    rows={name: {"overlap": n} for name, n in GAMMA.items()},
    columns=NAMES,
    member=member,
    seeds=200,
    quick=60,
    gains={"gain": ("with KD", "without KD")},
    published=figures(GAMMA, NAMES, READ, error=0.25),
    checked=figures(GAMMA, NAMES, AGAIN, runs=100, error=0.005),
    axis={name: n / (20 - n) for name, n in GAMMA.items()},
    label="γ",
    width=200,
)
