"""Comparison of distillation, feature enrichment and a mixer, for a modality that is absent in use.

AV-digits: audio and image are there in training; in use, a student only hears or only sees. All students have the same
encoder and the same number of parameters in use, labels, steps, and settings to choose from on validation.

- Distillation: the student of one modality also learns from the logits of an audio-visual teacher.
- Feature enrichment: it predicts the teacher's features of the absent modality, and reads them beside its own features.
- Mixer: it has both encoders, and an MLP-Mixer with a learned vector for an absent modality. Some training rows lack
  the other modality, and all test rows do.

    mmkd table enrichment
    python experiments/tables/enrichment.py        parameters, as Markdown
"""

import dataclasses
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

import mmkd_jax as mmkd

BATCH, CLASSES, RATE, SEEDS = 64, 10, 3e-3, 20
LABELS = {"500 labels": 500, "all labels": 6_000}
SEEN = {"hears": ("audio", "image"), "sees": ("image", "audio")}  # the modality in use, and the other one
ENCODERS = {"audio": mmkd.models.AudioTDNN((16, 16)), "image": mmkd.models.ImageMLP((16,))}
FEATURES = {"audio": 128, "image": 64}  # of the teacher
BUDGET = {"hears": 16_000, "sees": 20_000}  # parameters in use
TEACHER = mmkd.linen(
    mmkd.models.Multimodal(
        {"audio": mmkd.models.AudioTDNN((64, 64)), "image": mmkd.models.ImageMLP((128, 64))},
        classes=CLASSES,
        width=64,
    )
)


class Enriched(nn.Module):
    """Features of one modality beside those of another one, which are predicted from them."""

    width: int
    hidden: int

    @nn.compact
    def __call__(self, features, present, tap):
        (x,) = features.values()
        imagined = nn.Dense(self.width)(nn.gelu(nn.Dense(self.hidden)(x)))
        return jnp.concatenate([x, tap("imagined", imagined)], -1)


def student(kind, subset, sizes):
    """Return a student that uses one modality."""
    seen, other = SEEN[subset]
    *width, embedding = sizes
    encoders = ENCODERS if kind == "mixer" else {seen: ENCODERS[seen]}
    fusions = {
        "plain": mmkd.models.fusion.Concat,
        "enriched": partial(Enriched, FEATURES[other]),
        "mixer": mmkd.models.fusion.Mixer,
    }
    fusion = fusions[kind](*width)
    return mmkd.linen(mmkd.models.Multimodal(encoders, classes=CLASSES, width=embedding, fusion=fusion))


SIZES = {
    "hears": {"plain": (282,), "enriched": (64, 55), "mixer": (46, 27)},
    "sees": {"plain": (275,), "enriched": (24, 24), "mixer": (36, 28)},
}  # width of the prediction's hidden layer or of the mixer, width of the embedding

# settings to choose from on validation: four for each method. Without its weight, a student sees no teacher's logits
ALONE = {"soft.temperature": 1.0, "soft.weight": 0.0}
SOFT = [{"soft.temperature": 3.0, "soft.weight": w} for w in (1.0, 5.0)]
METHODS = {
    "plain": {
        "labels": [ALONE],
        "distillation": [{"soft.temperature": t, "soft.weight": w} for t in (1.0, 3.0) for w in (1.0, 5.0)],
    },
    "enriched": {
        "enrichment": [ALONE | {"imagine.weight": w} for w in (0.1, 1.0, 10.0, 100.0)],
        "enrichment and distillation": [soft | {"imagine.weight": w} for soft in SOFT for w in (1.0, 10.0)],
    },
    "mixer": {
        "mixer": [ALONE | {"withheld": share} for share in (0.25, 0.5, 0.75, 0.9)],
        "mixer and distillation": [soft | {"withheld": share} for soft in SOFT for share in (0.5, 0.75)],
    },
}
COLUMNS = tuple(name for methods in METHODS.values() for name in methods)
TUNING = np.arange(SEEDS, SEEDS + 2, dtype=np.int32)  # seeds for model selection, not used in the table


