"""Rows of a batch spread over eight devices are augmented as on one: the same bits."""

import jax
import numpy as np
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from mmkd_jax import augment
from tests.augment.cases import CONTEXT, STEPS, chain, compiled, rows, same
from tests.sharded.agreement import ROWS, agrees, on_one_device
from tests.small import CLASSES, make_batches, net, soft, task

BATCH = rows(16)


@pytest.fixture(scope="module", params=STEPS)
def case(request):
    return chain(request.param), compiled(chain(request.param))(BATCH)


def test_a_mesh(case, mesh):
    augmented, whole = case
    spread = jax.device_put(BATCH, NamedSharding(mesh, P("data")))
    same({k: np.asarray(v) for k, v in jax.jit(lambda b: augmented(b, CONTEXT))(spread).items()}, whole)


def test_per_device(case, mesh):
    augmented, whole = case
    local = jax.shard_map(
        lambda b: augmented(b, CONTEXT), mesh=mesh, in_specs=P("data"), out_specs=P("data"), check_vma=False
    )
    same({k: np.asarray(v) for k, v in jax.jit(local)(BATCH).items()}, whole)


@pytest.fixture(scope="module")
def reference():
    """Four steps that crop and mix, labels too."""
    days = [b | {"view_index": np.full(ROWS, i, np.int32)} for i, b in enumerate(make_batches(4, ROWS))]
    for i, b in enumerate(make_batches(4, ROWS)[::-1]):
        days[i] |= {f"partner.{k}": b[k] for k in ("image", "label", "labelled", "example_id")}
    augmented = augment.Compose((augment.images.RandomCrop(1), augment.mixing.Mixup(classes=CLASSES)), seed=3)
    models, terms = {"teacher": net(6), "student": net(4)}, {"task": task(where="labelled"), "soft": soft()}
    return on_one_device(models, terms, days, augment=augmented), on_one_device(models, terms, days)


@pytest.mark.parametrize("form", ["jit", "shard_map", "pmap"])
def test_steps_agree_with_one_device(form, mesh, reference):
    with_it, without = reference
    agrees(with_it, form, mesh)
    assert np.abs(with_it.values - without.values).max() > 1e-3
