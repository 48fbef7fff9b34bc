"""Attacks with a start of each row's own, and a discriminator: eight devices give what one gives."""

import dataclasses

import pytest

from mmkd_jax import methods
from mmkd_jax.adversarial import PGD
from tests.sharded.agreement import agrees, on_one_device
from tests.small import gap, net

ATTACK = PGD(eps=0.1, step_size=0.05, steps=2, low=None, high=None)
TERMS = {
    "iad": methods.iad("image", attack=ATTACK, alpha=0.5, where="labelled"),
    "adaad": methods.adaad("image", attack=dataclasses.replace(ATTACK, norm="l2"), alpha=0.5),
    "fool": methods.discriminator(student="student.logits", teacher="teacher.logits", hidden=4),
}


@pytest.fixture(scope="module")
def reference():
    return on_one_device({"teacher": net(6), "student": net(8, batch_norm=True)}, TERMS, 3)


@pytest.mark.parametrize("form", ["jit", "shard_map"])
def test_steps_agree_with_one_device(form, mesh, reference):
    agrees(reference, form, mesh, rtol=1e-4, atol=1e-5, apart=1e-4)
    before, after = (s.params["objective"]["fool"] for s in (reference.initialize, reference.end))
    assert gap(before, after) > 1e-4
