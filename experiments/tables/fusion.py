"""Comparison of fusions as teachers, as students and as what is distilled, with modalities present and absent.

AV-digits: for each fusion, a teacher learns from all 6,000 labeled pairs. Two students with the same fusion and a
quarter of the parameters learn from 500 labels: one alone, one also from the teacher's logits on all pairs. All
fusions have the same encoders and the same number of parameters, the same number of steps, and the same number of
settings to choose from on validation. Each training sees either all recordings, or lacks 30 % of them; each model is
tested as it was trained, and without any recording.

    mmkd table fusion
    python experiments/tables/fusion.py            widths, parameters, operations and times, as Markdown
    python experiments/tables/fusion.py --fit      the widths of equal parameters, as in WIDTHS
"""

import dataclasses
import itertools
import pprint
import statistics
import sys
import time
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import mmkd_jax as mmkd

BATCH, CLASSES, LABELED, LACKING = 32, 10, 500, 0.3
TUNING = np.arange(1000, 1002, dtype=np.int32)  # seeds for model selection, not used in the table
CONDITIONS = {"complete": 0.0, "30 % lack audio": LACKING}
BUDGET = {"teacher": 64_000, "student": 16_000}  # parameters
ENCODER = {"teacher": 32, "student": 16}  # width of the encoders, and of the embedding, which is adjusted
fusions = mmkd.models.fusion

# width -> fusion; CrossModal, FiLM and the bilinear form take exactly two modalities
FUSIONS = {
    "Concat": lambda width: fusions.Concat(),
    "Sum": fusions.Sum,
    "Gated": fusions.Gated,
    "GMU": fusions.GMU,
    "FiLM": partial(fusions.FiLM, "audio", "image"),
    "Multiplicative": fusions.Multiplicative,
    "TensorFusion": fusions.TensorFusion,
    "LowRank": fusions.LowRank,
    "Attention": lambda width: fusions.Attention(width, heads=2),
    "Mixer": fusions.Mixer,
    "MoE": partial(fusions.MoE, 4),
    "Orthogonal": fusions.Orthogonal,
    "Late, mean": lambda width: fusions.Late(CLASSES),
    "Late, product": lambda width: fusions.Late(CLASSES, "product"),
    "Bottleneck": partial(fusions.Bottleneck, 2, 4, heads=2),
    "CrossModal": partial(fusions.CrossModal, 1, 1, heads=2),
    "Perceiver": partial(fusions.Perceiver, 8, 2, heads=2),
}
WIDTHS = {
    "Concat": {"teacher": (512, 363), "student": (512, 131)},
    "Sum": {"teacher": (296, 32), "student": (114, 16)},
    "Gated": {"teacher": (296, 32), "student": (114, 16)},
    "GMU": {"teacher": (170, 31), "student": (66, 16)},
    "FiLM": {"teacher": (196, 33), "student": (76, 17)},
    "Multiplicative": {"teacher": (18, 16), "student": (12, 32)},
    "TensorFusion": {"teacher": (32, 32), "student": (20, 15)},
    "LowRank": {"teacher": (90, 34), "student": (34, 20)},
    "Attention": {"teacher": (52, 16), "student": (22, 15)},
    "Mixer": {"teacher": (82, 32), "student": (34, 23)},
    "MoE": {"teacher": (58, 25), "student": (24, 8)},
    "Orthogonal": {"teacher": (84, 35), "student": (36, 16)},
    "Late, mean": {"teacher": (54, 32), "student": (24, 16)},
    "Late, product": {"teacher": (54, 32), "student": (24, 16)},
    "Bottleneck": {"teacher": (26, 17), "student": (10, 64)},
    "CrossModal": {"teacher": (26, 49), "student": (10, 64)},
    "Perceiver": {"teacher": (38, 16), "student": (16, 18)},
}  # (width of the fusion, of Late that of the encoders; width of the embedding)


