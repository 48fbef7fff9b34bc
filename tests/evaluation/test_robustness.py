"""Robust accuracy of a linear model, whose worst input is known."""

from functools import partial

import jax.numpy as jnp
import numpy as np
import pytest

from mmkd_jax.adversarial import FGSM, PGD, attacks
from mmkd_jax.core.model import StepContext, linen, plain
from mmkd_jax.core.objective import combine
from mmkd_jax.errors import UserError
from mmkd_jax.evaluation.under_attack import robustness
from mmkd_jax.models import Multimodal, TextTransformer
from mmkd_jax.tasks import classification, ordinal, regression
from tests.small import distil, initialize, on_device, task

DRAW = np.random.default_rng(0)
SLOPE = DRAW.normal(size=(5, 2)).astype(np.float32)
X, LABEL = DRAW.normal(size=(40, 5)).astype(np.float32), DRAW.integers(0, 2, 40).astype(np.int32)
LINEAR = plain(lambda params, batch: {"logits": batch["x"] @ params["slope"]})
VARIABLES = {"params": {"slope": SLOPE}}


def batches(x=X, size=16):
    """The last one is padded with rows that do not count."""
    for first in range(0, len(x), size):
        rows = np.arange(first, first + size)
        valid = rows < len(x)
        yield {"x": x[rows * valid], "label": LABEL[rows * valid], "valid": valid}


@pytest.mark.parametrize(("norm", "dual"), [("linf", 1), ("l2", 2)])
def test_a_linear_model_fails_where_its_margin_is_below_the_dual_norm(norm, dual):
    sign = np.where(LABEL == 1, 1, -1)
    direction = SLOPE[:, 1] - SLOPE[:, 0]
    margin = sign * (X @ direction) / np.linalg.norm(direction, dual)
    attack = partial(PGD, step_size=0.1, steps=12, norm=norm, low=None, high=None)
    found = []
    for eps in (0.0, 0.2, 0.7):
        look = robustness(LINEAR, classification(2), "x", attack(eps=eps))
        scores = look(VARIABLES, batches())
        assert scores["accuracy"] == pytest.approx(np.mean(margin > eps))
        by_class = [np.mean(margin[c == LABEL] > eps) for c in (0, 1)]
        np.testing.assert_allclose(scores["recall by class"], by_class, rtol=1e-6)
        found.append(float(scores["accuracy"]))
    assert found[0] > found[1] > found[2]


def test_rows_that_were_wrong_before_are_wrong_and_no_success_of_the_attack():
    """An "attack" that adds 1: of six rows, three stay right, one is fooled, one is corrected, and one stays wrong."""
    sign = plain(lambda params, batch: {"logits": jnp.stack([-batch["x"], batch["x"]], -1)})
    x = jnp.array([0.5, -2.0, 2.0, -0.5, -0.5, 3.0, 9.0])
    label = jnp.array([1, 0, 1, 0, 1, 0, 0])
    batch = {"x": x, "label": label, "valid": jnp.arange(7) < 6}
    add = lambda function, x: x + 1.0  # noqa: E731
    scores = robustness(sign, classification(2), "x", add)({"params": {}}, [batch, batch])
    found = {k: round(float(scores[k]), 4) for k in ("accuracy", "robust accuracy", "attack success")}
    assert found == {"accuracy": round(4 / 6, 4), "robust accuracy": 0.5, "attack success": 0.25}
    wrong = {"x": x[4:6], "label": label[4:6]}
    scores = robustness(sign, classification(2), "x", add)({"params": {}}, [wrong])
    assert scores["robust accuracy"] == 0 and np.isnan(scores["attack success"])
    levels = plain(lambda params, batch: {"logits": jnp.stack([batch["x"], batch["x"] - 1], -1)})  # above 0, above 1
    rows = {"x": jnp.array([-0.5, 1.5, 0.5]), "label": jnp.array([0, 2, 2])}
    scores = robustness(levels, ordinal(3), "x", add)({"params": {}}, [rows])
    assert (scores["accuracy"].round(4), scores["robust accuracy"].round(4)) == (0.6667, 0.3333)
    assert scores["attack success"] == 0.5 and "attack success" not in robustness(
        plain(lambda params, batch: {"prediction": batch["x"]}), regression(), "x", add
    )({"params": {}}, [{"x": x, "label": x + 1}])


def test_bounds_and_pixels():
    pixels = DRAW.integers(0, 256, (40, 5)).astype(np.uint8)
    pixels[:20] = 255
    free = partial(attacks.fgsm, eps=1.0)
    seen = []

    def spied(function, x, bounds):
        seen.append(x.dtype)
        return free(function, x, **bounds)

    scores = [
        robustness(LINEAR, classification(2), "x", partial(spied, bounds=bounds))(VARIABLES, batches(pixels))
        for bounds in ({}, {"low": 0.0, "high": 1.0})
    ]
    assert set(seen) == {np.dtype(np.float32)}
    assert scores[0]["accuracy"] <= scores[1]["accuracy"]
    white = np.full_like(pixels, 255)
    still = robustness(LINEAR, classification(2), "x", partial(spied, bounds={"low": 1.0, "high": 1.0}))
    clean = np.argmax(np.ones((40, 5)) @ SLOPE, -1) == LABEL
    assert still(VARIABLES, batches(white))["accuracy"] == pytest.approx(clean.mean())  # one point is left


@pytest.mark.slow
def test_embedded_tokens():
    rng = np.random.default_rng(1)
    batch = {
        "text.ids": rng.integers(0, 9, (16, 5)).astype(np.int32),
        "text.mask": np.ones((16, 5), bool),
        "label": rng.integers(0, 3, 16).astype(np.int32),
        "example_id": np.arange(16, dtype=np.int32),
    }
    reader = linen(Multimodal({"text": TextTransformer(9, embed_dim=8, num_heads=2, num_layers=1)}, classes=3, width=4))
    state, _ = initialize(distil({"student": reader}, task()), batch)
    variables = {"params": state.params["student"]}

    def look(at, eps):
        attack = PGD(eps=eps, step_size=0.5, steps=5)
        return float(robustness(reader, classification(3), at, attack)(variables, [batch])["accuracy"])

    right = (
        np.argmax(reader.apply(variables, on_device(batch), StepContext(0, None, train=False), {})[0]["logits"], -1)
        == batch["label"]
    )
    assert look("hidden.text.0", 0.0) == pytest.approx(right.mean())
    assert look("hidden.text.0", 2.0) < right.mean()
    with pytest.raises(UserError, match="int32 is not continuous"):
        look("text.ids", 1.0)
    with pytest.raises(UserError, match="not found in the batch or in the outputs of 'the model'"):
        look("audio", 1.0)


def test_a_task_whose_objective_is_combined_is_attacked_as_its_sum():
    plain_task = classification(2)
    both = plain_task._replace(
        objective=lambda model: combine(one=plain_task.objective(model), two=plain_task.objective(model))
    )
    attack = FGSM(eps=0.3, low=None, high=None)
    alone, twice = (robustness(LINEAR, t, "x", attack)(VARIABLES, batches()) for t in (plain_task, both))
    assert alone["accuracy"] == twice["accuracy"] < 0.9
