"""CompRess and SEED: their queues against a NumPy reference, masks, and what is refused."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmkd_jax import methods
from mmkd_jax.core.objective import combine, total
from mmkd_jax.errors import UserError
from mmkd_jax.methods import _queue as queues
from tests.losses.formulas import clip as formulas
from tests.methods.towers import ALIKE, MODELS, captions, first_outputs
from tests.small import advance, compiled, distil, equal, gap, initialize, set_hyperparams, stepper

pytestmark = pytest.mark.usefixtures("strict")
SIZE, ROWS = 20, 16
TWO = methods.compress(SIZE, temperature=0.3, weight=0.5, where="present.text")
ONE = methods.compress(SIZE, anchors=None, temperature=0.3)
SEED = methods.seed(SIZE, temperature=0.3, teacher_temperature=0.4)


def counts(outputs):
    return np.asarray(outputs.batch["valid"] & outputs.batch["present.text"])


def pushed(rows, new, first):
    """As a list of which the oldest go."""
    rows = rows.copy()
    for i, x in enumerate(new):
        rows[(first + i) % len(rows)] = x / np.linalg.norm(x)
    return rows


@pytest.mark.slow
def test_three_steps_of_two_queues_agree_with_the_reference():
    params, state = compiled(TWO).init(first_outputs())
    first = 0
    for step in range(3):
        outputs = first_outputs(batch=captions(step), step=step)
        here, queue = counts(outputs), state["queue"]
        ours, theirs = (np.asarray(outputs[f"{m}.embedding"], np.float64) for m in ("student", "teacher"))
        value = total({"it": compiled(TWO).apply(params, state, outputs)[0]})[0]
        expected = formulas.compress(ours, theirs, queue["student"]["rows"], queue["teacher"]["rows"], 0.3)
        np.testing.assert_allclose(float(value), 0.5 * expected[here].mean(), rtol=1e-5)
        state = compiled(TWO).apply(params, state, outputs)[1]
        for name, x in (("student", ours), ("teacher", theirs)):
            wanted = pushed(np.asarray(queue[name]["rows"]), x[here], first)
            np.testing.assert_allclose(state["queue"][name]["rows"], wanted, atol=1e-6)
        first = (first + here.sum()) % SIZE
        assert int(state["queue"]["student"]["next"]) == int(state["queue"]["teacher"]["next"]) == first
    assert first < counts(first_outputs()).sum() * 3  # the oldest were replaced


@pytest.mark.parametrize(("method", "formula"), [(ONE, "compress"), (SEED, "seed")])
def test_one_queue_of_the_teacher(method, formula):
    outputs = first_outputs(ALIKE)
    params, state = compiled(method).init(outputs)
    keys = np.asarray(state["queue"]["teacher"]["rows"])
    assert set(state["queue"]) == {"teacher"}
    ours, theirs = (np.asarray(outputs[f"{m}.embedding"], np.float64) for m in ("student", "teacher"))
    with_keys = (keys, keys, 0.3) if formula == "compress" else (keys, 0.3, 0.4)
    expected = getattr(formulas, formula)(ours, theirs, *with_keys)
    values = compiled(method).apply(params, state, outputs)[0].values
    np.testing.assert_allclose(values, expected, rtol=1e-5)


def test_rows_that_do_not_count_do_not_enter():
    outputs = first_outputs()
    params, state = compiled(TWO).init(outputs)
    spoilt = captions()
    gone = ~counts(outputs)
    assert gone.any()
    spoilt["image"][gone] = 7.0
    after, other = (compiled(TWO).apply(params, state, first_outputs(batch=b)) for b in (captions(), spoilt))
    assert equal(after[1], other[1])
    assert float(total({"it": after[0]})[0]) == pytest.approx(float(total({"it": other[0]})[0]), rel=1e-6)
    nobody = captions() | {"valid": np.zeros(ROWS, bool)}
    part, still = compiled(TWO).apply(params, state, first_outputs(batch=nobody))
    assert equal(still, state) and float(total({"it": part})[0]) == 0


def test_a_queue_is_first_in_first_out():
    queue = {"rows": jnp.zeros((3, 1)), "next": jnp.int32(0)}
    push = jax.jit(lambda q, x, w: queues.push(q, x, w, None))
    for x, where, rows in (
        ([1.0, -2.0], [True, True], [1, -1, 0]),
        ([5.0, -5.0], [False, True], [1, -1, -1]),
        ([-1.0, 1.0], [True, True], [-1, 1, -1]),
        ([1.0, 1.0], [False, False], [-1, 1, -1]),
    ):
        queue = push(queue, jnp.array(x)[:, None], jnp.array(where))
        assert queue["rows"][:, 0].tolist() == rows
    assert int(queue["next"]) == 2


@pytest.mark.parametrize("method", [methods.compress, methods.seed])
def test_a_queue_smaller_than_the_batch_is_refused(method):
    with pytest.raises(UserError, match=f"term 'it': {method.__name__}: the queue has 15 rows, but the batch has 16"):
        initialize(distil(ALIKE, combine(it=method(15))), captions())
    with pytest.raises(UserError, match="term 'it': seed: .*connect="):
        initialize(distil(MODELS, combine(it=methods.seed(SIZE))), captions())


def test_the_student_learns_from_it_and_a_moving_average_can_be_its_anchor():
    models = MODELS | {"average": MODELS["student"]}
    parts = {
        "two": methods.compress(SIZE, anchors="average.embedding", temperature=0.3),
        "seed": methods.seed(SIZE, connect=nn.Dense(6)),
    }
    distillation = distil(models, combine(**parts), ema={"average": ("student", 0.5)})
    step, days = stepper(distillation), [captions()] * 10
    state, frozen = initialize(distillation, days[0])
    before = jax.tree.map(np.array, frozen)
    last, _, terms = advance(step, state, frozen, days)
    assert equal(frozen, before)
    kept = {n: np.asarray(last.objective_state["two"]["queue"][n]["rows"]) for n in ("student", "teacher")}
    assert all(gap(kept[n], state.objective_state["two"]["queue"][n]["rows"]) > 0.1 for n in kept)
    assert np.isfinite(terms["two"]).all() and terms["seed"][-1] < terms["seed"][0]
    others = [step(set_hyperparams(state, {f"{n}.weight": 0.0}), frozen, days[0])[0].params for n in parts]
    whole = step(state, frozen, days[0])[0].params
    assert all(gap(p["student"], whole["student"]) > 1e-4 for p in others)
