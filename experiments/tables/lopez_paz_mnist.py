"""Lopez-Paz et al. 2016, MNIST with privileged resolution: the teacher sees 28 × 28 pixels, the student 7 × 7.

Unifying Distillation and Privileged Information, ICLR 2016, https://arxiv.org/abs/1511.03643, figure 1. Both are MLPs
with two hidden layers of 20 units, trained on a few hundred images and tested on the full test set.

    mmkd table lopez-paz-mnist
"""

import jax
import jax.numpy as jnp
import optax

import mmkd_jax as mmkd

EPOCHS, BATCH = 50, 128
SETTINGS = {
    "λ=0": (1, 0),
    "T=1 λ=1": (1, 1),
    "T=5 λ=.5": (5, 0.5),
    "T=10 λ=.1": (10, 0.1),
    "T=20 λ=.1": (20, 0.1),
    "T=50 λ=.5": (50, 0.5),
}

large, small = mmkd.models.mlp("whole", (20, 20, 10), "glorot"), mmkd.models.mlp("coarse", (20, 20, 10), "glorot")
task = mmkd.term(mmkd.losses.cross_entropy, logits="student.logits", labels="batch.label", where="valid")


def imitate(temperature):
    """CE(s, y) and CE(s, softmax(t / T)); the student's temperature is 1, as in the authors' code."""
    soft = mmkd.term(
        mmkd.losses.cross_entropy,
        logits="student.logits",
        labels="teacher.logits",
        connect={"labels": lambda logits: jax.nn.softmax(logits / temperature)},
        where="valid",
    )
    return mmkd.combine(task=task, soft=soft)


def shared(cached):
    """Return images (0 … 255) and labels of both splits."""
    splits = {split: mmkd.data.load_or_prepare("mnist", split).columns for split in ("train", "test")}
    return {split: {"image": c["image"][..., 0], "label": c["label"]} for split, c in splits.items()}


def seen(columns, rows):
    """Return the inputs of teacher and student for some rows."""
    image = columns["image"][rows] / 255
    coarse = jax.image.resize(image, (*image.shape[:1], 7, 7), "bilinear")
    flat = {name: x.reshape(len(x), -1) for name, x in (("whole", image), ("coarse", coarse))}
    return flat | {"label": columns["label"][rows], "example_id": jnp.arange(len(image))}


def member(arrays, seed, size):
    """Test accuracy of the teacher, and of a student per setting."""
    choice, order, start = jax.random.split(jax.random.key(seed), 3)
    rows = seen(arrays["train"], jax.random.choice(choice, len(arrays["train"]["label"]), (size,), replace=False))
    test = seen(arrays["test"], slice(None))
    batches = -(-size // BATCH)  # per epoch; the last one is smaller

    def batch(step):
        shuffled = jax.random.permutation(jax.random.fold_in(order, step // batches), size)
        place = step % batches * BATCH + jnp.arange(BATCH)
        return {k: v[shuffled[place % size]] for k, v in rows.items()} | {"valid": place < size}

    def fit(objective, models, key, given=None, hyperparams=None):
        distillation = mmkd.Distillation(models, objective, optax.rmsprop(1e-3, decay=0.9, eps=1e-6))
        return mmkd.population.train(distillation, batch, EPOCHS * batches, key, given, hyperparams)["student"]

    teacher = fit(task, {"student": large}, start)

    def score(setting):
        number, temperature, share = setting
        models, key = {"teacher": large, "student": small}, jax.random.fold_in(start, number)
        weights = {"task.weight": 1 - share, "soft.weight": temperature**2 * share}
        distilled = fit(imitate(temperature), models, key, {"teacher": teacher}, weights)
        return mmkd.population.accuracy(small, distilled, test)

    hyperparams = jnp.arange(1, 1 + len(SETTINGS))
    scores = jax.lax.map(score, (hyperparams, *jnp.array([*SETTINGS.values()], jnp.float32).T))
    return {"privileged": mmkd.population.accuracy(large, teacher, test)} | dict(zip(SETTINGS, scores, strict=True))


columns = ("privileged", *SETTINGS)
port = {300: (79.7, None, 46.5, 53.6, 62, 63.6, 54.8), 500: (84.3, None, 56.2, 68.4, 70.3, 74, 67)}
stored = {300: (80.06, 47, 46.27, 56.23, 63.18, 65.62, 54.33), 500: (83.66, 58.88, 59.46, 69.11, 71.23, 72.22, 69.07)}


def figures(given, runs):
    def figure(column, value):
        return mmkd.paper_tables.Figure(value, runs.get(column, 10))

    return {
        f"N={size}": {c: figure(c, v) for c, v in zip(columns, line, strict=True) if v is not None}
        for size, line in given.items()
    }


table = mmkd.paper_tables.Table(
    title="Lopez-Paz et al., MNIST with privileged resolution",
    source="Lopez-Paz et al., Unifying Distillation and Privileged Information, ICLR 2016, "
    "https://arxiv.org/abs/1511.03643, figure 1; means of the result files in the authors' code repository",
    rows={f"N={size}": {"size": size} for size in (300, 500)},
    columns=columns,
    member=member,
    seeds=100,
    quick=20,
    static=("size",),
    shared=shared,
    gains={f"gain, {name}": (name, "λ=0") for name in columns[2:]},
    published=figures(stored, {"λ=0": 60}),
    checked=figures(port, {}),
    width=100,
    axis="columns",
    about="Training rows are redrawn for each repetition. The authors trained λ=0 60 times, in ten repetitions.",
)