def network(name, size, widths):
    """Return the model of a fusion for a teacher or a student."""
    width, embedding = widths
    late = name.startswith("Late")
    scale = width if late else ENCODER[size]
    encoders = {
        "audio": mmkd.models.AudioTDNN((scale, scale)),
        "image": mmkd.models.ImageTransformer(patch=7, embed_dim=scale, num_heads=2, num_layers=1),
    }
    own: dict[str, Any] = {} if late else {"classes": CLASSES, "width": embedding}
    return mmkd.linen(mmkd.models.Multimodal(encoders, fusion=FUSIONS[name](width), **own))


def rows_of(size):
    """Return rows of zeros, for shapes and times."""
    return {
        "audio": jnp.zeros((size, 32, 32), jnp.uint8),
        "image": jnp.zeros((size, 28, 28, 1), jnp.uint8),
        "present.audio": jnp.ones(size, bool),
        "example_id": jnp.arange(size),
    }


def parameters(name, size, widths):
    """Return the number of parameters of the model of a fusion."""
    shapes = jax.eval_shape(network(name, size, widths).init, jax.random.key(0), rows_of(1))
    return sum(x.size for x in jax.tree.leaves(shapes["params"]))


def fitted(name, size):
    """Return the widths whose parameters are within 1 % of the budget, with the embedding nearest to the usual one.

    Widths are even, as there are two heads. Parameters grow with the width, and linearly with the embedding.
    """
    base, goal = ENCODER[size], BUDGET[size]
    low, high = 1, 256
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if parameters(name, size, (2 * middle, base)) <= goal else (low, middle - 1)
    found = []
    for width in {2 * n for n in (low - 1, low, low + 1) if n}:
        count, each = parameters(name, size, (width, base)), parameters(name, size, (width, base + 1))
        more = round((goal - count) / (each - count)) if each > count else 0
        embedding = base + more if name == "Concat" else min(max(base + more, base // 2), 4 * base)
        found.append((width, embedding))

    def far(widths):
        return max(abs(parameters(name, size, widths) / goal - 1), 0.01), abs(widths[1] - base)

    return min(found, key=far)


if __name__ == "__main__" and "--fit" in sys.argv:
    WIDTHS = {name: {size: fitted(name, size) for size in BUDGET} for name in FUSIONS}
    pprint.pprint(WIDTHS, sort_dicts=False, width=100)
    for name in FUSIONS:
        print(name, {size: parameters(name, size, WIDTHS[name][size]) for size in BUDGET}, file=sys.stderr)
    sys.exit()


task = mmkd.term(mmkd.losses.cross_entropy, logits="student.logits", labels="batch.label", where="labelled")
soft = mmkd.term(mmkd.losses.kl, student="student.logits", teacher="teacher.logits")
balance = mmkd.term(mmkd.losses.load_balancing, router="student.router", weight=0.01)

# settings to choose from on validation: the same for every fusion. Without the weight, a student sees labels alone
RATES = (1e-3, 3e-3)
LABELS = [{"rate": r, "soft.temperature": 1.0, "soft.weight": 0.0} for r in RATES]
SOFT = [
    {"rate": r, "soft.temperature": t, "soft.weight": w} for r, t, w in itertools.product(RATES, (1.0, 3.0), (1.0, 5.0))
]


def lacking(key, rows, share):
    """Return rows of which a share lacks audio."""
    return rows | {"present.audio": ~jax.random.bernoulli(key, share, rows["label"].shape)}


def fit(arrays, seed, share, rate, steps, name, size, hyperparams=None):
    """Train a model and return it with its variables; half of a batch is labeled rows, half is rows of all."""
    which, gaps, order = jax.random.split(jax.random.key(seed), 3)
    rows = lacking(gaps, arrays["train"], share)
    pool = jax.random.permutation(which, len(rows["label"]))
    count = len(pool) if size == "teacher" else LABELED
    rows |= {"labelled": jnp.zeros(len(pool), bool).at[pool[:count]].set(True)}

    def batch(step):
        one, other = jax.random.split(jax.random.fold_in(order, step))
        half = pool[jax.random.randint(one, (BATCH // 2,), 0, count)]
        chosen = jnp.concatenate([half, jax.random.randint(other, (BATCH // 2,), 0, len(pool))])
        return {k: v[chosen] for k, v in rows.items()}

    model = network(name, size, WIDTHS[name][size])
    taught = size == "student"
    models = {"student": model} | ({"teacher": mmkd.cached("teacher")} if taught else {})
    terms = {"task": task} | ({"soft": soft} if taught else {}) | ({"balance": balance} if name == "MoE" else {})
    optimizer = optax.adamw(optax.cosine_decay_schedule(rate, steps), weight_decay=1e-4)
    distillation = mmkd.Distillation(models, mmkd.combine(**terms), optimizer)
    return model, mmkd.population.train(distillation, batch, steps, order, None, hyperparams)["student"], rows


def accuracies(arrays, model, learned, share, split):
    """Return the accuracy on rows of which a share lacks audio, and on rows that all lack it."""
    rows = lacking(jax.random.key(7), arrays[split], share)
    without = rows | {"present.audio": jnp.zeros_like(rows["present.audio"])}
    return tuple(mmkd.population.accuracy(model, learned, each) for each in (rows, without))


def teach(arrays, seed, share, rate, name, steps):
    """Train a teacher; return its logits on the training rows and its accuracies."""
    model, learned, rows = fit(arrays, seed, share, rate, steps, name, "teacher")
    complete, without = accuracies(arrays, model, learned, share, "test")
    return {
        "logits": mmkd.predict(model, learned, rows)["logits"],
        "validation": accuracies(arrays, model, learned, share, "validation")[0],
        "teacher": complete,
        "teacher without audio": without,
    }


def study(arrays, logits, seed, share, settings, name, steps, split):
    """Train a student; return its accuracies on rows as in training, and on rows without audio."""
    shown = arrays | {"train": arrays["train"] | {"teacher.logits": logits}}
    hyperparams = {k: v for k, v in settings.items() if k != "rate"}
    model, learned, _ = fit(shown, seed, share, settings["rate"], steps, name, "student", hyperparams)
    return accuracies(arrays, model, learned, share, split)


def prepared(learn, try_all, arrays, share, seeds):
    """Train the teachers of a fusion; return them, and the settings selected on validation."""
    tuned, group = len(TUNING), len(TUNING) * len(RATES)
    every = np.float32(share).repeat

    def best(found, settings):
        return settings[int(np.argmax(np.asarray(found).reshape(len(settings), tuned).mean(1)))]  # the first of equals

    first = learn(arrays, np.tile(TUNING, len(RATES)), every(group), np.array(RATES, np.float32).repeat(tuned))
    rate = best(first["validation"], RATES)
    logits = first["logits"].reshape(len(RATES), tuned, *first["logits"].shape[1:])[RATES.index(rate)]
    tried = [*LABELS, *SOFT]
    settings = {k: np.array([s[k] for s in tried], np.float32).repeat(tuned) for k in tried[0]}
    again = (np.tile(logits, (len(tried), 1, 1)), np.tile(TUNING, len(tried)), every(len(tried) * tuned), settings)
    found, _ = np.asarray(try_all(arrays, *again))
    chosen = [best(found[: len(LABELS) * tuned], LABELS), best(found[len(LABELS) * tuned :], SOFT)]
    groups = np.arange(seeds, dtype=np.int32).reshape(-1, group)  # in groups, as one program has one size
    teachers = [learn(arrays, own, every(group), np.float32(rate).repeat(group)) for own in groups]
    return jax.tree.map(lambda *x: np.concatenate(x), *jax.device_get(teachers)) | {
        k: np.array([s[k] for s in chosen], np.float32) for k in chosen[0]
    }


def shared(cached, names, seeds, steps):
    """Return the data; for each fusion and condition the teachers, and the settings of both students."""
    columns = {s: mmkd.data.load("av_digits", s).columns for s in ("train", "validation", "test")}
    arrays = {s: {k: c[k] for k in ("audio", "image", "label", "example_id")} for s, c in columns.items()}
    found = {}
    for name in names:
        learn = mmkd.population.members(partial(teach, name=name, steps=steps))
        try_all = mmkd.population.members(partial(study, name=name, steps=steps, split="validation"))
        each = [
            cached(f"{name}, {condition}", partial(prepared, learn, try_all, arrays, share, seeds))
            for condition, share in CONDITIONS.items()
        ]
        found[name] = jax.tree.map(lambda *x: np.stack(x), *each)
    return {"arrays": arrays, "fusions": found}


def member(shared, seed, condition, share, name, steps):
    """Test accuracy of teacher and students, on rows as in training and on rows without audio."""
    own = {k: x[condition] for k, x in shared["fusions"][name].items()}
    settings = {k: own[k] for k in LABELS[0]}

    def train(settings):
        return study(shared["arrays"], own["logits"][seed], seed, share, settings, name, steps, "test")

    found = {k: own[k][seed] for k in ("teacher", "teacher without audio")}
    for training, *each in zip(("labels", "distilled"), *jax.lax.map(train, settings), strict=True):
        found |= dict(zip((training, f"{training} without audio"), each, strict=True))
    return found


def make(names=tuple(FUSIONS), seeds=20, steps=500):
    """Create the table, or a part of it."""
    rows = {
        f"{name}, {condition}": {"condition": np.int32(i), "share": np.float32(share), "name": name, "steps": steps}
        for name in names
        for i, (condition, share) in enumerate(CONDITIONS.items())
    }
    columns = ("teacher", "labels", "distilled")
    return mmkd.paper_tables.Table(
        title="AV-digits: fusions as teacher, student and distilled student",
        source="ours, 2026; no published figures",
        rows=rows,
        columns=(*columns, *(f"{c} without audio" for c in columns)),
        member=member,
        seeds=dict.fromkeys(rows, seeds),  # one teacher per seed
        quick=1,
        static=("name", "steps"),
        shared=partial(shared, names=names, seeds=seeds, steps=steps),
        gains={
            "gain": ("distilled", "labels"),
            "gain without audio": ("distilled without audio", "labels without audio"),
        },
        width=10,
        about=f"Accuracy on 2,000 test pairs after {steps} steps with batches of {BATCH} rows. Teachers have "
        f"{BUDGET['teacher']:,} parameters and all 6,000 labels, students {BUDGET['student']:,} and {LABELED} labels, "
        "with the teacher's fusion; the distilled student also sees the teacher's logits on all 6,000 pairs. Learning "
        "rates, temperature and weight are selected for each fusion and condition on 500 validation pairs, with "
        f"{len(TUNING)} seeds that are not used in the table. In the second row of a fusion, 30 % of the training and "
        "test rows lack audio; teacher and students lack it in the same rows. The speech is synthetic: expect lower "
        "accuracy on human voices.",
    )


few = make(("Gated",), 4, 60)
table = dataclasses.replace(make(), quick=few)

if __name__ == "__main__":  # widths and costs, as Markdown
    head, lines = rows_of(256), []
    for name in FUSIONS:
        cells = [name]
        for size, widths in WIDTHS[name].items():
            model = network(name, size, widths)
            variables = jax.jit(model.init)(jax.random.key(0), head)
            run = jax.jit(partial(mmkd.predict, model)).lower(variables, head).compile()
            seconds = []
            for _ in range(31):
                began = time.perf_counter()
                jax.block_until_ready(run(variables, head))
                seconds.append(time.perf_counter() - began)
            operations = (run.cost_analysis() or {}).get("flops", float("nan")) / 256
            count = sum(x.size for x in jax.tree.leaves(variables["params"]))
            cells += [
                f"{widths[0]}",
                f"{count:,}",
                f"{operations / 1e3:,.0f}",
                f"{1e6 * statistics.median(seconds) / 256:.1f}",
            ]
        lines.append(cells)
    heads = [f"{size}: {x}" for size in BUDGET for x in ("width", "parameters", "thousand operations", "µs a row")]
    print(mmkd.reporting.markdown_table(["fusion", *heads], lines, "l" + "r" * len(heads)), end="")
