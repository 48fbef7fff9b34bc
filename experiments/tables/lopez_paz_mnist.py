"""Lopez-Paz et al., MNIST with privileged resolution: a teacher of 28 × 28 pixels, a student of 7 × 7.

Unifying Distillation and Privileged Information, ICLR 2016, https://arxiv.org/abs/1511.03643, figure 1. Both are
perceptrons of two layers of 20, trained on a few hundred images; tested on the full test set.

    mmkd table lopez-paz-mnist
"""

import jax
import jax.numpy as jnp
import optax

from mmkd_jax import data, losses
from mmkd_jax.models import mlp
from mmkd_jax.objective import combine, term
from mmkd_jax.population import accuracy, train
from mmkd_jax.state import Distillation
from mmkd_jax.tables import Figure, Table

EPOCHS, BATCH = 50, 128
SETTINGS = {
    "λ=0": (1, 0),
    "T=1 λ=1": (1, 1),
    "T=5 λ=.5": (5, 0.5),
    "T=10 λ=.1": (10, 0.1),
    "T=20 λ=.1": (20, 0.1),
    "T=50 λ=.5": (50, 0.5),
}

large, small = mlp("whole", (20, 20, 10), "glorot"), mlp("coarse", (20, 20, 10), "glorot")
task = term(losses.cross_entropy, logits="student.logits", labels="batch.label", where="valid")


def imitate(temperature):
    """CE(s, y) and CE(s, softmax(t / T)): the student's own temperature is 1, as in the authors' code."""
    soft = term(
        losses.cross_entropy,
        logits="student.logits",
        labels="teacher.logits",
        connect={"labels": lambda logits: jax.nn.softmax(logits / temperature)},
        where="valid",
    )
    return combine(task=task, soft=soft)


def shared(keep):
    """Pixels as 0 … 255."""
    splits = {split: data.obtain("mnist", split).columns for split in ("train", "test")}
    return {split: {"image": c["image"][..., 0], "label": c["label"]} for split, c in splits.items()}


def seen(columns, rows):
    """What both see of some rows."""
    image = columns["image"][rows] / 255
    coarse = jax.image.resize(image, (*image.shape[:1], 7, 7), "bilinear")
    flat = {name: x.reshape(len(x), -1) for name, x in (("whole", image), ("coarse", coarse))}
    return flat | {"label": columns["label"][rows], "example_id": jnp.arange(len(image))}


def member(held, seed, size):
    """Accuracy on the test split."""
    choice, order, start = jax.random.split(jax.random.key(seed), 3)
    rows = seen(held["train"], jax.random.choice(choice, len(held["train"]["label"]), (size,), replace=False))
    test = seen(held["test"], slice(None))
    batches = -(-size // BATCH)  # of an epoch; the last one is smaller

    def batch(step):
        shuffled = jax.random.permutation(jax.random.fold_in(order, step // batches), size)
        place = step % batches * BATCH + jnp.arange(BATCH)
        return {k: v[shuffled[place % size]] for k, v in rows.items()} | {"valid": place < size}

    def fit(objective, models, key, given=None, numbers=None):
        distillation = Distillation(models, objective, optax.rmsprop(1e-3, decay=0.9, eps=1e-6))
        return train(distillation, batch, EPOCHS * batches, key, given, numbers)["student"]

    teacher = fit(task, {"student": large}, start)

    def score(setting):
        number, temperature, share = setting
        models, key = {"teacher": large, "student": small}, jax.random.fold_in(start, number)
        weights = {"task.weight": 1 - share, "soft.weight": temperature**2 * share}
        return accuracy(small, fit(imitate(temperature), models, key, {"teacher": teacher}, weights), test)

    numbers = jnp.arange(1, 1 + len(SETTINGS))
    scores = jax.lax.map(score, (numbers, *jnp.array([*SETTINGS.values()], jnp.float32).T))
    return {"privileged": accuracy(large, teacher, test)} | dict(zip(SETTINGS, scores, strict=True))


columns = ("privileged", *SETTINGS)
again = {300: (79.7, None, 46.5, 53.6, 62, 63.6, 54.8), 500: (84.3, None, 56.2, 68.4, 70.3, 74, 67)}
stored = {300: (80.06, 47, 46.27, 56.23, 63.18, 65.62, 54.33), 500: (83.66, 58.88, 59.46, 69.11, 71.23, 72.22, 69.07)}


def figures(given, runs):
    return {
        f"N={size}": {c: Figure(v, runs.get(c, 10)) for c, v in zip(columns, line, strict=True) if v is not None}
        for size, line in given.items()
    }


table = Table(
    title="Lopez-Paz et al., MNIST with privileged resolution",
    source="Lopez-Paz et al., Unifying Distillation and Privileged Information, ICLR 2016, "
    "https://arxiv.org/abs/1511.03643, figure 1; means of the result files beside the authors' code",
    rows={f"N={size}": {"size": size} for size in (300, 500)},
    columns=columns,
    member=member,
    seeds=100,
    quick=20,
    static=("size",),
    shared=shared,
    gains={f"gain, {name}": (name, "λ=0") for name in columns[2:]},
    published=figures(stored, {"λ=0": 60}),
    checked=figures(again, {}),
    width=100,
    axis="columns",
    about="Each repetition draws its own training rows. λ=0 was trained 60 times by the authors, in ten repetitions.",
)
