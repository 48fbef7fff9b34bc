"""What every augmentation owes: rows alone, keyed by seed, example and view; the same bits in any program."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmkd_jax.augment import VERSION
from tests.augment import checksums
from tests.augment.cases import CONTEXT, STEPS, chain, compiled, rows, same, take


@pytest.fixture(scope="module", params=STEPS)
def case(request):
    """name, compiled chain, rows, what becomes of them."""
    run, batch = compiled(chain(request.param)), rows()
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        return request.param, run, batch, run(batch)


@pytest.mark.slow
def test_any_order_and_a_batch_of_one(case, strict):
    _, run, batch, whole = case
    turned = np.random.default_rng(0).permutation(8)
    same(run(take(batch, turned)), take(whole, turned))
    same(run(take(batch, [4])), take(whole, [4]))


def test_other_columns_stay_and_something_changes(case):
    name, _, batch, whole = case
    changed = {k for k in whole if k not in batch or whole[k].tobytes() != batch[k].tobytes()}
    assert changed and changed.isdisjoint({"example_id", "view_index", "present.levels"}), name
    if "partner.image" in changed:
        assert name in ("crop", "flip", "cutout", "color", "randaugment", "cropped, mixed")


@pytest.mark.slow
def test_slot_and_example_change_it(case):
    """And the seed, with which the chain makes the keys of all its steps: one chain stands for all."""
    name, run, batch, whole = case
    others = {
        "view_index": run(batch | {"view_index": batch["view_index"] + 1}),
        "example": run(batch | {"example_id": batch["view_index"]}),
    }
    if name == "cropped, mixed":
        others["seed"] = compiled(chain(name, seed=1))(batch)
    for why, other in others.items():
        moved = [k for k in whole if k not in ("view_index", "example_id") and whole[k].tobytes() != other[k].tobytes()]
        assert moved, why


@pytest.mark.slow
def test_the_same_bits_in_another_size_of_batch_and_a_program_that_uses_them(case):
    """Compilers fuse what they find: a model behind the augmentation must not change what it sees."""
    name, _, batch, whole = case

    def used(batch):
        seen = chain(name)(batch, CONTEXT)
        return seen, [jnp.sin(x) * 3.0 - 0.5 for x in seen.values() if jnp.issubdtype(x.dtype, jnp.floating)]

    some = [6, 0, 3]
    seen = {k: np.asarray(v) for k, v in jax.jit(used)(take(batch, some))[0].items()}
    same(seen, take(whole, some))


def test_outside_training_nothing_happens(case):
    name, _, batch, _ = case
    assert chain(name)(batch, CONTEXT._replace(train=False)) is batch


def test_the_values_are_those_of_this_version(case):
    name, _, batch, whole = case
    recorded = json.loads(checksums.PATH.read_text())
    assert recorded["version"] == VERSION, "python -m tests.augment.checksums records this version"
    assert checksums.checksum(batch, whole) == recorded["checksums"].get(name), (
        f"{name} gives other values than in version {VERSION}: bump VERSION in mmkd_jax/augment/chain.py, so that "
        "caches and runs of before are refused, and then run python -m tests.augment.checksums"
    )
