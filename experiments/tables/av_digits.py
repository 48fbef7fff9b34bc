"""Comparison of distillation losses from five families, for three student modalities and few, noisy or all labels.

AV-digits: an audio-visual teacher, and audio, image and audio-visual students. In each situation, teacher and students
are trained on the available labels; each loss adds distillation from the teacher's outputs on all 6,000 pairs to the
student's cross-entropy. All methods have the same number of training steps and the same number of settings to choose
from on validation.

    mmkd table av-digits
"""

import dataclasses
import pathlib
import sys
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax

import mmkd_jax as mmkd

BATCH, CLASSES, LABELLED, WRONG = 64, 10, 500, 0.4
TUNING = np.arange(1000, 1002, dtype=np.int32)  # seeds for model selection, not used in the table
SITUATIONS = ("500 labels", "40 % wrong", "all labels")
SUBSETS = {"hears": ("audio",), "sees": ("image",), "hears and sees": ("audio", "image")}

ENCODERS = {"audio": mmkd.models.AudioTDNN((16, 16)), "image": mmkd.models.ImageMLP((16,))}
STUDENTS = {
    name: mmkd.linen(mmkd.models.Multimodal({m: ENCODERS[m] for m in seen}, classes=CLASSES, width=16))
    for name, seen in SUBSETS.items()
}
TEACHER = mmkd.linen(
    mmkd.models.Multimodal(
        {"audio": mmkd.models.AudioTDNN((64, 64)), "image": mmkd.models.ImageMLP((128, 64))},
        classes=CLASSES,
        width=64,
    )
)

task = mmkd.term(mmkd.losses.cross_entropy, logits="student.logits", labels="batch.label", where="labelled")
on_logits = {"student": "student.logits", "teacher": "teacher.logits"}
on_embeddings = {"student": "student.embedding", "teacher": "teacher.embedding"}
project = {"connect": {"student": mmkd.connectors.Linear(64)}}
standardized = {"connect": {"student": mmkd.losses.standardize, "teacher": mmkd.losses.standardize}}

# distillation term of each method, and the settings to choose from on validation: the same number for each
SOFT = [{"soft.temperature": t, "soft.weight": w} for t in (1.0, 3.0) for w in (1.0, 5.0)]
WEIGHT = [{"soft.weight": w} for w in (0.1, 1.0, 10.0, 100.0)]
LIGHT = [{"soft.weight": w} for w in (0.01, 0.1, 1.0, 10.0)]
LIGHTER = [{"soft.weight": w} for w in (0.001, 0.01, 0.1, 1.0)]
METHODS = {
    "kd": (mmkd.term(mmkd.losses.kl, **on_logits), SOFT),
    "standardized kd": (mmkd.term(mmkd.losses.kl, **on_logits, **standardized), SOFT),
    "reverse kl": (mmkd.term(mmkd.losses.reverse_kl, **on_logits), SOFT),
    "jsd": (mmkd.term(mmkd.losses.jsd, **on_logits), SOFT),
    "dist": (mmkd.term(mmkd.losses.dist, **on_logits), SOFT),
    "logit mse": (mmkd.term(mmkd.losses.logit_mse, **on_logits), WEIGHT),
    "hint": (mmkd.term(mmkd.losses.hint, **on_embeddings, **project), LIGHTER),
    "cosine": (mmkd.term(mmkd.losses.cosine, **on_embeddings, **project), LIGHTER),
    "vid": (mmkd.methods.vid(**on_embeddings), WEIGHT),
    "rkd distance": (mmkd.term(mmkd.losses.rkd_distance, **on_embeddings), WEIGHT),
    "pkt": (mmkd.term(mmkd.losses.pkt, **on_embeddings), WEIGHT),
    "sp": (mmkd.term(mmkd.losses.sp, **on_embeddings), WEIGHT),
    "cka": (mmkd.term(mmkd.losses.cka, **on_embeddings), WEIGHT),
    "info nce": (mmkd.term(mmkd.losses.info_nce, **on_embeddings, **project), LIGHT),
    "coral": (mmkd.methods.subspace_alignment(mmkd.losses.coral, **on_embeddings), WEIGHT),
}
ALONE = {"labels": [{}], "label smoothing": [{"task.label_smoothing": e} for e in (0.05, 0.1, 0.2, 0.4)]}
SETTINGS = ALONE | {name: settings for name, (_, settings) in METHODS.items()}


