"""Programs as ONNX: what onnxruntime computes for any number of rows is what JAX does."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import onnx
import onnxruntime
import pytest
from jax import lax

from mmkd_jax.core.model import linen, predict
from mmkd_jax.deploy.onnx_file import converted
from mmkd_jax.deploy.program import flat
from mmkd_jax.errors import UserError
from tests.deploy.test_every_model import FUNCTIONS, NAMES, eight_rows, whole

QUICK = ("audio tdnn", "text lstm", "bert")


def compare(function, variables, rows, sizes=(1, 3, 8), apart=1e-5):
    """The names of the graph's inputs, after a comparison for several numbers of rows, with the largest of all rows."""
    spec = {k: jax.ShapeDtypeStruct(x.shape[1:], x.dtype) for k, x in rows.items()}
    model = converted(function, variables, spec)
    onnx.checker.check_model(model)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    names, results = [x.name for x in session.get_inputs()], [x.name for x in session.get_outputs()]
    compiled = jax.jit(function)
    largest = {n: float(np.nanmax(np.abs(x.astype(jnp.float32)))) for n, x in compiled(variables, rows).items()}
    for size in sizes:
        batch = {k: x[:size] for k, x in rows.items()}
        found: dict[str, Any] = dict(zip(results, session.run(results, {k: batch[k] for k in names}), strict=True))
        for name, x in compiled(variables, batch).items():
            assert found[name].shape == x.shape
            x = np.asarray(x.astype(jnp.float32) if x.dtype == jnp.bfloat16 else x)
            assert found[name].dtype == x.dtype
            scale = max(largest[name], 1e-6)
            np.testing.assert_allclose(found[name] / scale, x / scale, 0, apart, err_msg=name)
    return names


def compare_model(name):
    model, rows = FUNCTIONS.get(name) or linen(whole(name)), eight_rows(name)
    variables = jax.device_get(jax.jit(model.init)(jax.random.key(0), rows))
    shapes = jax.eval_shape(lambda v, batch: predict(model, v, batch), variables, rows)
    kept = [n for n, x in shapes.items() if x.shape[:1] == (8,) and not n.startswith(("hidden.", "attention."))]

    def run(values, batch):
        found = predict(model, jax.tree.unflatten(jax.tree.structure(variables), list(values.values())), batch)
        return {n: found[n] for n in kept}

    compare(run, flat(variables), rows)


@pytest.mark.parametrize("name", QUICK)
def test_a_model_in_onnx_computes_what_it_does_in_jax(name):
    compare_model(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", [n for n in NAMES if n not in QUICK])
def test_every_model_in_onnx_computes_what_it_does_in_jax(name):
    compare_model(name)


def test_operators_compute_what_those_of_jax_do():
    draw = np.random.default_rng(0)
    rows = {"x": draw.normal(size=(8, 6, 4)).astype(np.float32), "i": draw.integers(-3, 9, (8, 5)).astype(np.int32)}
    rows |= {"flag": draw.random((8, 5)) < 0.5, "pixel": draw.integers(0, 256, (8, 5)).astype(np.uint8)}
    variables = {"table": draw.normal(size=(7, 4)).astype(np.float32)}

    def run(v, batch):
        x, i, flag = batch["x"], batch["i"], batch["flag"]
        count = x.shape[0]
        pooled = lax.reduce_window(x, -jnp.inf, lax.max, (1, 3, 1), (1, 2, 1), ((0, 0), (1, 1), (0, 0)))
        summed = lax.reduce_window(x, 0.0, lax.add, (1, 2, 2), (1, 1, 1), "VALID")
        last = jnp.take_along_axis(x, jnp.clip(i[:, :1, None], 0, 5), 1)
        whole = jnp.arange(count * 5, dtype=jnp.int32).reshape(count, 5)
        return {
            "pooled": pooled,
            "summed": summed,
            "last": last,
            "filled": v["table"].at[i].get(mode="fill", fill_value=-1.0),
            "clipped": v["table"].at[i].get(mode="clip"),
            "cumulative": jnp.cumsum(x, 1) + lax.cumsum(x, 1, reverse=True),
            "reversed": x[:, ::-1, ::2],
            "tiled": jnp.tile(x, (1, 2, 3)),
            "padded": jnp.pad(i, ((0, 0), (2, 1)), constant_values=7),
            "flags": jnp.where(flag, ~flag, flag & (i > 2)) | jnp.isfinite(x[:, :5, 0]),
            "any": jnp.any(flag, 1),
            "largest": jnp.argmax(x, -1),
            "clamped": lax.clamp(-0.5, x, 0.5) + lax.select_n(i % 3 == 0, x[:, :5, 0], -x[:, :5, 0])[..., :1, None],
            "wrapped": (i * 100).astype(jnp.uint8),
            "pixels": batch["pixel"].astype(jnp.float32) / 255 - 0.5,
            "rows": whole + count,
            "powers": jnp.abs(x) ** 1.5 + x**3 + jnp.exp2(x) + jnp.expm1(x) + jnp.log1p(jnp.abs(x)) + jnp.round(x),
            "product": jnp.einsum("bij,bkj->bik", x, x) @ x,
            "integers": jnp.einsum("bi,bj->bij", i, i) // 2,
            "halves": jnp.concatenate(jnp.split(x, 2, 1), 2).astype(jnp.bfloat16),
        }

    exact = compare(run, variables, rows, apart=4e-3)  # bfloat16 is computed in float32
    assert exact == ["flag", "i", "pixel", "x"]


def test_an_operator_that_onnx_lacks_is_named():
    row = {"x": jax.ShapeDtypeStruct((2,), "float32")}
    with pytest.raises(UserError, match="operator 'lgamma' cannot be exported to ONNX: use --to stablehlo"):
        converted(lambda v, batch: {"y": lax.lgamma(batch["x"])}, {}, row)
    with pytest.raises(UserError, match="scan over 5000 steps cannot be exported to ONNX, which takes 1,024"):
        converted(lambda v, batch: {"y": lax.scan(lambda c, _: (c * 2, None), batch["x"], None, 5000)[0]}, {}, row)
