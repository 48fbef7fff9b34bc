"""KL through the heads over eight devices, with tokens missing here and there and on whole devices."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmkd_jax import losses
from mmkd_jax.core.model import Taps, plain
from mmkd_jax.core.objective import combine, term
from mmkd_jax.core.sharding import compile_step
from mmkd_jax.core.step import make_step
from tests.small import advance, distil, gap, initialize, make_batches, task

ROWS, STEPS, CLASSES = 32, 4, 40


def line(params, batch, patch):
    tap = Taps(patch)
    x = tap("hidden", jnp.tanh(batch["audio"] @ params["w"]))
    tap("tokens", x @ tap("head.kernel", params["head"]))
    tap("logits", x.mean(1) @ params["head"][:, :3])
    return tap.outputs


def draw(key, batch):
    return {"w": jax.random.normal(key, (3, 4)), "head": jax.random.normal(key, (4, CLASSES))}


def batches():
    made = make_batches(STEPS, ROWS)
    for i, batch in enumerate(made):
        batch["token"] = np.random.default_rng(i).random((ROWS, 4)) < 0.6
        batch["token"][4 * i : 4 * i + 4] = False  # a device without any token
    return made


def run(soft, form: Any = "jit", mesh=None):
    models = {name: plain(line, draw) for name in ("teacher", "student")}
    distillation = distil(models, combine(task=task(), soft=soft))
    state, frozen = initialize(distillation, batches()[0])
    step = compile_step(make_step(distillation), form, mesh, donate=False)
    return advance(step, state, frozen, batches())


@pytest.fixture(scope="module")
def reference():
    """On one device, from the logits as a whole."""
    return run(term(losses.kl, student="student.tokens", teacher="teacher.tokens", temperature=2.0, where="token"))


@pytest.mark.parametrize("form", ["one", "jit", "shard_map", "pmap"])
def test_each_form_trains_as_the_logits_do(form, mesh, reference):
    soft = term(
        losses.chunked_kl,
        student="student.hidden",
        head="student.head.kernel",
        teacher="teacher.hidden",
        teacher_head="teacher.head.kernel",
        temperature=2.0,
        chunk=8 * CLASSES,
        where="token",
    )
    last, values, terms = run(soft, *(() if form == "one" else (form, mesh)))
    np.testing.assert_allclose(values, reference[1], rtol=1e-5)
    np.testing.assert_allclose(terms["soft"], reference[2]["soft"], rtol=1e-5)
    assert gap(last.params, reference[0].params) < 1e-5


def test_on_a_mesh_rows_stay_on_their_devices(mesh):
    """No device sees the features of all, nor logits of another's rows."""
    rows, classes, width = 512, 1000, 16
    spread, replicate = (jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(*a)) for a in (("data",), ()))
    shapes = [
        jax.ShapeDtypeStruct(shape, jnp.float32, sharding=s)
        for shape, s in (((rows, width), spread), ((rows, width), spread), ((width, classes), replicate))
    ]

    def value(student, teacher, head):
        return losses.chunked_kl(student, teacher, head, head, chunk=64 * classes)

    text = jax.jit(jax.value_and_grad(value, (0, 2))).lower(*shapes).compile().as_text()
    assert text is not None
    assert "all-reduce" in text and "all-gather" not in text and f"f32[64,{classes}]" not in text
