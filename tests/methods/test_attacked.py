"""Methods under attack: what each makes large, what it makes small, on what, and what is refused."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mmkd_jax import data, losses, methods
from mmkd_jax.adversarial import PGD
from mmkd_jax.core.model import StepContext, cached, linen
from mmkd_jax.core.objective import combine, total
from mmkd_jax.core.outputs import forward
from mmkd_jax.core.state import variables
from mmkd_jax.errors import UserError
from mmkd_jax.experiment import definition
from mmkd_jax.models import Multimodal, TextTransformer
from mmkd_jax.tasks import classification
from mmkd_jax.training.roles import Frozen, Trained
from mmkd_jax.training.training import Training
from tests.small import distil, gap, initialize, look, make_batch, net, on_device

BOX = PGD(eps=0.2, step_size=0.1, steps=3, low=None, high=None)
MODELS = {"teacher": net(6), "student": net(8)}
BATCH = make_batch()
VALID = BATCH["valid"]


@pytest.fixture(scope="module")
def looked():
    state, frozen = initialize(distil(MODELS, methods.trades("image", attack=BOX)), BATCH)
    every = variables(state, frozen)

    def first_outputs(student):
        return look(MODELS, {**every, "student": student}, on_device(BATCH), StepContext(0, jax.random.key(1)))

    return first_outputs, every["student"]


def spied(outputs):
    """The outputs, and what the student was shown last."""
    seen, run = [], outputs.run["student"]

    def spy(batch, **options):
        seen.append(batch["image"])
        return run(batch, **options)

    return dataclasses.replace(outputs, run={**outputs.run, "student": spy}), seen


def apart(method, outputs):
    """The means of its terms, and the attacked input."""
    outputs, seen = spied(outputs)
    terms, _ = method.apply(*method.init(outputs), outputs)
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


@pytest.mark.slow
@pytest.mark.parametrize("name", INNER)
def test_the_attack_makes_large_what_the_paper_says(name, looked):
    first_outputs, student = looked
    outputs = first_outputs(student)
    terms, found = apart(getattr(methods, name)("image", attack=BOX), outputs)
    shift = np.abs(np.asarray(found) - BATCH["image"])
    assert shift.mean() > 0.1 and shift.max() <= 0.2 + 1e-6
    y = outputs["batch.label"]
    clean = [outputs[f"{n}.logits"] for n in ("student", "teacher")]

    def reached(x):  # student first
        s, t = (outputs.run[n]({**outputs.batch, "image": x})["logits"] for n in ("student", "teacher"))
        return mean(INNER[name](s, t, *clean, y=y))

    noise = 0.2 * np.sign(np.random.default_rng(0).normal(size=BATCH["image"].shape)).astype(np.float32)
    assert reached(found) > max(reached(BATCH["image"]), reached(BATCH["image"] + noise))

    s, t = (outputs.run[n]({**outputs.batch, "image": found})["logits"] for n in ("student", "teacher"))
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
    first_outputs, student = looked
    method = methods.trades("image", attack=BOX)

    def stable(student, stop):
        outputs = first_outputs(student)
        params, state = method.init(outputs)
        if stop:
            model_outputs = dict(outputs.by_model, student=jax.lax.stop_gradient(outputs.by_model["student"]))
            outputs = dataclasses.replace(outputs, by_model=model_outputs)
        return mean_of(method.apply(params, state, outputs)[0]["stable"])

    def mean_of(term):
        return jnp.mean(term.values)

    both, one = (jax.jit(jax.grad(stable), static_argnums=1)(student, stop) for stop in (False, True))
    assert gap(both, one) > 1e-4


def test_a_teacher_that_is_cached_cannot_see_the_attack():
    batch = BATCH | {"teacher.logits": np.zeros((16, 3), np.float32)}
    models = {"teacher": cached("teacher"), "student": net(8)}
    for name in ("iad", "adaad"):
        with pytest.raises(UserError, match="'teacher' is cached and cannot be run on another input"):
            initialize(distil(models, getattr(methods, name)("image", attack=BOX)), batch)
    for name in ("ard", "rslad"):  # these need its clean answers only
        initialize(distil(models, getattr(methods, name)("image", attack=BOX)), batch)


def test_an_experiment_refuses_it_before_the_first_step():
    """`cache=` of a part whose method shows the teacher the attack."""
    rows = data.from_columns({k: BATCH[k] for k in ("image", "label")}, "rows")
    reader = data.InMemory(rows, 8)
    shared: dict[str, Any] = {"optimizer": optax.sgd(0.1), "task": classification(3), "data": reader}
    shared |= {"validation": reader, "test": reader, "steps": 1}
    teacher = Training({"teacher": Trained(MODELS["teacher"])}, classification(3).objective("teacher"), **shared)

    def check(name, **more):
        objective = combine(robust=getattr(methods, name)("image", attack=BOX))
        frozen = Frozen(MODELS["teacher"], init_from="teacher.teacher", **more)
        student = Training({"student": Trained(MODELS["student"]), "teacher": frozen}, objective, **shared)
        return definition.check({"teacher": teacher, "student": student}, {})

    cache = {"cache": ("logits",)}
    for name in ("iad", "adaad"):
        check(name)
        with pytest.raises(
            UserError, match="training 'student': term 'robust': model 'teacher' is cached and cannot be run"
        ):
            check(name, **cache)
    check("rslad", **cache)


@pytest.mark.parametrize("introspection", [0.5, lambda step: 0.5 + 0 * step])
def test_shares_of_iad(introspection, looked):
    """α is the share of both attacked terms; a schedule of the last one is multiplied by it."""
    first_outputs, student = looked
    outputs = first_outputs(student)
    method = methods.iad("image", attack=BOX, alpha=0.6, introspection=introspection)
    terms, _ = method.apply(*method.init(outputs), outputs)
    weights = {k: float(t.weight) for k, t in terms.items()}
    assert weights == {k: pytest.approx(v) for k, v in {"task": 0.4, "follow": 0.6, "introspect": 0.3}.items()}


def test_what_a_mask_leaves_out_is_not_even_clipped(looked):
    first_outputs, student = looked
    image = jnp.asarray(BATCH["image"]).at[:, 0].set(-7.0)
    inside = jnp.ones(image.shape[:2], bool).at[:, 0].set(False)
    outputs = first_outputs(student)
    outputs = dataclasses.replace(outputs, batch={**outputs.batch, "image": image, "inside": inside})
    box = dataclasses.replace(BOX, low=-1.0, high=1.0)
    for mask in ("inside", None):
        _, found = apart(methods.rslad("image", attack=box, mask=mask), outputs)
        assert bool((found[:, 0] == -7.0).all()) == (mask is not None)
        inner, moved = image[:, 1], found[:, 1] - image[:, 1]
        assert float(jnp.abs(moved).max()) <= BOX.eps + 1e-6  # also of what lies outside of the range
        assert bool((jnp.abs(found[:, 1]) <= jnp.maximum(jnp.abs(inner), 1) + 1e-6).all())


@pytest.mark.slow
def test_embedded_tokens_are_attacked_but_not_the_padding():
    rng = np.random.default_rng(0)
    mask = np.arange(5)[None] < rng.integers(1, 6, 16)[:, None]
    batch = BATCH | {"text.ids": rng.integers(0, 9, (16, 5)).astype(np.int32), "text.mask": mask}
    reader = linen(Multimodal({"text": TextTransformer(9, embed_dim=8, num_heads=2, num_layers=1)}, classes=3, width=4))
    models = {"teacher": net(6), "student": reader}
    method = methods.rslad("hidden.text.0", attack=BOX, mask="text.mask")
    state, frozen = initialize(distil(models, method), batch)
    outputs, _ = forward(models, variables(state, frozen), on_device(batch), StepContext(0, jax.random.key(1)))
    patches, run = [], outputs.run["student"]

    def spy(shown, patch, **options):
        patches.append(patch["hidden.text.0"])
        return run(shown, patch=patch, **options)

    terms, _ = method.apply(
        state.params["objective"],
        state.objective_state,
        dataclasses.replace(outputs, run={**outputs.run, "student": spy}),
    )
    shift = np.abs(np.asarray(patches[-1] - outputs["student.hidden.text.0"]))
    assert shift[~mask].max() == 0 and 0.1 < shift[mask].mean() <= 0.2
    assert mean(terms["attacked"].values) > mean(terms["clean"].values)
    with pytest.raises(UserError, match="int32 is not continuous"):
        initialize(distil(models, methods.rslad("text.ids", attack=BOX)), batch)
    with pytest.raises(UserError, match="not found in the batch or in the outputs of 'student'"):
        initialize(distil(models, methods.rslad("video", attack=BOX)), batch)
    with pytest.raises(UserError, match="'teacher' cannot run on an output of 'student'"):
        initialize(distil(models, methods.adaad("hidden.text.0", attack=BOX)), batch)


def test_a_discriminator_turns_the_students_gradient_round(looked):
    first_outputs, student = looked
    paths = {"student": "student.logits", "teacher": "teacher.logits"}
    slopes = {}
    for strength in (1.0, 0.0, 0.5):
        method = methods.discriminator(**paths, hidden=4, strength=strength)
        params, state = method.init(first_outputs(student))

        def lost(params, student, method=method, state=state):
            return total(method.apply(params, state, first_outputs(student))[0])[0]

        slopes[strength] = jax.jit(jax.grad(lost, (0, 1)))(params, student)
    (judge, whole), (same, none), (_, half) = slopes.values()
    assert gap(judge, same) < 1e-7 and gap(none, jax.tree.map(jnp.zeros_like, none)) == 0 < gap(whole, none)
    assert gap(jax.tree.map(lambda x: x / 2, whole), half) < 1e-7

    def fooled(student):  # the student's gradient goes up what its discriminator loses
        outputs = first_outputs(student)
        return total(methods.discriminator(**paths, hidden=4).apply(params, memory_of(outputs), outputs)[0])[0]

    def memory_of(outputs):
        return methods.discriminator(**paths, hidden=4).init(outputs)[1]

    step = jax.tree.map(lambda x, g: x - 0.5 * g, student, whole)
    assert float(fooled(step)) > float(fooled(student))
    with pytest.raises(UserError, match="embedding widths differ"):
        methods.discriminator().init(first_outputs(student))


@pytest.mark.parametrize("name", ["ard", "rslad", "trades"])
def test_what_lies_below_an_attacked_output_learns_too(looked, name):
    """An output is moved by what the attack found, not replaced: its own layers get the outer gradient."""
    first_outputs, student = looked
    method = getattr(methods, name)("embedding", attack=BOX, **({} if name == "trades" else {"alpha": 1.0}))

    @jax.jit
    @jax.grad
    def gradient(student):
        outputs = first_outputs(student)
        terms, _ = method.apply(*method.init(outputs), outputs)
        return total(terms)[0]

    found = gradient(student)["params"]
    below = max(float(jnp.abs(g).max()) for n, x in found.items() if "Classifier" not in n for g in jax.tree.leaves(x))
    assert below > 1e-3


@pytest.mark.slow
def test_trades_climbs_between_answers_as_in_use():
    """The target of its inner KL has no dropout, as the attacked side has none."""
    models = {"student": net(8, dropout=0.5)}
    state, frozen = initialize(distil(models, methods.trades("image", attack=BOX)), BATCH)
    outputs = forward(models, variables(state, frozen), on_device(BATCH), StepContext(0, jax.random.key(1)))[0]
    seen, run = [], outputs.run["student"]

    def spy(batch, **options):
        out = run(batch, **options)
        seen.append((options.get("train", True), batch["image"], out["logits"]))
        return out

    spied_on = dataclasses.replace(outputs, run={"student": spy})
    with jax.disable_jit():
        method = methods.trades("image", attack=dataclasses.replace(BOX, steps=1))
        method.apply(*method.init(spied_on), spied_on)
    calm = [logits for train, image, logits in seen if not train and np.array_equal(image, outputs.batch["image"])]
    assert calm and np.array_equal(calm[0], run(outputs.batch, train=False)["logits"])
    assert not np.array_equal(calm[0], outputs["student.logits"])
