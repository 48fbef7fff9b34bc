"""Every loss binds through `term`, without further code: paths, tuples of paths, masks, numbers."""

from typing import Any

import jax
import jax.numpy as jnp

from mmkd_jax.core.model import StepContext, plain
from mmkd_jax.core.objective import term, total
from mmkd_jax.core.outputs import forward
from tests.losses.harness import arrays, every


@every
def test_a_term_of_it_is_one_number_with_a_gradient(case):
    """By abstract evaluation; floating inputs are outputs of a student, labels and masks stand in the batch."""
    inputs = arrays(case.inputs)
    models = {"student": {}, "teacher": {}}
    batch = {"keep": jnp.arange(case.rows) != 1}
    paths: dict[str, Any] = {}
    for name, value in inputs.items():
        home = "teacher" if name == "teacher" else "student" if name in case.floating else "batch"
        leaves = list(value) if isinstance(value, tuple) else [value]
        named = {f"{name}.{i}" if isinstance(value, tuple) else name: x for i, x in enumerate(leaves)}
        (batch if home == "batch" else models[home]).update(named)
        found = tuple(f"{home}.{n}" for n in named)
        paths[name] = found if isinstance(value, tuple) else found[0]
    objective = term(case.loss, where="keep", **paths, **case.hyper)
    outputs = {n: plain(lambda params, batch: params) for n in models}

    def value(student, step):
        variables = {"student": {"params": student}, "teacher": {"params": models["teacher"]}}
        seen, _ = forward(outputs, variables, batch, StepContext(step, jax.random.key(0)))
        params, state = objective.init(seen)
        terms, after = objective.apply(params, state, seen)
        assert jax.tree.structure(after) == jax.tree.structure(state)
        return total({"term": terms})[0]

    result, gradient = jax.eval_shape(jax.value_and_grad(value), models["student"], jnp.int32(0))
    assert result.shape == () and result.dtype == jnp.float32
    assert jax.tree.map(jnp.shape, gradient) == jax.tree.map(jnp.shape, models["student"])
