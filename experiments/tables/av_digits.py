"""Which loss for which situation: students of every modality, few, noisy or all labels, losses of five families.

AV-digits: a teacher that sees and hears, students that hear, see, or do both. In each situation the teacher learns from
the labels that there are, and so do the students; each loss adds what the teacher says of all 6,000 pairs to their
cross-entropy. Every method takes the same steps, and has as many settings to choose from, on validation.

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

from mmkd_jax import data, losses, methods
from mmkd_jax.connectors import Linear
from mmkd_jax.models import AudioTDNN, ImageMLP, Multimodal
from mmkd_jax.objective import combine, term
from mmkd_jax.population import accuracy, answer, members, train
from mmkd_jax.state import Distillation
from mmkd_jax.tables import Table
from mmkd_jax.views import cached, linen

BATCH, CLASSES, LABELLED, WRONG = 64, 10, 500, 0.4
TUNING = np.arange(1000, 1002, dtype=np.int32)  # seeds of the choice, which the table does not use
SITUATIONS = ("500 labels", "40 % wrong", "all labels")
SUBSETS = {"hears": ("audio",), "sees": ("image",), "hears and sees": ("audio", "image")}

ENCODERS = {"audio": AudioTDNN((16, 16)), "image": ImageMLP((16,))}
STUDENTS = {
    name: linen(Multimodal({m: ENCODERS[m] for m in seen}, classes=CLASSES, width=16)) for name, seen in SUBSETS.items()
}
TEACHER = linen(Multimodal({"audio": AudioTDNN((64, 64)), "image": ImageMLP((128, 64))}, classes=CLASSES, width=64))

task = term(losses.cross_entropy, logits="student.logits", labels="batch.label", where="labelled")
told = {"student": "student.logits", "teacher": "teacher.logits"}
felt = {"student": "student.embedding", "teacher": "teacher.embedding"}
wider = {"connect": {"student": Linear(64)}}
level = {"connect": {"student": losses.standardize, "teacher": losses.standardize}}

# a method's term beside the labels, and the settings from which validation chooses: as many for each
SOFT = [{"soft.temperature": t, "soft.weight": w} for t in (1.0, 3.0) for w in (1.0, 5.0)]
WEIGHT = [{"soft.weight": w} for w in (0.1, 1.0, 10.0, 100.0)]
LIGHT = [{"soft.weight": w} for w in (0.01, 0.1, 1.0, 10.0)]
LIGHTER = [{"soft.weight": w} for w in (0.001, 0.01, 0.1, 1.0)]
METHODS = {
    "kd": (term(losses.kl, **told), SOFT),
    "standardised kd": (term(losses.kl, **told, **level), SOFT),
    "reverse kl": (term(losses.reverse_kl, **told), SOFT),
    "jsd": (term(losses.jsd, **told), SOFT),
    "dist": (term(losses.dist, **told), SOFT),
    "logit mse": (term(losses.logit_mse, **told), WEIGHT),
    "hint": (term(losses.hint, **felt, **wider), LIGHTER),
    "cosine": (term(losses.cosine, **felt, **wider), LIGHTER),
    "vid": (methods.vid(**felt), WEIGHT),
    "rkd distance": (term(losses.rkd_distance, **felt), WEIGHT),
    "pkt": (term(losses.pkt, **felt), WEIGHT),
    "sp": (term(losses.sp, **felt), WEIGHT),
    "cka": (term(losses.cka, **felt), WEIGHT),
    "info nce": (term(losses.info_nce, **felt, **wider), LIGHT),
    "coral": (methods.subspace_alignment(losses.coral, **felt), WEIGHT),
}
ALONE = {"labels": [{}], "label smoothing": [{"task.label_smoothing": e} for e in (0.05, 0.1, 0.2, 0.4)]}
SETTINGS = ALONE | {name: settings for name, (_, settings) in METHODS.items()}


def labels(held, key, situation):
    """The training columns as the situation has them, and the labelled rows, of which the first so many count."""
    rows, size = held["train"], len(held["train"]["label"])
    which, wrong, drawn = jax.random.split(key, 3)
    pool = jax.random.permutation(which, size)
    count = jnp.where(situation == 0, LABELLED, size)
    other = jax.random.randint(drawn, (size,), 0, CLASSES)
    spoilt = (situation == 1) & jax.random.bernoulli(wrong, WRONG, (size,))
    labelled = jnp.zeros(size, bool).at[pool].set(jnp.arange(size) < count)
    return rows | {"label": jnp.where(spoilt, other, rows["label"]), "labelled": labelled}, pool, count


def fit(held, seed, situation, steps, models, objective, rate, numbers=None):
    """The variables of the student: half of each batch are labelled rows, half are any."""
    own, order = jax.random.split(jax.random.fold_in(jax.random.key(seed), situation))
    rows, pool, count = labels(held, own, situation)

    def batch(step):
        one, other = jax.random.split(jax.random.fold_in(order, step))
        half = pool[jax.random.randint(one, (BATCH // 2,), 0, count)]
        chosen = jnp.concatenate([half, jax.random.randint(other, (BATCH // 2,), 0, len(pool))])
        return {k: v[chosen] for k, v in rows.items()}

    optimizer = optax.adamw(optax.cosine_decay_schedule(rate, steps), weight_decay=1e-4)
    return train(Distillation(models, objective, optimizer), batch, steps, order, None, numbers)["student"]


def teach(held, seed, situation, steps):
    """What a teacher says of the training rows, and how well it does on test."""
    learned = fit(held, seed, situation, steps, {"student": TEACHER}, task, 1e-3)
    said = answer(TEACHER, learned, held["train"])
    return {"logits": said["logits"], "embedding": said["embedding"], "test": accuracy(TEACHER, learned, held["test"])}


def scores(held, said, seed, situation, numbers, subset, steps, names):
    """Accuracy of every method's student, on validation and on test."""
    student, found = STUDENTS[subset], {}
    seen = {f"teacher.{k}": said[k] for k in ("logits", "embedding")}
    shown = held | {"train": held["train"] | seen}
    for method in names:
        models, objective = {"student": student}, combine(task=task)
        if method in METHODS:
            models, objective = {"teacher": cached("teacher")} | models, combine(task=task, soft=METHODS[method][0])
        learned = fit(shown, seed, situation, steps, models, objective, 3e-3, numbers[method])
        found[method] = {s: accuracy(student, learned, held[s]) for s in ("validation", "test")}
    return found


