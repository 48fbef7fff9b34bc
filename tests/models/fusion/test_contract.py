"""What every fusion owes: absent content changes nothing, any subset is defined, all is tapped, dtypes are kept.

To add a fusion, add a row to ROWS. A fusion of tokens reads `hidden.M.0` and their masks, which are in TOKENS.
"""

import functools
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmkd_jax.core.model import Taps
from mmkd_jax.core.population import members
from mmkd_jax.errors import UserError
from mmkd_jax.models.fusion import (
    GMU,
    Attention,
    Bottleneck,
    Concat,
    CrossModal,
    FiLM,
    Gated,
    Late,
    LowRank,
    Mixer,
    MoE,
    Multiplicative,
    Orthogonal,
    Perceiver,
    Sum,
    TensorFusion,
)

WIDTHS = {"audio": 4, "image": 3, "text": 2}
MODALITIES = ("image", "text", "audio")
TWO = ("image", "text")
TOKENS = {"audio": 3, "image": 4, "text": 2}
"""Number of tokens; those of the image have no mask."""


class Row(NamedTuple):
    """A fusion, and what is its own.

    Attributes:
        fusion: the fusion, of three modalities.
        none: result of a row without any modality: "zeros", or a "constant", the same for all such rows.
        blocks: its result is a block for each modality, in the order of the encoders; else the order changes nothing.
        dtype: dtype of the result of bfloat16 features.
        modalities: those that it fuses.
        one: it fuses one modality, too.
    """

    fusion: nn.Module
    none: str = "zeros"
    blocks: bool = False
    dtype: Any = jnp.bfloat16
    modalities: tuple[str, ...] = MODALITIES
    one: bool = True


ROWS = {
    "concat": Row(Concat(), blocks=True),
    "gated": Row(Gated(4)),
    "sum": Row(Sum(4)),
    "sum, not mean": Row(Sum(4, mean=False)),
    "gmu": Row(GMU(4)),
    "gmu of two": Row(GMU(4), modalities=TWO),
    "tensor fusion": Row(TensorFusion(2), none="constant"),
    "low rank": Row(LowRank(4, rank=3), none="constant"),
    "attention": Row(Attention(4, heads=2), none="constant"),
    "late": Row(Late(3), none="constant", dtype=jnp.float32),
    "late, learned": Row(Late(3, "learned"), none="constant", dtype=jnp.float32),
    "late, product": Row(Late(3, "product"), none="constant", dtype=jnp.float32),
    "film": Row(FiLM("text", "image", 4), modalities=TWO, one=False),
    "moe": Row(MoE(3, 4), none="constant"),
    "moe, one expert": Row(MoE(3, 4, top_k=1), none="constant"),
    "multiplicative": Row(Multiplicative(4), none="constant", modalities=TWO),
    "multiplicative, low rank": Row(Multiplicative(4, rank=3), none="constant"),
    "mixer": Row(Mixer(4), none="constant"),
    "orthogonal": Row(Orthogonal(4)),
    "bottleneck": Row(Bottleneck(2, 2, 4, 2)),
    "cross modal": Row(CrossModal(1, 1, 4, 2), modalities=TWO),
    "perceiver": Row(Perceiver(2, 2, 4, 2), none="constant"),
}
NAMES = list(ROWS)


class Alone(nn.Module):
    """A fusion on features and tokens that are given, without encoders."""

    fusion: nn.Module
    order: tuple[str, ...]

    def __call__(self, seen, present, patch):
        tap = Taps(patch)
        features = {}
        for m in self.order:
            tap(f"hidden.{m}.0", seen[f"tokens.{m}"])
            if f"mask.{m}" in present:
                tap(f"tokens_mask.{m}", present[f"mask.{m}"])
            features[m] = tap(f"features.{m}", seen[f"features.{m}"])
        given = set(tap.outputs)
        fused = self.fusion(features, {m: present[m] for m in self.order}, tap)
        return {n: x for n, x in tap.outputs.items() if n not in given} | {"fused": fused}


