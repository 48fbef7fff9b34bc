"""Terms, their masks, numbers and refusals; and the one reduction, by hand."""

import dataclasses
import inspect
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jaxtyping import Array, Float

from mmkd_jax import losses
from mmkd_jax.core.hyperparams import hyperparams_of, with_hyperparams
from mmkd_jax.core.model import StepContext
from mmkd_jax.core.objective import Objective, Term, combine, stateless, term, total
from mmkd_jax.core.outputs import Outputs
from mmkd_jax.errors import UserError
from mmkd_jax.nn.connectors import Linear
from mmkd_jax.typing import Scalar
from tests.small import gap

pytestmark = pytest.mark.usefixtures("strict")
DRAW = np.random.default_rng(0)


def outputs(step=0, **batch):
    """Four rows of outputs of a student and a teacher."""

    def draw(*shape):
        return jnp.asarray(DRAW.normal(size=shape), jnp.float32)

    outputs = {
        "student": {
            "logits": draw(4, 3),
            "embedding": draw(4, 5),
            "map.0": draw(4, 2, 2, 3),
            "map.1": draw(4, 2, 2, 2),
        },
        "teacher": {
            "logits": draw(4, 3),
            "embedding": draw(4, 6),
            "map.0": draw(4, 2, 2, 3),
            "map.1": draw(4, 2, 2, 2),
        },
    }
    rows = {"label": jnp.array([0, 1, 2, 0]), "example_id": jnp.arange(4)}
    return Outputs(rows | batch, outputs, {}, StepContext(jnp.int32(step), jax.random.key(0)))


SOFT = dict(student="student.logits", teacher="teacher.logits")


def values(objective, at=None, state=None):
    at = outputs() if at is None else at
    params, first = objective.init(at)
    return objective.apply(params, first if state is None else state, at)[0]


def test_a_wrong_path_lists_those_that_exist():
    with pytest.raises(
        UserError, match=r"path 'student.logit': 'student' has no 'logit'; it has: embedding, logits, map"
    ):
        values(term(losses.kl, student="student.logit", teacher="teacher.logits"))
    with pytest.raises(UserError, match="path 'pupil.logits': no outputs 'pupil'; there are: batch, student, teacher"):
        values(term(losses.kl, student="pupil.logits", teacher="teacher.logits"))
    with pytest.raises(UserError, match="path 'batch.labels': 'batch' has no 'labels'; it has: example_id, label"):
        values(term(losses.cross_entropy, logits="student.logits", labels="batch.labels"))
    with pytest.raises(UserError, match="'batch' has no 'labelled'"):
        values(term(losses.kl, **SOFT, where="labelled"))


def test_an_argument_is_named_before_anything_runs():
    with pytest.raises(UserError, match="kl has no argument 'temprature'; it has: student, teacher, temperature"):
        term(losses.kl, **SOFT, temprature=2.0)
    with pytest.raises(UserError, match="kl needs the argument 'teacher'"):
        term(losses.kl, student="student.logits")
    with pytest.raises(UserError, match="kl has no argument 'pupil'"):
        term(losses.kl, **SOFT, connect={"pupil": Linear(3)})
    with pytest.raises(UserError, match="connect names temperature, which has no path"):
        term(losses.kl, **SOFT, temperature=1.0, connect={"temperature": Linear(3)})


def test_nested_names_are_in_errors_and_metrics():
    def nest(path):
        return combine(logits=combine(soft=term(losses.kl, student=path, teacher="teacher.logits"), small=SMALL))

    _, metrics = total(values(nest("student.logits")))
    assert set(metrics) == {"logits.soft", "logits.small"}
    with pytest.raises(UserError, match="^term 'logits': term 'soft': path 'student.x'"):
        values(nest("student.x"))


SMALL = stateless(lambda v: jnp.mean(v["student.embedding"] ** 2, -1))


