"""MKE TwoMoon: a multimodal student trained on a unimodal teacher's pseudo-labels outperforms the teacher.

Xue et al., Multimodal Knowledge Expansion, ICCV 2021, https://arxiv.org/abs/2103.14431, the authors' TwoMoon notebook.
Two moons in the plane: the teacher and the unimodal student see the first coordinate, the multimodal student both. 30
points are labeled, 270 are pseudo-labeled by the teacher; 200 test points. Full-batch SGD, learning rate 0.01.

`twomoon.npz` contains everything that depends on PyTorch's random generator, from a rerun of the notebook with torch
2.13.0 and scikit-learn 1.9.1: the points, the trained teacher (w1 … b3), its pseudo-labels, and the students' initial
weights.

    mmkd table twomoon
"""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import optax

import mmkd_jax as mmkd

TEACHER_STEPS, STUDENT_STEPS, RATE, STUDENTS = 1000, 2000, 0.01, 10
one, both = (
    mmkd.models.mlp("a", (32, 32, 2)),
    mmkd.models.mlp(("a", "b"), (16, 16, 2)),
)  # 32 and 16 hidden units
task = mmkd.term(mmkd.losses.cross_entropy, logits="student.logits", labels="batch.label")
# a teacher that outputs only the predicted class
pseudo_teacher = mmkd.plain(lambda _, batch: {"logits": jax.nn.one_hot(batch["pseudo"], 2)})


def shared(cached):
    """Load the arrays of the notebook."""
    return dict(np.load(pathlib.Path(__file__).with_name("twomoon.npz")))


def weights(arrays, name, which=...):
    """Return initial or trained weights in the layout of our model."""
    layers = [{"weight": arrays[f"{name}w{i}"][which], "bias": arrays[f"{name}b{i}"][which]} for i in (1, 2, 3)]
    return {"params": {"layers": [layer | {"weight": layer["weight"].swapaxes(-1, -2)} for layer in layers]}}


def points(arrays, name, **more):
    x, y = arrays[f"x_{name}"], arrays[f"y_{name}"]
    return {"a": x[:, :1], "b": x[:, 1:], "label": y, "example_id": jnp.arange(len(x))} | more


def member(arrays, seed, teacher, starts):
    """Test accuracy, without noise; with our teachers, the mean over ten students."""
    key, unlabelled, test = jax.random.key(seed), points(arrays, "unlabelled"), points(arrays, "test")

    def fit(model, objective, rows, steps, key, models=(), given=()):
        distillation = mmkd.Distillation({**dict(models), "student": model}, objective, optax.sgd(RATE))
        return mmkd.population.train(distillation, lambda step: rows, steps, key, dict(given))["student"]

    def student(model, modalities, key, labels, given=()):
        rows = unlabelled | {"pseudo": labels}
        objective = mmkd.methods.mke(modalities, one_scale=True)
        learned = fit(model, objective, rows, STUDENT_STEPS, key, {"teacher": pseudo_teacher}, given)
        return mmkd.population.accuracy(model, learned, test)

    def pair(which, key, labels):
        """Train a unimodal and a multimodal student."""
        first = {}, {}
        if starts == "theirs":
            first = tuple({"student": weights(arrays, f"{name}_init_", which)} for name in ("uni", "multi"))
        found = student(one, ("a",), key, labels, first[0]), student(both, ("a", "b"), key, labels, first[1])
        return dict(zip(("unimodal", "multimodal"), found, strict=True)), first[1]

    if teacher == "ours":
        variables = fit(one, task, points(arrays, "labelled"), TEACHER_STEPS, key)
        labels = jnp.argmax(mmkd.predict(one, variables, unlabelled)["logits"], -1)
        every = jax.vmap(lambda i: pair(i, jax.random.key(i), labels)[0])(jnp.arange(STUDENTS))
        found = jax.tree.map(jnp.mean, every)
    else:
        variables, labels = weights(arrays, ""), arrays["pseudo_labels"]
        found, wide = pair(seed % STUDENTS, key, labels)
        found["fully supervised"] = student(both, ("a", "b"), key, unlabelled["label"], wide)
    right = 100 * jnp.mean(labels == unlabelled["label"])
    return found | {"teacher": mmkd.population.accuracy(one, variables, test), "pseudo-labels": right}


ten = {
    "unimodal": mmkd.paper_tables.Figure(72.4, 10),
    "multimodal": mmkd.paper_tables.Figure(77.7, 10),
    "fully supervised": mmkd.paper_tables.Figure(87.6, 10),
}
teachers = {"teacher": mmkd.paper_tables.Figure(69.5, 1), "pseudo-labels": mmkd.paper_tables.Figure(64.4, 1)}
alone = {k: mmkd.paper_tables.Figure(v.value, 1, v.error) for k, v in ten.items() if k != "fully supervised"}
table = mmkd.paper_tables.Table(
    title="MKE TwoMoon: accuracy of students on a unimodal teacher's pseudo-labels",
    source="Xue et al., Multimodal Knowledge Expansion, ICCV 2021, https://arxiv.org/abs/2103.14431, stored outputs of "
    "the authors' TwoMoon notebook",
    rows={
        "their teacher, their first weights": {"teacher": "theirs", "starts": "theirs"},
        "their teacher, our first weights": {"teacher": "theirs", "starts": "ours"},
        "our teachers": {"teacher": "ours", "starts": "theirs"},
    },
    columns=("teacher", "pseudo-labels", "unimodal", "multimodal", "fully supervised"),
    member=member,
    seeds=100,
    quick=4,
    static=("teacher", "starts"),
    shared=shared,
    gains={"gain": ("multimodal", "unimodal")},
    published={
        "their teacher, their first weights": ten | teachers,
        "their teacher, our first weights": ten | teachers,
        "our teachers": alone | teachers,
    },
    checked={
        "our teachers": {
            "unimodal": mmkd.paper_tables.Figure(73.28, 100),
            "multimodal": mmkd.paper_tables.Figure(78.29, 100),
            "gain": mmkd.paper_tables.Figure(5.01, 100),
        }
    },
    notes={"their teacher, our first weights": "on average, our initial weights are 0.7 points worse than their ten"},
    width=100,
    axis="columns",
    about="The noise is redrawn for each seed; the authors' figures are ten runs with nine seeds. For our teachers, "
    "each seed is one teacher and the mean over the same ten students, compared with the published figures as one "
    "teacher.",
)
