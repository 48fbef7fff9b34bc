"""Several models as one: each branch gets its own values, patches and statistics; the logits are the mean."""

import jax
import numpy as np
import pytest

from mmkd_jax.core.model import StepContext
from mmkd_jax.errors import UserError
from mmkd_jax.models import branches
from tests.small import applied, equal, make_batch, net, on_device

BATCH = on_device(make_batch())
MODEL = branches({"one": net(4, "audio", batch_norm=True), "two": net(3)})
VARIABLES = MODEL.init(jax.random.key(0), BATCH)
CTX = StepContext(0, jax.random.key(0))


def test_the_logits_are_the_mean_and_branches_differ():
    out, _ = applied(MODEL, VARIABLES, BATCH, CTX._replace(train=False))
    np.testing.assert_allclose(out["logits"], (out["one.logits"] + out["two.logits"]) / 2, rtol=1e-6)
    twins = branches({"one": net(4), "two": net(4)}).init(jax.random.key(0), BATCH)["params"]
    assert not equal(twins["one"], twins["two"])


def test_statistics_move_in_training_only():
    _, moved = applied(MODEL, VARIABLES, BATCH, CTX)
    assert jax.tree.structure(moved["state"]) == jax.tree.structure(VARIABLES["state"])
    assert not equal(moved["state"]["one"], VARIABLES["state"]["one"])
    assert applied(MODEL, VARIABLES, BATCH, CTX._replace(train=False))[1] == {}


def test_every_output_can_be_patched_with_itself_and_another():
    ctx = CTX._replace(train=False)
    out, _ = applied(MODEL, VARIABLES, BATCH, ctx)
    for name, value in out.items():
        assert equal(applied(MODEL, VARIABLES, BATCH, ctx, {name: value})[0], out), name
    changed, _ = applied(MODEL, VARIABLES, BATCH, ctx, {"one.logits": out["one.logits"] + 1})
    np.testing.assert_allclose(changed["logits"], out["logits"] + 0.5, rtol=1e-5)
    for name in ("one.nothing", "three.logits"):
        with pytest.raises(UserError, match="no such"):
            MODEL.apply(VARIABLES, BATCH, ctx, {name: out["logits"]})


def test_nothing_to_branch_is_refused():
    with pytest.raises(UserError, match="no models were given"):
        branches({})


def test_branches_have_the_classes_of_the_models():
    """Their logits and their mean are in the order of the models' classes, not of the data's."""
    named = net(3)._replace(labels=("joy", "fear", "anger"), problem="multi_label_classification")
    model = branches({"one": named, "two": net(4)})
    assert (model.labels, model.problem) == (named.labels, named.problem)
    assert model.class_outputs == ("logits", "one.logits", "two.logits")
    for other in (named._replace(labels=("anger", "joy", "fear")), named._replace(problem="regression")):
        with pytest.raises(UserError, match="branches: .*one, two (have other classes|are of different problems)"):
            branches({"one": named, "two": other})