def test_where_and_valid_mask_rows():
    here, valid = jnp.array([True, False, True, True]), jnp.array([True, True, False, True])
    at = outputs(labelled=here, valid=valid, heard=jnp.array([False, True, True, True]))
    rows = np.asarray(losses.kl(at["student.logits"], at["teacher.logits"]))

    def mean(objective):
        return float(total(values(objective, at))[0])

    np.testing.assert_allclose(mean(term(losses.kl, **SOFT)), rows[[0, 1, 3]].mean(), rtol=1e-6)
    np.testing.assert_allclose(mean(term(losses.kl, **SOFT, where="labelled")), rows[[0, 3]].mean(), rtol=1e-6)
    np.testing.assert_allclose(mean(term(losses.kl, **SOFT, where=("labelled", "heard"))), rows[3], rtol=1e-6)
    np.testing.assert_allclose(  # a function of views is masked by `valid`, too
        mean(SMALL), (np.asarray(at["student.embedding"])[[0, 1, 3]] ** 2).mean(), rtol=1e-6
    )
    with pytest.raises(UserError, match=r"where='label' names int32\[4\]; expected a bool mask"):
        values(term(losses.kl, **SOFT, where="label"), at)


def test_a_loss_that_couples_rows_gets_the_mask():
    given = []

    def count(student: Float[Array, "b d"], *, where: Any = None, axis_name=None) -> Float[Array, ""]:
        given.append((where, axis_name))
        return jnp.sum(jnp.where(where, student[:, 0], 0))

    at = outputs(labelled=jnp.array([True, False, True, True]), valid=jnp.array([True, True, False, True]))
    value, metrics = total(values(term(count, student="student.logits", where="labelled"), at))
    assert given[0][0].tolist() == [True, False, False, True] and given[0][1] is None
    np.testing.assert_allclose(value, at["student.logits"][jnp.array([0, 3]), 0].sum(), rtol=1e-6)
    assert float(metrics[""][1]) == 1  # a scalar counts once


def test_a_mask_of_tokens_is_joined_with_one_of_rows():
    ids = jnp.array([[True, True, False], [True, False, False], [True, True, True], [False] * 3])
    at = outputs(valid=jnp.array([True, True, False, True])).add(reader={"logits": jnp.ones((4, 3, 7))})
    at = dataclasses.replace(at, batch={**at.batch, "text.mask": ids, "tags": jnp.zeros((4, 3), jnp.int32)})
    part = term(losses.cross_entropy, logits="reader.logits", labels="batch.tags", where="text.mask")
    value, metrics = total(values(part, at))
    assert float(metrics[""][1]) == 3
    np.testing.assert_allclose(value, np.log(7), rtol=1e-6)


def test_total_by_hand():
    t, f = True, False
    terms = {
        "rows": Term(jnp.array([1.0, 3.0, 9.0]), jnp.array([t, t, f]), 0.5),  # 0.5 · (1 + 3) / 2
        "tokens": Term(jnp.array([[1.0, 2.0], [4.0, jnp.inf]]), jnp.array([[t, t], [t, f]])),  # 7 / 3
        "broadcast": Term(jnp.array([[1.0, 2.0], [jnp.nan, 5.0]]), jnp.array([t, f])),  # 3 / 2
        "scalar": Term(jnp.float32(4.0), jnp.array([t, f]), 2.0),  # 8
        "nobody": Term(jnp.array([1.0, jnp.nan]), jnp.array([f, f])),  # 0
        "nothing": Term(jnp.float32(4.0), jnp.array([f, f])),  # 0
        "inner": {"all": Term(jnp.array([2.0, 4.0]))},  # 3
    }
    value, metrics = total(terms)
    np.testing.assert_allclose(value, 1 + 7 / 3 + 3 / 2 + 8 + 3, rtol=1e-6)
    expected = dict(rows=(4, 2), tokens=(7, 3), broadcast=(3, 2), scalar=(4, 1), nobody=(0, 0), nothing=(0, 0))
    assert {k: (float(s), float(c)) for k, (s, c) in metrics.items()} == expected | {"inner.all": (6, 2)}
    gradient = jax.grad(lambda x: total({"a": Term(x, jnp.array([t, f, t]), 3.0)})[0])(jnp.array([2.0, jnp.nan, 1.0]))
    assert gradient.tolist() == [1.5, 0.0, 1.5]
    with pytest.raises(UserError, match=r"term 'a': mask of shape \(3,\) does not fit values of shape \(2,\)"):
        total({"a": Term(jnp.ones(2), jnp.ones(3, bool))})


