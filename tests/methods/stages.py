"""What the tests of methods over several stages share: small convolutional models, and what every method owes."""

import jax
import jax.numpy as jnp
import numpy as np

from mmkd_jax.core.model import StepContext, linen
from mmkd_jax.core.objective import combine, total
from mmkd_jax.core.outputs import forward
from mmkd_jax.core.state import variables
from mmkd_jax.models import ImageCNN, Multimodal
from tests.small import (
    CLASSES,
    advance,
    distil,
    equal,
    gap,
    initialize,
    make_batch,
    on_device,
    set_hyperparams,
    stepper,
    task,
)

ROWS = 16


def cnn(*widths, width=6):
    return linen(Multimodal({"image": ImageCNN(widths)}, classes=CLASSES, width=width, batch_norm=True))


MODELS = {"student": cnn(4, 5, width=5), "teacher": cnn(6, 7, 8)}


def pictures(seed=0, rows=ROWS):
    draw = np.random.default_rng(seed)
    return make_batch(seed, rows) | {"image": draw.normal(size=(rows, 8, 8, 1)).astype(np.float32)}


def views_of(state, frozen, batch, models=MODELS, train=True):
    ctx = StepContext(state.step, jax.random.fold_in(state.key, 3), train)
    return forward(models, variables(state, frozen), on_device(batch), ctx)[0]


def check_mechanism(method, moved, models=MODELS):
    """Ten steps: its parameters and statistics move, the teacher does not, and without it another student comes out.

    Args:
        method: an objective with a number `weight`.
        moved: names of the student's parameters that the method alone must reach.
        models: of which "teacher" is frozen.
    """
    batches = [pictures(i) for i in range(10)]
    distillation = distil(models, combine(task=task(), method=method))
    step, (both, frozen) = stepper(distillation), initialize(distillation, batches[0])
    before = jax.tree.map(np.array, frozen)
    alone, without = (set_hyperparams(both, {f"{name}.weight": 0.0}) for name in ("task", "method"))
    last, values, _ = advance(step, alone, frozen, batches)
    assert equal(frozen, before) and np.isfinite(values).all() and np.abs(values).min() > 1e-4
    statistics = (x.objective_state["method"]["state"] for x in (last, alone))
    reached = (last.params, alone.params), tuple(statistics)
    for now, then in reached:
        for (path, x), y in zip(jax.tree.leaves_with_path(now), jax.tree.leaves(then), strict=True):
            name = jax.tree_util.keystr(path, simple=True, separator="/")
            if not name.startswith("student/") or name.split("/")[1] in moved:
                assert not np.array_equal(x, y), name
    _, repeated, _ = advance(step, alone, frozen, [batches[0]] * 10)
    assert repeated[-1] < 0.9 * repeated[0]  # it learns what it asks for

    # beside a task, taking it away gives another student
    with_it, without_it = (advance(step, state, frozen, batches)[0].params["student"] for state in (both, without))
    assert gap(with_it, without_it) > 1e-3


def check_padding(method, models=MODELS):
    """Whatever stands in padding rows changes no value, beyond BatchNorm's statistics, which are not moved here."""
    batch = pictures()
    state, frozen = initialize(distil(models, method), batch)
    there = batch["valid"].reshape(-1, 1, 1, 1)
    other = batch | {"image": np.where(there, batch["image"], 3.0).astype(np.float32)}

    def value(batch):
        outputs = views_of(state, frozen, batch, models, train=False)
        return total(method.apply(state.params["objective"], state.objective_state, outputs)[0])[0]

    a, b = (float(jax.jit(value)(on_device(x))) for x in (batch, other))
    assert abs(a - b) < 1e-5 * abs(a) and jnp.isfinite(a)
