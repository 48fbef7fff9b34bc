"""Auxiliary Linen modules trained along with the student, called like connectors; BatchNorm statistics are state."""

from typing import Any

import flax.linen as nn

from mmkd_jax.core.model import StepContext


def init_module(module: nn.Module, ctx: StepContext, *inputs: Any) -> tuple[Any, dict[str, Any]]:
    """Return the module's initial parameters and its other collections (BatchNorm statistics)."""
    variables = module.init(ctx.key, *inputs, ctx._replace(train=False))
    return variables["params"], {c: v for c, v in variables.items() if c != "params"}


def apply_module(
    module: nn.Module, params: Any, state: dict[str, Any], ctx: StepContext, *inputs: Any
) -> tuple[Any, dict[str, Any]]:
    """Return the module's output and its updated collections (BatchNorm statistics)."""
    mutable = list(state) if ctx.train else []
    out, new = module.apply({"params": params, **state}, *inputs, ctx, mutable=mutable)
    return out, dict(new) if ctx.train else state