def test_numbers_live_in_memory():
    part = combine(
        soft=term(losses.kl, **SOFT, temperature=4),  # an int is a number as well
        match=combine(near=term(losses.info_nce, student="student.embedding", teacher="student.embedding")),
    )
    _, state = part.init(outputs())
    near = {"match.near.temperature": pytest.approx(0.07)}  # a default
    assert hyperparams_of(state) == near | {"soft.temperature": 4.0, "soft.weight": 1.0, "match.near.weight": 1.0}
    assert all(np.asarray(x).dtype == np.float32 for x in hyperparams_of(state).values())
    changed = with_hyperparams(state, {"soft.temperature": 2, "match.near.weight": 0.5})
    assert hyperparams_of(changed) == near | {"soft.temperature": 2.0, "soft.weight": 1.0, "match.near.weight": 0.5}
    assert hyperparams_of(state)["soft.temperature"] == 4.0 and jax.tree.structure(changed) == jax.tree.structure(state)

    at, traces = outputs(), []

    @jax.jit
    def run(state):
        traces.append(1)
        return part.apply(part.init(at)[0], state, at)[0]

    np.testing.assert_allclose(
        run(changed)["soft"].values, losses.kl(at["student.logits"], at["teacher.logits"], temperature=2.0), rtol=1e-5
    )
    run(with_hyperparams(state, {}))
    assert len(traces) == 1  # setting a number compiles nothing
    known = "match.near.temperature, match.near.weight, soft.temperature, soft.weight"
    with pytest.raises(UserError, match=f"no hyperparameter soft.heat .*; it has: {known}"):
        with_hyperparams(state, {"soft.heat": 1.0})


def test_schedules_follow_the_step():
    ramp, falling = optax.linear_schedule(0.0, 1.0, 10), optax.linear_schedule(4.0, 2.0, 10)
    part = term(losses.kl, **SOFT, temperature=falling, weight=ramp)
    for step, weight, temperature in [(0, 0.0, 4.0), (5, 0.5, 3.0), (20, 1.0, 2.0)]:
        at = outputs(step)
        got = values(part, at)
        np.testing.assert_allclose(got.weight, weight, rtol=1e-6)
        expected = losses.kl(at["student.logits"], at["teacher.logits"], temperature=temperature)
        np.testing.assert_allclose(got.values, expected, rtol=1e-5)
    assert hyperparams_of(part.init(outputs())[1]) == {}  # a schedule is no hyperparameter: it is changed in the file


def test_a_string_that_the_loss_asks_for_is_no_path():
    at = outputs()
    maps = dict(student="student.map.0", teacher="teacher.map.0")
    got = {f: values(term(losses.attention_transfer, **maps, form=f), at).values for f in ("code", "paper")}
    direct = losses.attention_transfer(at["student.map.0"], at["teacher.map.0"], form="paper")
    np.testing.assert_allclose(got["paper"], direct, rtol=1e-6)
    assert not np.allclose(got["paper"], got["code"])


def test_a_function_that_is_no_number_is_never_called():
    def shaped(student: Float[Array, "b c"], *, shape, kind: Literal["a", "b"] = "a", scale: Scalar = 1.0):
        return jnp.sum(shape(student), -1) * scale

    got = values(term(shaped, student="student.logits", shape=jnp.abs, scale=np.float64(2)))
    assert got.values.shape == (4,) and float(got.values.min()) > 0


def test_a_tuple_of_paths_is_a_tuple_of_arrays():
    def several(student: tuple, teacher: tuple) -> Float[Array, " b"]:
        assert isinstance(student, tuple) and len(teacher) == 2
        return sum((jnp.mean((s - t) ** 2, (1, 2, 3)) for s, t in zip(student, teacher, strict=True)), jnp.zeros(4))

    part = term(several, student=("student.map.0", "student.map.1"), teacher=("teacher.map.0", "teacher.map.1"))
    at = outputs()
    expected = sum(losses.hint(at[f"student.map.{i}"], at[f"teacher.map.{i}"]) for i in range(2))
    np.testing.assert_allclose(values(part, at).values, expected, rtol=1e-6)
    gradient = jax.grad(lambda x: total(values(part, at.add(teacher={"map.0": x, "map.1": x[..., :2]})))[0])
    assert gap(gradient(at["teacher.map.0"]), jnp.zeros((4, 2, 2, 3))) == 0  # each of them is stopped


