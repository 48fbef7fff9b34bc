"""A Linen module that a method trains beside the student: called like a connector, its statistics are memory."""

from typing import Any

import flax.linen as nn

from mmkd_jax.views import Context


def begin(module: nn.Module, ctx: Context, *inputs: Any) -> tuple[Any, dict[str, Any]]:
    """Its parameters, and its BatchNorm statistics."""
    made = module.init(ctx.key, *inputs, ctx._replace(train=False))
    return made["params"], {c: v for c, v in made.items() if c != "params"}


def run(
    module: nn.Module, params: Any, state: dict[str, Any], ctx: Context, *inputs: Any
) -> tuple[Any, dict[str, Any]]:
    """What it gives, and its statistics after that."""
    mutable = list(state) if ctx.train else []
    out, new = module.apply({"params": params, **state}, *inputs, ctx, mutable=mutable)
    return out, dict(new) if ctx.train else state