def labels(arrays, key, situation):
    """Return the training columns of a situation, a permutation of the rows, and how many of its first are labeled."""
    rows, size = arrays["train"], len(arrays["train"]["label"])
    which, wrong, drawn = jax.random.split(key, 3)
    pool = jax.random.permutation(which, size)
    count = jnp.where(situation == 0, LABELLED, size)
    other = jax.random.randint(drawn, (size,), 0, CLASSES)
    spoilt = (situation == 1) & jax.random.bernoulli(wrong, WRONG, (size,))
    labelled = jnp.zeros(size, bool).at[pool].set(jnp.arange(size) < count)
    return rows | {"label": jnp.where(spoilt, other, rows["label"]), "labelled": labelled}, pool, count


def fit(arrays, seed, situation, steps, models, objective, rate, hyperparams=None):
    """Train a student and return its variables. Half of each batch is drawn from labeled rows, half from all rows."""
    own, order = jax.random.split(jax.random.fold_in(jax.random.key(seed), situation))
    rows, pool, count = labels(arrays, own, situation)

    def batch(step):
        one, other = jax.random.split(jax.random.fold_in(order, step))
        half = pool[jax.random.randint(one, (BATCH // 2,), 0, count)]
        chosen = jnp.concatenate([half, jax.random.randint(other, (BATCH // 2,), 0, len(pool))])
        return {k: v[chosen] for k, v in rows.items()}

    optimizer = optax.adamw(optax.cosine_decay_schedule(rate, steps), weight_decay=1e-4)
    distillation = mmkd.Distillation(models, objective, optimizer)
    return mmkd.population.train(distillation, batch, steps, order, None, hyperparams)["student"]


def teach(arrays, seed, situation, steps):
    """Train a teacher; return its outputs on the training rows and its test accuracy."""
    learned = fit(arrays, seed, situation, steps, {"student": TEACHER}, task, 1e-3)
    outputs = mmkd.predict(TEACHER, learned, arrays["train"])
    return {
        "logits": outputs["logits"],
        "embedding": outputs["embedding"],
        "test": mmkd.population.accuracy(TEACHER, learned, arrays["test"]),
    }


def scores(arrays, outputs, seed, situation, hyperparams, subset, steps, names):
    """Train a student per method; return validation and test accuracy."""
    student, found = STUDENTS[subset], {}
    seen = {f"teacher.{k}": outputs[k] for k in ("logits", "embedding")}
    shown = arrays | {"train": arrays["train"] | seen}
    for method in names:
        models, objective = {"student": student}, mmkd.combine(task=task)
        if method in METHODS:
            models = {"teacher": mmkd.cached("teacher")} | models
            objective = mmkd.combine(task=task, soft=METHODS[method][0])
        learned = fit(shown, seed, situation, steps, models, objective, 3e-3, hyperparams[method])
        found[method] = {s: mmkd.population.accuracy(student, learned, arrays[s]) for s in ("validation", "test")}
    return found


def tried(run, arrays, outputs, situation, names):
    """Return method -> validation accuracy of each setting, averaged over the selection seeds."""
    settings, seeds = len(SOFT), len(TUNING)
    every = {m: (SETTINGS[m] * settings)[:settings] for m in names}
    hyperparams = {
        m: {k: np.repeat([np.float32(s[k]) for s in own], seeds) for k in own[0]} for m, own in every.items()
    }

    def again(x):
        return np.concatenate([x] * settings)

    found = run(
        arrays, jax.tree.map(again, outputs), again(TUNING), np.full(settings * seeds, situation, np.int32), hyperparams
    )
    return {m: np.asarray(own["validation"]).reshape(settings, seeds).mean(1) for m, own in found.items()}


def shared(cached, subsets, situations, seeds, steps, names):
    """Return the data, teacher outputs, and the settings selected on validation per student and situation."""
    columns = {s: mmkd.data.load("av_digits", s).columns for s in ("train", "validation", "test")}
    arrays = {s: {k: c[k] for k in ("audio", "image", "label", "example_id")} for s, c in columns.items()}
    every = np.concatenate([np.arange(seeds, dtype=np.int32), TUNING])
    learn, teachers = mmkd.population.members(partial(teach, steps=steps)), []
    for i, situation in enumerate(situations):
        each = np.full(len(every), i, np.int32)
        teachers.append(cached(f"teachers, {situation}", partial(learn, arrays, every, each)))
    hyperparams = {}
    for subset in subsets:
        run, chosen = mmkd.population.members(partial(scores, subset=subset, steps=steps, names=names)), []
        for i, situation in enumerate(situations):
            outputs = {k: v[-len(TUNING) :] for k, v in teachers[i].items()}
            trial = partial(tried, run, arrays, outputs, i, names)
            on_validation = cached(f"validation, {subset}, {situation}", trial)
            chosen.append({m: SETTINGS[m][np.argmax(on_validation[m][: len(SETTINGS[m])])] for m in names})
        hyperparams[subset] = jax.tree.map(lambda *each: np.asarray(each, np.float32), *chosen)
    return {"held": arrays, "teachers": jax.tree.map(lambda *x: np.stack(x), *teachers), "hyperparams": hyperparams}


def member(shared, seed, situation, subset, steps, names):
    """Test accuracy of the teacher and of each method's student."""
    outputs = {k: v[situation, seed] for k, v in shared["teachers"].items()}
    hyperparams = jax.tree.map(lambda n: n[situation], shared["hyperparams"][subset])
    found = scores(shared["held"], outputs, seed, situation, hyperparams, subset, steps, names)
    return {"teacher": outputs["test"]} | {method: own["test"] for method, own in found.items()}


def make(subsets=tuple(SUBSETS), situations=SITUATIONS, seeds=20, steps=600, names=tuple(SETTINGS)):
    """Create the table, or a part of it."""
    same = {"steps": steps, "names": names}
    rows = {
        f"{subset}, {name}": {"subset": subset, "situation": np.int32(i)} | same
        for subset in subsets
        for i, name in enumerate(situations)
    }
    return mmkd.paper_tables.Table(
        title="AV-digits: distillation losses by student modality and labels",
        source="ours, 2026; no published figures",
        rows=rows,
        columns=("teacher", *names),
        member=member,
        seeds=dict.fromkeys(rows, seeds),  # one teacher per seed
        quick=1,
        static=("subset", "steps", "names"),
        shared=partial(shared, subsets=subsets, situations=situations, seeds=seeds, **same),
        gains={f"{m} against labels": (m, "labels") for m in names if m != "labels"},
        together=2,
        width=10,
        about=f"Accuracy on 2,000 test pairs after {steps} steps with batches of {BATCH} rows, half of them labeled. "
        "The settings of each method (temperature and weight, weight, or smoothing: four each) are selected per "
        f"student and situation on 500 validation pairs, with {len(TUNING)} seeds that are not used in the table. Each "
        "seed has a separate teacher and draw of labels. The speech is synthetic: expect lower accuracy on human "
        "voices.",
    )


few = make(("hears",), SITUATIONS[:1], 4, 300, ("labels", "kd", "hint"))
table = dataclasses.replace(make(), quick=few)

if __name__ == "__main__":  # python experiments/tables/av_digits.py FOLDER: selected settings, as Markdown
    found = pathlib.Path(sys.argv[1]).glob("validation, *.npz")
    tried_on = {p.stem.split(", ", 1)[1].rpartition("-")[0]: np.load(p) for p in found}
    heads = [f"{subset}, {situation}" for subset in SUBSETS for situation in SITUATIONS]
    lines = []
    for method, settings in SETTINGS.items():
        best = [settings[np.argmax(tried_on[head][method][: len(settings)])] for head in heads]
        cells = [", ".join(f"{k.split('.')[1].replace('_', ' ')} {v:g}" for k, v in each.items()) for each in best]
        lines.append([method, *cells])
    used = [line for line in lines if any(line[1:])]
    print(mmkd.reporting.markdown_table(["", *heads], used, "l" * (1 + len(heads))), end="")