def test_a_connector_is_trained_beside_the_student():
    hint = dict(student="student.embedding", teacher="teacher.embedding")
    part, at = term(losses.hint, **hint, connect={"student": Linear(6, batch_norm=True)}), outputs()
    params, state = part.init(at)
    assert jax.tree.map(jnp.shape, params) == {
        "student": {"Dense_0": {"kernel": (5, 6)}, "BatchNorm_0": {"scale": (6,), "bias": (6,)}}
    }
    (made, after) = part.apply(params, state, at)
    x = np.asarray(at["student.embedding"] @ params["student"]["Dense_0"]["kernel"])
    x = (x - x.mean(0)) / np.sqrt(x.var(0) + 1e-5)
    np.testing.assert_allclose(made.values, ((x - at["teacher.embedding"]) ** 2).mean(-1), rtol=1e-4)
    assert gap(after["state"], state["state"]) > 1e-3  # its statistics are memory …
    calm = dataclasses.replace(at, ctx=at.ctx._replace(train=False))
    assert gap(part.apply(params, state, calm)[1]["state"], state["state"]) == 0  # … that only training moves
    with pytest.raises(Exception, match="5|6"):  # without it, the widths do not fit
        values(term(losses.hint, **hint), at)


def test_no_gradient_reaches_the_teacher():
    at = outputs()

    def loss(x, name):
        return total(values(term(losses.kl, **SOFT), at.add(**{name: {"logits": x}})))[0]

    gradient = partial(jax.grad(loss), 2 * at["student.embedding"][:, :3])
    assert gap(gradient("teacher"), jnp.zeros((4, 3))) == 0 and gap(gradient("student"), jnp.zeros((4, 3))) > 1e-3


def test_terms_know_their_own_name():
    seen = []

    def keep(objective_views):
        seen.append((objective_views.scope, objective_views.ctx.key))
        return jnp.zeros(4)

    values(combine(one=stateless(keep), two=combine(three=stateless(keep))))
    assert [s for s, _ in seen] == ["one", "two.three"]
    one, two = (jax.random.key_data(k) for _, k in seen)
    assert not np.array_equal(one, two)


def test_any_pair_of_functions_is_an_objective():
    def apply(params, state, at):
        off = at["student.logits"] - state["mean"][None]
        return Term(jnp.mean(off**2, -1) * params["scale"]), {
            "mean": 0.5 * (state["mean"] + at["teacher.logits"].mean(0))
        }

    running = Objective(lambda at: ({"scale": jnp.float32(2)}, {"mean": jnp.zeros(3)}), apply)
    at, part = outputs(), combine(running=running, small=SMALL)
    params, state = part.init(at)
    terms, after = part.apply(params, state, at)
    np.testing.assert_allclose(terms["running"].values, 2 * (at["student.logits"] ** 2).mean(-1), rtol=1e-6)
    np.testing.assert_allclose(after["running"]["mean"], at["teacher.logits"].mean(0) / 2, rtol=1e-6)


def test_what_is_no_objective_and_what_adapts_nothing_are_refused():
    with pytest.raises(UserError, match="term 'soft' is kl, not an objective: wrap a loss as term"):
        inspect.unwrap(combine)(soft=losses.kl)  # in tests the checker of types would speak first
    with pytest.raises(UserError, match="connect\\['student'\\] is 16; expected a Linen module or a function"):
        term(losses.hint, student="student.embedding", teacher="teacher.embedding", connect={"student": 16})


def test_a_scalar_to_which_no_mask_applies_is_refused():
    """It would be the mean over all rows, the invalid ones included."""
    outputs = Outputs(
        {"valid": jnp.array([True, False]), "example_id": jnp.arange(2)},
        {"student": {"logits": jnp.ones((2, 3))}},
        {},
        StepContext(jnp.int32(0), jax.random.key(0)),
    )
    reduced = term(lambda student: jnp.mean(student), student="student.logits")
    with pytest.raises(
        UserError, match="returns a scalar, to which no mask applies: return one value per row, or take where"
    ):
        reduced.apply(*reduced.init(outputs), outputs)
    masked = term(lambda student, where: jnp.sum(jnp.where(where[:, None], student, 0)), student="student.logits")
    assert masked.apply(*masked.init(outputs), outputs)[0].values == 3