def rows(modalities):
    """A row for each subset of the modalities, the empty one first; and masks of the tokens."""
    count = 2 ** len(modalities)
    draw = np.random.default_rng(0)
    seen, present = {}, {m: np.arange(count) // 2**i % 2 == 1 for i, m in enumerate(modalities)}
    for m in modalities:
        seen[f"features.{m}"] = draw.normal(size=(count, WIDTHS[m])).astype(np.float32)
        seen[f"tokens.{m}"] = draw.normal(size=(count, TOKENS[m], WIDTHS[m])).astype(np.float32)
        if m != "image":
            present[f"mask.{m}"] = np.arange(TOKENS[m])[None] < 1 + np.arange(count)[:, None] % TOKENS[m]
    return seen, present


def spoilt(seen, present, value):
    """The same rows with other content where the modality, or a token, is absent."""
    out = {}
    for n, x in seen.items():
        kind, m = n.split(".")
        here = present[m].reshape(-1, *[1] * (x.ndim - 1))
        if kind == "tokens" and f"mask.{m}" in present:
            here = here & present[f"mask.{m}"][..., None]
        out[n] = np.where(here, x, np.float32(value))
    return out


@functools.cache
def module(name, order=None):
    row = ROWS[name]
    return Alone(row.fusion, order or row.modalities)


@functools.cache
def variables(name):
    return jax.device_get(jax.jit(module(name).init)(jax.random.key(0), *rows(ROWS[name].modalities), {}))


def objective(name, params, seen, present, patch=None, order=None):
    """A sum of the result with fixed weights, so that no gradient vanishes by symmetry."""
    outputs: Any = module(name, order).apply(params, seen, present, patch or {})
    fused = outputs["fused"]
    weights = jax.random.normal(jax.random.key(1), fused.shape, jnp.float32).astype(fused.dtype)
    return jnp.sum(fused * weights), outputs


@functools.cache
def program(name):
    """Gradients of parameters and inputs, and all outputs."""
    return jax.jit(jax.grad(functools.partial(objective, name), (0, 1), has_aux=True))


def result(name, value=0.0):
    seen, present = rows(ROWS[name].modalities)
    return jax.device_get(program(name)(variables(name), spoilt(seen, present, value), present))


@pytest.mark.parametrize("name", NAMES)
def test_content_of_an_absent_modality_changes_neither_value_nor_gradient(name):
    reference = result(name)
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(reference))
    for value in (1e3, np.nan):
        jax.tree.map(np.testing.assert_array_equal, result(name, value), reference)
    (_, gradient), _ = reference
    seen, present = rows(ROWS[name].modalities)
    for n, x in spoilt(seen, present, np.nan).items():
        np.testing.assert_array_equal(gradient[n][np.isnan(x)], 0, err_msg=n)


@pytest.mark.parametrize("name", NAMES)
def test_every_parameter_gets_a_gradient(name):
    (gradient, _), _ = result(name)
    silent = [p for p, x in jax.tree.leaves_with_path(gradient) if not np.any(x)]
    assert silent == []


@pytest.mark.parametrize("name", NAMES)
def test_every_modality_that_is_present_reaches_the_result(name):
    (_, gradient), _ = result(name)
    _, present = rows(ROWS[name].modalities)
    for m in ROWS[name].modalities:
        reached = np.any(gradient[f"features.{m}"], -1) | np.any(gradient[f"tokens.{m}"], (1, 2))
        assert reached[-1] and not reached[~present[m]].any()


@pytest.mark.parametrize("name", NAMES)
def test_a_row_without_any_modality_gives_what_the_docstring_says(name):
    _, outputs = result(name)
    if ROWS[name].none == "zeros":
        np.testing.assert_array_equal(outputs["fused"][0], 0)
    params, (seen, present) = variables(name), rows(ROWS[name].modalities)
    nowhere = {k: x if k.startswith("mask") else np.zeros_like(x) for k, x in present.items()}
    _, outputs = jax.device_get(program(name)(params, seen, nowhere))
    np.testing.assert_allclose(outputs["fused"], np.broadcast_to(outputs["fused"][:1], outputs["fused"].shape))


@pytest.mark.parametrize("name", NAMES)
def test_rows_do_not_mix_and_taps_have_one_row_each(name):
    _, outputs = result(name)
    seen, present = rows(ROWS[name].modalities)
    turned = jax.tree.map(lambda x: x[::-1], (spoilt(seen, present, 0.0), present))
    _, others = jax.device_get(program(name)(variables(name), *turned))
    for n, x in outputs.items():
        assert len(x) == 2 ** len(ROWS[name].modalities), n
        np.testing.assert_allclose(others[n][::-1], x, rtol=1e-5, atol=1e-6, err_msg=n)