def tried(run, held, said, situation, names):
    """Method -> accuracy on validation of each setting, mean over the seeds of the choice."""
    settings, seeds = len(SOFT), len(TUNING)
    every = {m: (SETTINGS[m] * settings)[:settings] for m in names}
    numbers = {m: {k: np.repeat([np.float32(s[k]) for s in own], seeds) for k in own[0]} for m, own in every.items()}

    def again(x):
        return np.concatenate([x] * settings)

    found = run(held, jax.tree.map(again, said), again(TUNING), np.full(settings * seeds, situation, np.int32), numbers)
    return {m: np.asarray(own["validation"]).reshape(settings, seeds).mean(1) for m, own in found.items()}


def shared(keep, subsets, situations, seeds, steps, names):
    """The data, what the teachers say, and the settings that validation chose for each student in each situation."""
    columns = {s: data.load("av_digits", s).columns for s in ("train", "validation", "test")}
    held = {s: {k: c[k] for k in ("audio", "image", "label", "example_id")} for s, c in columns.items()}
    every = np.concatenate([np.arange(seeds, dtype=np.int32), TUNING])
    learn, teachers = members(partial(teach, steps=steps)), []
    for i, situation in enumerate(situations):
        each = np.full(len(every), i, np.int32)
        teachers.append(keep(f"teachers, {situation}", partial(learn, held, every, each)))
    numbers = {}
    for subset in subsets:
        run, chosen = members(partial(scores, subset=subset, steps=steps, names=names)), []
        for i, situation in enumerate(situations):
            said = {k: v[-len(TUNING) :] for k, v in teachers[i].items()}
            trial = partial(tried, run, held, said, i, names)
            on_validation = keep(f"validation, {subset}, {situation}", trial)
            chosen.append({m: SETTINGS[m][np.argmax(on_validation[m][: len(SETTINGS[m])])] for m in names})
        numbers[subset] = jax.tree.map(lambda *each: np.float32(each), *chosen)
    return {"held": held, "teachers": jax.tree.map(lambda *x: np.stack(x), *teachers), "numbers": numbers}


def member(shared, seed, situation, subset, steps, names):
    """Accuracy on test of every method's student, and of the teacher."""
    said = {k: v[situation, seed] for k, v in shared["teachers"].items()}
    numbers = jax.tree.map(lambda n: n[situation], shared["numbers"][subset])
    found = scores(shared["held"], said, seed, situation, numbers, subset, steps, names)
    return {"teacher": said["test"]} | {method: own["test"] for method, own in found.items()}


def make(subsets=tuple(SUBSETS), situations=SITUATIONS, seeds=20, steps=600, names=tuple(SETTINGS)):
    """The table, or a part of it."""
    same = {"steps": steps, "names": names}
    rows = {
        f"{subset}, {name}": {"subset": subset, "situation": np.int32(i)} | same
        for subset in subsets
        for i, name in enumerate(situations)
    }
    return Table(
        title="AV-digits: which loss for which student and which labels",
        source="ours, 2026; there are no figures of others",
        rows=rows,
        columns=("teacher", *names),
        member=member,
        seeds=dict.fromkeys(rows, seeds),  # there are no more teachers
        quick=1,
        static=("subset", "steps", "names"),
        shared=partial(shared, subsets=subsets, situations=situations, seeds=seeds, **same),
        gains={f"{m} against labels": (m, "labels") for m in names if m != "labels"},
        together=2,
        width=10,
        about=f"Accuracy on 2,000 test pairs after {steps} steps of {BATCH} rows, half of them labelled. Settings of a "
        "method (temperature and weight, weight, or smoothing: four each) are chosen for each student and situation "
        f"on 500 validation pairs, by {len(TUNING)} seeds that the table does not use. Each seed has a teacher and a "
        "draw of labels of its own. The speech is synthetic: expect less on human voices.",
    )


few = make(("hears",), SITUATIONS[:1], 4, 300, ("labels", "kd", "hint"))
table = dataclasses.replace(make(), quick=few)

if __name__ == "__main__":  # python experiments/tables/av_digits.py FOLDER: what validation chose, as Markdown
    found = pathlib.Path(sys.argv[1]).glob("validation, *.npz")
    tried_on = {p.stem.split(", ", 1)[1].rpartition("-")[0]: np.load(p) for p in found}
    heads = [f"{subset}, {situation}" for subset in SUBSETS for situation in SITUATIONS]
    lines = [["", *heads], ["---"] * (1 + len(heads))]
    for method, settings in SETTINGS.items():
        best = [settings[np.argmax(tried_on[head][method][: len(settings)])] for head in heads]
        said = [", ".join(f"{k.split('.')[1].replace('_', ' ')} {v:g}" for k, v in each.items()) for each in best]
        lines.append([method, *said])
    print("\n".join("| " + " | ".join(line) + " |" for line in lines if any(line[1:])))
