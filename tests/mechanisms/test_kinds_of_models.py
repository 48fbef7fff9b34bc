"""An NNX module and a plain function stand where a Linen module stands."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from mmkd_jax import losses, methods
from mmkd_jax.core.model import StepContext, Taps, plain
from mmkd_jax.core.model import nnx as from_nnx
from mmkd_jax.core.objective import combine, term
from mmkd_jax.core.state import variables
from mmkd_jax.errors import UserError
from mmkd_jax.nn.connectors import Linear
from tests.small import (
    advance,
    applied,
    distil,
    equal,
    gap,
    initialize,
    make_batch,
    make_batches,
    net,
    on_device,
    soft,
    stepper,
    task,
)


class Sight(nnx.Module):
    """Two layers with BatchNorm and dropout."""

    def __init__(self, rngs: nnx.Rngs):
        self.first, self.second = nnx.Linear(6, 8, rngs=rngs), nnx.Linear(8, 3, rngs=rngs)
        self.norm, self.dropout = nnx.BatchNorm(8, rngs=rngs), nnx.Dropout(0.5, rngs=rngs)

    def __call__(self, batch, ctx, patch):
        tap = Taps(patch)
        x = tap("features.image", nnx.relu(self.norm(self.first(batch["image"].reshape(-1, 6)))))
        x = tap("embedding", self.dropout(x))
        tap("logits", self.second(x))
        return tap.outputs


SIGHT = from_nnx(Sight)


def apply(model, held, batch, step=0, train=True, patch=None):
    return applied(
        model, held, batch, StepContext(step, jax.random.fold_in(jax.random.key(0), step), train), patch or {}
    )


@pytest.mark.slow
def test_an_nnx_module_as_student():
    hint = term(losses.hint, student="student.embedding", teacher="teacher.embedding", connect={"student": Linear(6)})
    distillation = distil({"teacher": net(6), "student": SIGHT}, combine(task=task(), soft=soft(), hint=hint))
    state, frozen = initialize(distillation)
    last, values, _ = advance(stepper(distillation), state, frozen, [make_batch()] * 10)
    assert values[-3:].mean() < values[:3].mean()
    for training in ("params", "model_state"):  # every parameter learns, every running statistic moves
        for x, y in zip(*(jax.tree.leaves(getattr(s, training)["student"]) for s in (state, last)), strict=True):
            assert not np.array_equal(x, y)

    held, batch = variables(last, frozen)["student"], on_device(make_batch())
    one, two = (apply(SIGHT, held, batch, step)[0] for step in (0, 1))
    assert np.any(one["embedding"] != two["embedding"])  # dropout is drawn anew in each step …
    again = apply(SIGHT, held, batch, 0)[0]
    assert equal(one, again)  # … and from the step's key only
    assert np.mean(one["embedding"] == 0) > np.mean(one["features.image"] == 0) + 0.1

    outputs, state = apply(SIGHT, held, batch, train=False)
    assert state == {} and equal(outputs["embedding"], outputs["features.image"])
    assert equal(outputs, apply(SIGHT, held, batch, 1, train=False)[0])  # evaluated, it draws nothing
    same = apply(SIGHT, held, batch, train=False, patch=dict(outputs))[0]
    assert equal(same, outputs)  # patched with its own values, it is what it was
    other = apply(SIGHT, held, batch, train=False, patch={"embedding": jnp.zeros((16, 8))})[0]
    assert gap(other["logits"], jnp.broadcast_to(held["params"]["second"]["bias"], (16, 3))) < 1e-6
    with pytest.raises(UserError, match="no such output; it has: embedding, features.image, logits"):
        apply(SIGHT, held, batch, patch={"hidden": jnp.zeros(3)})


def test_an_nnx_module_as_teacher():
    swap = methods.interchange({"student": "embedding", "teacher": "features.image"})
    distillation = distil({"teacher": SIGHT, "student": net(8)}, combine(soft=soft(), causal=swap))
    state, frozen = initialize(distillation)
    before = jax.tree.map(np.array, frozen)
    _, _values, terms = advance(stepper(distillation), state, frozen, make_batches())
    assert equal(frozen, before) and terms["causal"].min() > 1e-4
    batch = on_device(make_batch())  # frozen, it does not drop and uses its running statistics
    calm = apply(SIGHT, frozen["teacher"], batch, train=False)[0]["logits"]
    student = apply(net(8), variables(state, frozen)["student"], batch)[0]["logits"]
    mean = np.sum(np.where(batch["valid"], losses.kl(student, calm), 0)) / batch["valid"].sum()
    np.testing.assert_allclose(terms["soft"][0], mean, rtol=1e-5)


def test_plain_functions_as_models():
    def rule(params, batch):
        """No parameters: the brighter the image, the higher the class."""
        return {"logits": 4 * jax.nn.one_hot(jnp.clip(2 * batch["image"].mean((1, 2, 3)), 0, 2).astype(int), 3)}

    def line(params, batch, ctx, patch):
        tap = Taps(patch)
        x = tap("embedding", batch["image"].reshape(-1, 6) @ params["w"])
        tap("logits", x + params["b"] + 0 * ctx.step)
        return tap.outputs

    def init(key, batch):
        return {"w": 0.1 * jax.random.normal(key, (6, 3)), "b": jnp.zeros(3)}

    student = plain(line, init)
    distillation = distil({"teacher": plain(rule), "student": student}, combine(soft=soft()))
    state, frozen = initialize(distillation)
    assert frozen == {"teacher": {"params": {}}}
    last, values, _ = advance(stepper(distillation), state, frozen, [make_batch()] * 10)
    assert np.all(np.diff(values) < 0) and gap(last.params["student"]["w"], state.params["student"]["w"]) > 1e-2

    moved = apply(
        student, {"params": last.params["student"]}, on_device(make_batch()), patch={"embedding": jnp.ones((16, 3))}
    )[0]
    assert gap(moved["logits"], jnp.broadcast_to(1 + last.params["student"]["b"], (16, 3))) < 1e-6
    with pytest.raises(UserError, match="without an argument named patch"):
        apply(plain(rule), {"params": {}}, on_device(make_batch()), patch={"logits": jnp.zeros((16, 3))})
    with pytest.raises(UserError, match="model teacher is to be trained but has no parameters"):
        initialize(distillation._replace(trained=("student", "teacher")))