def parameters(kind, subset, sizes):
    """Return the number of parameters in use, so without those that only read the other modality."""
    other = SEEN[subset][1]
    rows = {
        "audio": jnp.zeros((1, 32, 32), jnp.uint8),
        "image": jnp.zeros((1, 28, 28, 1), jnp.uint8),
        "example_id": jnp.arange(1),
    }
    shapes = jax.eval_shape(student(kind, subset, sizes).init, jax.random.key(0), rows)["params"]
    names = {jax.tree_util.keystr(path): x.size for path, x in jax.tree.leaves_with_path(shapes)}
    return sum(n for name, n in names.items() if f"encoders_{other}" not in name and f"value_{other}" not in name)


task = mmkd.term(mmkd.losses.cross_entropy, logits="student.logits", labels="batch.label", where="labelled")
soft = mmkd.term(mmkd.losses.kl, student="student.logits", teacher="teacher.logits")


def fit(arrays, seed, count, model, terms, rate, steps, hyperparams=None, withheld=None):
    """Train a model; half of each batch is drawn from labeled rows, half from all rows."""
    which, order = jax.random.split(jax.random.key(seed))
    pool = jax.random.permutation(which, len(arrays["label"]))
    rows = arrays | {"labelled": jnp.zeros(len(pool), bool).at[pool].set(jnp.arange(len(pool)) < count)}

    def batch(step):
        one, other, gaps = jax.random.split(jax.random.fold_in(order, step), 3)
        half = pool[jax.random.randint(one, (BATCH // 2,), 0, count)]
        chosen = jnp.concatenate([half, jax.random.randint(other, (BATCH // 2,), 0, len(pool))])
        absent = {k: ~jax.random.bernoulli(gaps, share, (BATCH,)) for k, share in (withheld or {}).items()}
        return {k: v[chosen] for k, v in rows.items()} | absent

    models = {"student": model} | ({"teacher": mmkd.cached("teacher")} if "soft" in terms else {})
    optimizer = optax.adamw(optax.cosine_decay_schedule(rate, steps), weight_decay=1e-4)
    distillation = mmkd.Distillation(models, mmkd.combine(**terms), optimizer)
    return mmkd.population.train(distillation, batch, steps, order, None, hyperparams)["student"]


def teach(arrays, seed, count, steps):
    """Train a teacher; return its outputs on the training rows and its test accuracy."""
    learned = fit(arrays["train"], seed, count, TEACHER, {"task": task}, RATE / 3, steps)
    outputs = mmkd.predict(TEACHER, learned, arrays["train"])
    names = ("logits", *(f"features.{m}" for m in ENCODERS))
    return {k: outputs[k] for k in names} | {"test": mmkd.population.accuracy(TEACHER, learned, arrays["test"])}


def study(data, seed, situation, count, settings, subset, kind, steps, split):
    """Train a student; return its accuracy on rows without the other modality."""
    other = SEEN[subset][1]
    model = student(kind, subset, SIZES[subset][kind])
    outputs = {k: data["teachers"][k][situation, seed] for k in ("logits", f"features.{other}")}
    shown = data["arrays"]["train"] | {f"teacher.{k}": v for k, v in outputs.items()}
    imagine = mmkd.term(mmkd.losses.hint, student="student.imagined", teacher=f"teacher.features.{other}")
    terms = {"task": task, "soft": soft} | ({"imagine": imagine} if kind == "enriched" else {})
    hyperparams = {k: v for k, v in settings.items() if k != "withheld"}
    withheld = {f"present.{other}": settings["withheld"]} if kind == "mixer" else None
    learned = fit(shown, seed, count, model, terms, RATE, steps, hyperparams, withheld)
    rows = data["arrays"][split]
    absent = {f"present.{other}": jnp.zeros(len(rows["label"]), bool)}
    return mmkd.population.accuracy(model, learned, rows | absent)


def tried(data, subset, kind, situations, steps):
    """Return the validation accuracy of each setting [situations, settings], averaged over the selection seeds."""
    settings = [each for own in METHODS[kind].values() for each in own]
    run = mmkd.population.members(partial(study, subset=subset, kind=kind, steps=steps, split="validation"))
    grid = np.indices((len(situations), len(settings), len(TUNING))).reshape(3, -1).astype(np.int32)
    counts = np.array([LABELS[s] for s in situations], np.int32)[grid[0]]
    own = {k: np.array([s[k] for s in settings], np.float32)[grid[1]] for k in settings[0]}
    found = run(data, TUNING[grid[2]], grid[0], counts, own)
    return {"accuracy": np.asarray(found).reshape(len(situations), len(settings), len(TUNING)).mean(-1)}


def shared(cached, subsets, situations, steps):
    """Return the data, the teachers, and the settings of each method that are best on validation."""
    columns = {s: mmkd.data.load("av_digits", s).columns for s in ("train", "validation", "test")}
    arrays = {s: {k: c[k] for k in ("audio", "image", "label", "example_id")} for s, c in columns.items()}
    learn, every = mmkd.population.members(partial(teach, steps=steps)), np.arange(SEEDS + len(TUNING), dtype=np.int32)
    teachers = [
        cached(f"teachers, {s}", partial(learn, arrays, every, np.full(len(every), LABELS[s], np.int32)))
        for s in situations
    ]
    data = {"arrays": arrays, "teachers": jax.tree.map(lambda *x: np.stack(x), *teachers)}
    chosen = {}
    for subset in subsets:
        for kind, methods in METHODS.items():
            trial = partial(tried, data, subset, kind, situations, steps)
            accuracy, places = cached(f"validation, {subset}, {kind}", trial)["accuracy"], {}
            for name, settings in methods.items():
                first = sum(len(own) for own in list(methods.values())[: len(places)])
                places[name] = [settings[np.argmax(a[first : first + len(settings)])] for a in accuracy]
            chosen[f"{subset}, {kind}"] = {
                k: np.array([[s[k] for s in own] for own in places.values()], np.float32) for k in settings[0]
            }
    return data | {"settings": chosen}


def member(shared, seed, situation, count, subset, steps):
    """Test accuracy of the teacher, which has both modalities, and of the students, which have one."""
    found = {"teacher": shared["teachers"]["test"][situation, seed]}
    for kind, methods in METHODS.items():
        train = partial(study, shared, seed, situation, count, subset=subset, kind=kind, steps=steps, split="test")
        settings = {k: x[:, situation] for k, x in shared["settings"][f"{subset}, {kind}"].items()}
        found |= dict(zip(methods, jax.lax.map(train, settings), strict=True))
    return found


def make(subsets=tuple(SEEN), situations=tuple(LABELS), seeds=SEEDS, steps=600):
    """Create the table, or a part of it."""
    rows = {
        f"{subset}, {name}": {"subset": subset, "situation": np.int32(i), "count": np.int32(LABELS[name])}
        | {"steps": steps}
        for subset in subsets
        for i, name in enumerate(situations)
    }
    return mmkd.paper_tables.Table(
        title="AV-digits: distillation, feature enrichment or a mixer, for a modality that is absent in use",
        source="ours, 2026; no published figures",
        rows=rows,
        columns=("teacher", *COLUMNS),
        member=member,
        seeds=dict.fromkeys(rows, seeds),  # one teacher per seed
        quick=1,
        static=("subset", "steps"),
        shared=partial(shared, subsets=subsets, situations=situations, steps=steps),
        gains={f"{m} against labels": (m, "labels") for m in COLUMNS[1:]}
        | {f"{m} against distillation": (m, "distillation") for m in COLUMNS[2:]},
        together=4,
        width=10,
        about=f"Accuracy on 2,000 test pairs after {steps} steps with batches of {BATCH} rows, half of them labeled. "
        f"The teacher has both modalities; students have one in use, and {BUDGET['hears']:,} parameters (*sees*: "
        f"{BUDGET['sees']:,}). All of them learn from the same labels; the teacher's logits and features are those of "
        "all 6,000 pairs. Four settings of each method are tried for each student and number of labels, on 500 "
        f"validation pairs, with {len(TUNING)} seeds that are not used in the table. Each seed has a separate teacher "
        "and draw of labels. The speech is synthetic: expect lower accuracy on human voices.",
    )


few = make(("hears",), ("500 labels",), 4, 60)
table = dataclasses.replace(make(), quick=few)

if __name__ == "__main__":
    lines = [
        [subset, kind, f"{parameters(kind, subset, sizes):,}"]
        for subset, kinds in SIZES.items()
        for kind, sizes in kinds.items()
    ]
    print(mmkd.reporting.markdown_table(["student", "form", "parameters in use"], lines, "llr"), end="")
