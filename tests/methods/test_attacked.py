"""Methods under attack: what each makes large, what it makes small, on what, and what is refused."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mmkd_jax import data, experiment, losses, methods
from mmkd_jax.errors import UserError
from mmkd_jax.models import Multimodal, TextTransformer
from mmkd_jax.objective import combine, total
from mmkd_jax.part import Part
from mmkd_jax.state import variables
from mmkd_jax.tasks import classification
from mmkd_jax.views import Context, cached, forward, linen
from tests.small import begin, distil, gap, make_batch, net, on_device

BOX = {"eps": 0.2, "step_size": 0.1, "steps": 3, "low": None, "high": None}
MODELS = {"teacher": net(6), "student": net(8)}
BATCH = make_batch()
VALID = BATCH["valid"]


@pytest.fixture(scope="module")
def looked():
    state, frozen = begin(distil(MODELS, methods.trades("image", **BOX)), BATCH)
    every = variables(state, frozen)

    def look(student):
        return forward(MODELS, {**every, "student": student}, on_device(BATCH), Context(0, jax.random.key(1)))[0]

    return look, every["student"]


def spied(views):
    """The views, and what the student was shown last."""
    seen, run = [], views.run["student"]

    def spy(batch, **options):
        seen.append(batch["image"])
        return run(batch, **options)

    return dataclasses.replace(views, run={**views.run, "student": spy}), seen


def apart(method, views):
    """The means of its terms, and the attacked input."""
    views, seen = spied(views)
    terms, _ = method.apply(*method.init(views), views)
    _, metrics = total(terms)
    return {k: float(s / c) for k, (s, c) in metrics.items()}, seen[-1]


def mean(values, mask=VALID):
    return float(np.asarray(values)[mask].mean())


INNER = {
    "ard": lambda s, t, s0, t0, y: losses.cross_entropy(s, y),
    "iad": lambda s, t, s0, t0, y: losses.cross_entropy(s, y),
    "rslad": lambda s, t, s0, t0, y: losses.kl(s, t0),
    "trades": lambda s, t, s0, t0, y: losses.kl(s, s0),
    "adaad": lambda s, t, s0, t0, y: losses.kl(s, t),
}


@pytest.mark.parametrize("name", INNER)
def test_the_attack_makes_large_what_the_paper_says(name, looked):
    look, student = looked
    views = look(student)
    terms, found = apart(getattr(methods, name)("image", **BOX), views)
    shift = np.abs(np.asarray(found) - BATCH["image"])
    assert 0.1 < shift.mean() and shift.max() <= 0.2 + 1e-6
    y = views["batch.label"]
    clean = [views[f"{n}.logits"] for n in ("student", "teacher")]

    def reached(x):  # student first
        s, t = (views.run[n]({**views.batch, "image": x})["logits"] for n in ("student", "teacher"))
        return mean(INNER[name](s, t, *clean, y))

    noise = 0.2 * np.sign(np.random.default_rng(0).normal(size=BATCH["image"].shape)).astype(np.float32)
    assert reached(found) > max(reached(BATCH["image"]), reached(BATCH["image"] + noise))

    s, t = (views.run[n]({**views.batch, "image": found})["logits"] for n in ("student", "teacher"))
    trust = np.take_along_axis(np.asarray(jax.nn.softmax(t, -1)), np.asarray(y)[:, None], 1)[:, 0] ** 0.1
    expected = {
        "ard": {"attacked": losses.kl(s, clean[1], temperature=30.0), "task": losses.cross_entropy(clean[0], y)},
        "rslad": {"attacked": losses.kl(s, clean[1]), "clean": losses.kl(*clean)},
        "adaad": {"attacked": losses.kl(s, t), "clean": losses.kl(*clean)},
        "trades": {"stable": losses.kl(s, clean[0]), "task": losses.cross_entropy(clean[0], y)},
        "iad": {
            "follow": trust * losses.kl(s, clean[1]),
            "introspect": (1 - trust) * losses.kl(s, clean[0]),
            "task": losses.cross_entropy(clean[0], y),
        },
    }[name]
    assert terms == {k: pytest.approx(mean(v), rel=1e-4, abs=1e-7) for k, v in expected.items()}


def test_trades_moves_both_sides(looked):
    """Its clean answer is no teacher: it gets a gradient, which the stopped form lacks."""
    look, student = looked
    method = methods.trades("image", **BOX)

    def stable(student, stop):
        views = look(student)
        params, memory = method.init(views)
        if stop:
            outputs = dict(views.outputs, student=jax.lax.stop_gradient(views.outputs["student"]))
            views = dataclasses.replace(views, outputs=outputs)
        return mean_of(method.apply(params, memory, views)[0]["stable"])

    def mean_of(term):
        return jnp.mean(term.values)

    both, one = (jax.jit(jax.grad(stable), static_argnums=1)(student, stop) for stop in (False, True))
    assert gap(both, one) > 1e-4


def test_a_teacher_that_is_cached_cannot_see_the_attack():
    batch = BATCH | {"teacher.logits": np.zeros((16, 3), np.float32)}
    models = {"teacher": cached("teacher"), "student": net(8)}
    for name in ("iad", "adaad"):
        with pytest.raises(UserError, match="'teacher' is cached and cannot be run on another input"):
            begin(distil(models, getattr(methods, name)("image", **BOX)), batch)
    for name in ("ard", "rslad"):  # these need its clean answers only
        begin(distil(models, getattr(methods, name)("image", **BOX)), batch)


def test_an_experiment_refuses_it_before_the_first_step():
    """`cache=` of a part whose method shows the teacher the attack."""
    rows = data.from_columns({k: BATCH[k] for k in ("image", "label")}, "rows")
    reader = data.Memory(rows, 8)
    shared = {"optimizer": optax.sgd(0.1), "task": classification(3), "data": reader}
    shared |= {"validation": reader, "test": reader, "steps": 1}
    teacher = Part(
        {"teacher": MODELS["teacher"]}, classification(3).objective("teacher"), trained=("teacher",), **shared
    )

    def check(name, **more):
        objective = combine(robust=getattr(methods, name)("image", **BOX))
        student = Part(MODELS, objective, take={"teacher": "teacher.teacher"}, **more, **shared)
        return experiment.check({"teacher": teacher, "student": student}, {})

    cache = {"cache": {"teacher": ("logits",)}}
    for name in ("iad", "adaad"):
        check(name)
        with pytest.raises(
            UserError, match="part 'student': term 'robust': model 'teacher' is cached and cannot be run"
        ):
            check(name, **cache)
    check("rslad", **cache)


@pytest.mark.parametrize("introspection", [0.5, lambda step: 0.5 + 0 * step])
def test_shares_of_iad(introspection, looked):
    """α is the share of both attacked terms; a schedule of the last one is multiplied by it."""
    look, student = looked
    views = look(student)
    method = methods.iad("image", **BOX, alpha=0.6, introspection=introspection)
    terms, _ = method.apply(*method.init(views), views)
    weights = {k: float(t.weight) for k, t in terms.items()}
    assert weights == {k: pytest.approx(v) for k, v in {"task": 0.4, "follow": 0.6, "introspect": 0.3}.items()}


def test_what_a_mask_leaves_out_is_not_even_clipped(looked):
    look, student = looked
    image = jnp.asarray(BATCH["image"]).at[:, 0].set(-7.0)
    inside = jnp.ones(image.shape[:2], bool).at[:, 0].set(False)
    views = look(student)
    views = dataclasses.replace(views, batch={**views.batch, "image": image, "inside": inside})
    box = BOX | {"low": -1.0, "high": 1.0}
    for mask in ("inside", None):
        _, found = apart(methods.rslad("image", **box, mask=mask), views)
        assert bool((found[:, 0] == -7.0).all()) == (mask is not None)
        inner, moved = image[:, 1], found[:, 1] - image[:, 1]
        assert float(jnp.abs(moved).max()) <= BOX["eps"] + 1e-6  # also of what lies outside of the range
        assert bool((jnp.abs(found[:, 1]) <= jnp.maximum(jnp.abs(inner), 1) + 1e-6).all())


def test_embedded_tokens_are_attacked_but_not_the_padding():
    rng = np.random.default_rng(0)
    mask = np.arange(5)[None] < rng.integers(1, 6, 16)[:, None]
    batch = BATCH | {"text.ids": rng.integers(0, 9, (16, 5)).astype(np.int32), "text.mask": mask}
    reader = linen(Multimodal({"text": TextTransformer(9, width=8, heads=2, layers=1)}, classes=3, width=4))
    models = {"teacher": net(6), "student": reader}
    method = methods.rslad("hidden.text.0", **BOX, mask="text.mask")
    state, frozen = begin(distil(models, method), batch)
    views, _ = forward(models, variables(state, frozen), on_device(batch), Context(0, jax.random.key(1)))
    patches, run = [], views.run["student"]

    def spy(shown, patch, **options):
        patches.append(patch["hidden.text.0"])
        return run(shown, patch=patch, **options)

    terms, _ = method.apply(
        state.params["objective"], state.memory, dataclasses.replace(views, run={**views.run, "student": spy})
    )
    shift = np.abs(np.asarray(patches[-1] - views["student.hidden.text.0"]))
    assert shift[~mask].max() == 0 and 0.1 < shift[mask].mean() <= 0.2
    assert mean(terms["attacked"].values) > mean(terms["clean"].values)
    with pytest.raises(UserError, match="int32 cannot be moved a little"):
        begin(distil(models, methods.rslad("text.ids", **BOX)), batch)
    with pytest.raises(UserError, match="neither the batch nor 'student' has it"):
        begin(distil(models, methods.rslad("video", **BOX)), batch)
    with pytest.raises(UserError, match="'teacher' cannot see an output of 'student'"):
        begin(distil(models, methods.adaad("hidden.text.0", **BOX)), batch)


def test_a_discriminator_turns_the_students_gradient_round(looked):
    look, student = looked
    paths = {"student": "student.logits", "teacher": "teacher.logits"}
    slopes = {}
    for strength in (1.0, 0.0, 0.5):
        method = methods.discriminator(**paths, hidden=4, strength=strength)
        params, memory = method.init(look(student))

        def lost(params, student, method=method, memory=memory):
            return total(method.apply(params, memory, look(student))[0])[0]

        slopes[strength] = jax.jit(jax.grad(lost, (0, 1)))(params, student)
    (judge, whole), (same, none), (_, half) = slopes.values()
    assert gap(judge, same) < 1e-7 and gap(none, jax.tree.map(jnp.zeros_like, none)) == 0 < gap(whole, none)
    assert gap(jax.tree.map(lambda x: x / 2, whole), half) < 1e-7

    def fooled(student):  # the student's gradient goes up what its discriminator loses
        views = look(student)
        return total(methods.discriminator(**paths, hidden=4).apply(params, memory_of(views), views)[0])[0]

    def memory_of(views):
        return methods.discriminator(**paths, hidden=4).init(views)[1]

    step = jax.tree.map(lambda x, g: x - 0.5 * g, student, whole)
    assert float(fooled(step)) > float(fooled(student))
    with pytest.raises(UserError, match="both must have one width"):
        methods.discriminator().init(look(student))


@pytest.mark.parametrize("name", ["ard", "rslad", "trades"])
def test_what_lies_below_an_attacked_output_learns_too(looked, name):
    """An output is moved by what the attack found, not replaced: its own layers get the outer gradient."""
    look, student = looked
    method = getattr(methods, name)("embedding", **BOX, **({} if name == "trades" else {"alpha": 1.0}))

    @jax.jit
    @jax.grad
    def gradient(student):
        views = look(student)
        terms, _ = method.apply(*method.init(views), views)
        return total(terms)[0]

    found = gradient(student)["params"]
    below = max(float(jnp.abs(g).max()) for n, x in found.items() if "Classifier" not in n for g in jax.tree.leaves(x))
    assert below > 1e-3


def test_trades_climbs_between_answers_as_in_use():
    """The target of its inner KL has no dropout, as the attacked side has none."""
    models = {"student": net(8, dropout=0.5)}
    state, frozen = begin(distil(models, methods.trades("image", **BOX)), BATCH)
    views = forward(models, variables(state, frozen), on_device(BATCH), Context(0, jax.random.key(1)))[0]
    seen, run = [], views.run["student"]

    def spy(batch, **options):
        out = run(batch, **options)
        seen.append((options.get("train", True), batch["image"], out["logits"]))
        return out

    spied_on = dataclasses.replace(views, run={"student": spy})
    with jax.disable_jit():
        method = methods.trades("image", **{**BOX, "steps": 1})
        method.apply(*method.init(spied_on), spied_on)
    calm = [logits for train, image, logits in seen if not train and np.array_equal(image, views.batch["image"])]
    assert calm and np.array_equal(calm[0], run(views.batch, train=False)["logits"])
    assert not np.array_equal(calm[0], views["student.logits"])
