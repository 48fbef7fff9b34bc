"""Contrastive losses in a ring of devices: the value and all gradients of the gathered form, and less memory."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from mmkd_jax import losses
from mmkd_jax.core.model import Taps, plain
from mmkd_jax.core.objective import Term, combine, term, total
from mmkd_jax.core.sharding import AXIS, compile_step
from mmkd_jax.core.step import make_step
from tests.losses.harness import close, largest
from tests.small import advance, distil, gap, initialize, make_batches, task

ROWS, WIDTH = 32, 5
LOSSES = {
    "one direction": losses.info_nce,
    "both directions": partial(losses.info_nce, symmetric=True),
    "sigmoid": losses.siglip,
}


def inputs(dtype):
    draw = np.random.default_rng(0)
    moving = {n: draw.normal(size=(ROWS, WIDTH)) for n in ("student", "teacher")}
    return jax.tree.map(lambda x: jnp.asarray(x, dtype), moving | {"temperature": 0.3})


def numbers(name):
    return ("temperature", "bias") if name == "sigmoid" else ("temperature",)


def share(loss, moving, where, *, axis_name, **options):
    return total({"loss": Term(loss(**moving, where=where, axis_name=axis_name, **options), where)}, axis_name)[0]


def value_and_gradient(loss, mesh, **options):
    specs = {"student": P(AXIS), "teacher": P(AXIS), "temperature": P()}
    if loss is losses.siglip:
        specs |= {"bias": P()}

    def each(moving, where):
        part, slopes = jax.value_and_grad(partial(share, loss, axis_name=AXIS, **options))(moving, where)
        slopes = {k: g if specs[k] == P(AXIS) else jax.lax.psum(g, AXIS) for k, g in slopes.items()}
        return jax.lax.psum(part, AXIS), slopes

    return jax.jit(jax.shard_map(each, mesh=mesh, in_specs=(specs, P(AXIS)), out_specs=(P(), specs), check_vma=False))


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", LOSSES)
def test_the_ring_gives_what_gathering_gives(name, dtype, mesh):
    loss = LOSSES[name]
    with jax.enable_x64(dtype == "float64"):
        moving = inputs(dtype) | ({"bias": jnp.asarray(-1.0, dtype)} if name == "sigmoid" else {})
        masks = [np.ones(ROWS, bool), np.random.default_rng(1).random(ROWS) < 0.4, np.zeros(ROWS, bool)]
        masks[1][:8] = False  # two devices without any row
        for mask in masks:
            value, slopes = value_and_gradient(loss, mesh)(moving, mask)
            ours, here = value_and_gradient(loss, mesh, ring=True)(moving, mask)
            assert float(ours) == pytest.approx(float(value), rel=1e-6)
            size = largest(slopes)
            assert (size > 0) == mask.any()
            close(here, slopes, *((1e-9, 1e-12 * size) if dtype == "float64" else (1e-5, 1e-6 * size)))


def towers(params, batch, patch):
    tap = Taps(patch)
    x = tap("embedding", jnp.tanh(batch["image"].reshape(len(batch["image"]), -1) @ params["w"]))
    tap("temperature", jnp.exp(params["log_temperature"]))
    tap("bias", params["bias"])
    tap("logits", x[:, :3])
    return tap.outputs


def draw(key, batch):
    return {"w": jax.random.normal(key, (6, 4)), "log_temperature": jnp.float32(-1), "bias": jnp.float32(-2)}


@pytest.fixture(scope="module")
def trained():
    def run(ring, form: Any = "jit", mesh=None):
        paths = {"student": "student.embedding", "teacher": "teacher.embedding", "temperature": "student.temperature"}
        both = {
            "nce": term(losses.info_nce, **paths, symmetric=True, ring=ring, where="labelled"),
            "sigmoid": term(losses.siglip, **paths, bias="student.bias", ring=ring, weight=0.1),
        }
        distillation = distil({n: plain(towers, draw) for n in ("teacher", "student")}, combine(task=task(), **both))
        batches = make_batches(4, ROWS)
        state, frozen = initialize(distillation, batches[0])
        step = compile_step(make_step(distillation), form, mesh, donate=False)
        return state, advance(step, state, frozen, batches)

    return run


@pytest.mark.parametrize("form", ["jit", "shard_map", "pmap"])
def test_it_trains_a_student_its_temperature_and_its_bias(form, mesh, trained):
    start, (last, values, _) = trained(False)
    _, (here, ours, _) = trained(True, form, mesh)
    np.testing.assert_allclose(ours, values, rtol=1e-5)
    assert gap(here.params, last.params) < 1e-5
    for name in ("log_temperature", "bias"):
        assert start.params["student"][name] != here.params["student"][name]


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("form", ["jit", "shard_map"])
def test_no_device_holds_the_similarities_of_all(form, name, mesh):
    """Nor, per device, the teacher's rows of all."""
    rows, width, spread = 2048, 16, NamedSharding(mesh, P(AXIS))
    moving = {n: jax.ShapeDtypeStruct((rows, width), jnp.float32, sharding=spread) for n in ("student", "teacher")}
    moving |= {n: jax.ShapeDtypeStruct((), jnp.float32) for n in numbers(name)}
    mask = jax.ShapeDtypeStruct((rows,), jnp.bool_, sharding=spread)
    used = []
    for ring in (False, True):
        if form == "jit":
            call = jax.jit(jax.value_and_grad(partial(share, LOSSES[name], axis_name=None, ring=ring)))
        else:
            call = value_and_gradient(LOSSES[name], mesh, ring=ring)
        program = call.lower(moving, mask).compile()
        stats, text = program.memory_analysis(), program.as_text()
        assert stats is not None and text is not None
        used.append(stats.temp_size_in_bytes)
        if form == "shard_map":
            assert ("all-gather" in text) is not ring
            assert ("collective-permute" in text) is ring
    assert used[1] < used[0] / 4