@pytest.mark.parametrize("name", NAMES)
def test_one_modality_is_enough_or_refused(name):
    row = ROWS[name]
    one = row.modalities[:1]
    alone, given = Alone(row.fusion, one), rows(one)
    if not row.one:
        with pytest.raises(UserError):
            jax.eval_shape(alone.init, jax.random.key(0), *given, {})
        return

    @jax.jit
    def run(seen, present):
        return alone.apply(alone.init(jax.random.key(0), seen, present, {}), seen, present, {})

    outputs: Any = run(*given)
    assert all(np.isfinite(x).all() for x in outputs.values())
    assert np.abs(outputs["fused"][1] - outputs["fused"][0]).max() > 1e-4


@pytest.mark.parametrize("name", NAMES)
def test_the_order_of_the_encoders_changes_no_result(name):
    row, (seen, present) = ROWS[name], rows(ROWS[name].modalities)
    order = row.modalities[::-1]
    _, outputs = result(name)
    run = jax.jit(lambda params, seen, present: objective(name, params, seen, present, order=order)[1])
    others = jax.device_get(run(variables(name), seen, present))
    if row.blocks:
        ends = np.cumsum([WIDTHS[m] for m in order])[:-1]
        others["fused"] = np.concatenate(np.split(others["fused"], ends, -1)[::-1], -1)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(y, x, rtol=1e-5, atol=1e-6), outputs, others)


@pytest.mark.full
@pytest.mark.parametrize("name", NAMES)
def test_every_intermediate_is_patched_with_itself_and_with_something_else(name):
    params, (seen, present) = variables(name), rows(ROWS[name].modalities)

    @jax.jit
    def all_at_once(params, seen, present):
        def run(patch):
            return objective(name, params, seen, present, patch)[1]

        plain = run({})
        same = {n: run({n: plain[n]}) for n in plain if n != "fused"}
        other = {n: run({n: plain[n] + jax.random.uniform(jax.random.key(5), plain[n].shape)})["fused"] for n in same}
        return plain, same, other

    plain, same, other = all_at_once(params, seen, present)
    for n in same:
        jax.tree.map(np.testing.assert_array_equal, same[n], plain)
        assert np.abs(other[n] - plain["fused"]).max() > 1e-6, f"{n} does not reach the result"


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_promoted_silently(name, strict):
    params, (seen, present) = variables(name), rows(ROWS[name].modalities)
    _, outputs = jax.eval_shape(jax.grad(functools.partial(objective, name), has_aux=True), params, seen, present)
    assert outputs["fused"].dtype == jnp.float32


@pytest.mark.parametrize("name", NAMES)
def test_bfloat16_stays_and_one_modality_in_float32_makes_all_so(name):
    params, (seen, present) = variables(name), rows(ROWS[name].modalities)
    halves = {n: x.astype(jnp.bfloat16) for n, x in seen.items()}
    mixed = {n: halves[n] if "image" in n else x for n, x in seen.items()}
    run = functools.partial(objective, name)
    assert jax.eval_shape(run, params, halves, present)[1]["fused"].dtype == ROWS[name].dtype
    assert jax.eval_shape(run, params, mixed, present)[1]["fused"].dtype == jnp.float32


@pytest.mark.full
@pytest.mark.parametrize("name", NAMES)
def test_bfloat16_computes_nearly_the_same(name):
    params, (seen, present) = variables(name), rows(ROWS[name].modalities)
    halves = {n: x.astype(jnp.bfloat16) for n, x in seen.items()}
    found = jax.jit(lambda *given: objective(name, *given)[1]["fused"])(params, halves, present).astype(jnp.float32)
    _, outputs = result(name)
    assert np.abs(found - outputs["fused"]).max() < 0.06 * np.abs(outputs["fused"]).max()


@pytest.mark.full
@pytest.mark.parametrize("name", NAMES)
def test_a_population_of_seeds_equals_single_runs(name):
    seen, present = rows(ROWS[name].modalities)
    seeds = [jax.tree.map(lambda x, i=i: x * (1 + np.float32(i) / 8), (variables(name), seen)) for i in range(3)]
    run = members(lambda present, own: program(name)(*own, present), width=3)
    together = jax.device_get(run(present, jax.tree.map(lambda *x: np.stack(x), *seeds)))
    for i, own in enumerate(seeds):
        alone = jax.device_get(program(name)(*own, present))
        jax.tree.map(lambda x, y, i=i: np.testing.assert_allclose(x[i], y, rtol=1e-4, atol=1e-5), together, alone)
