"""ReviewKD, SemCKD, SRRL and a SimKD student on eight devices are what they are on one: BatchNorm, and similarities."""

import functools

import jax
import numpy as np
import pytest

from mmkd_jax import losses, methods
from mmkd_jax.core.objective import combine, term
from mmkd_jax.core.sharding import compile_step
from mmkd_jax.core.step import make_step
from mmkd_jax.models import Classifier, simkd
from tests.methods.stages import MODELS, cnn, pictures
from tests.small import CLASSES, advance, distil, gap, initialize

ROWS, STEPS = 32, 4
STUDENT = ("student.hidden.image.0", "student.hidden.image.1")
TEACHER = ("teacher.hidden.image.0", "teacher.hidden.image.1")
EMBEDDED = "teacher.embedding"


@functools.cache
def whole():
    terms = {
        "review": methods.reviewkd(STUDENT, TEACHER, width=4),
        "match": methods.semckd(STUDENT, (EMBEDDED,) + TEACHER[1:], where="present.audio"),
        "head": methods.srrl(),
        "reuse": term(losses.simkd, student="pupil.projected", teacher=EMBEDDED),
    }
    models = MODELS | {"pupil": simkd(cnn(4, width=5), Classifier(CLASSES), width=6)}
    return distil(models, combine(**terms), trained=("student", "pupil"))


def batches():
    return [pictures(i, ROWS) for i in range(STEPS)]


@pytest.fixture(scope="module")
def reference():
    head = jax.jit(MODELS["teacher"].init)(jax.random.key(1), pictures())["params"]["Classifier_0"]
    state, frozen = initialize(whole(), pictures(rows=ROWS), variables={"pupil.head": head})
    return state, frozen, advance(compile_step(make_step(whole()), donate=False), state, frozen, batches())


@pytest.mark.parametrize("form", ["jit", "shard_map"])
def test_steps_agree_with_one_device(form, mesh, reference):
    state, frozen, (last, values, terms) = reference
    step = compile_step(make_step(whole()), form, mesh, donate=False)
    here, spread, each = advance(step, state, frozen, batches())
    np.testing.assert_allclose(spread, values, rtol=2e-5)
    for name in terms:
        np.testing.assert_allclose(each[name], terms[name], rtol=5e-5, err_msg=name)
        assert terms[name].min() > 1e-3
    for part in ("params", "model_state", "objective_state"):
        assert gap(getattr(here, part), getattr(last, part)) < 2e-5, part
    assert gap(last.params, state.params) > 1e-2 and gap(last.objective_state, state.objective_state) > 1e-2
