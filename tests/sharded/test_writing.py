"""Models that write, rules, and interventions from two sources: eight devices give what one gives."""

import pytest

from tests.mechanisms.stages import several, structure
from tests.sharded.agreement import agrees, on_one_device
from tests.small import gap, make_batches

STAGES = {
    "writing": (structure.STAGES["writing"], list(structure.batches(4))),
    "rules": (several.STAGES["rules"], make_batches(4)),
    "sources": (several.STAGES["sources"], list(several.batches(4))),
}


@pytest.fixture(scope="module", params=STAGES.values(), ids=list(STAGES))
def reference(request):
    stage, days = request.param
    return on_one_device(stage.models, stage.parts, days, trained=stage.trained, rate=0.01)


@pytest.mark.parametrize("form", ["jit", "shard_map"])
def test_steps_agree_with_one_device(form, mesh, reference):
    agrees(reference, form, mesh)
    assert gap(reference.initialize.params, reference.end.params) > 1e-4
