"""Hash of a lowered program, which changes with what it computes, and not with how its source is written."""

import hashlib
import re
from collections.abc import Callable
from typing import Any

import jax
from jaxlib.mlir.passmanager import PassManager

PLATFORMS = ("cpu", "cuda", "tpu")
PASSES = "builtin.module(canonicalize,cse,symbol-dce)"


def program_hash(function: Callable, *arguments: Any) -> str:
    """SHA-256 of a function's program, lowered from shapes: without source locations and names of functions.

    Programs are lowered for all platforms, so that the hash does not depend on the machine, and has the branches of
    each. Host callbacks are not hashed.

    Example:
        >>> x = jax.ShapeDtypeStruct((2,), "float32")
        >>> double, renamed = program_hash(lambda x: x * 2, x), program_hash(lambda y: y * 2, x)
        >>> double == renamed, double == program_hash(lambda x: x * 3, x)
        (True, False)
    """
    traced = jax.jit(function).trace(*arguments)
    try:
        lowered = traced.lower(lowering_platforms=PLATFORMS)
    except (NotImplementedError, ValueError):  # a kernel that some platforms lack
        lowered = traced.lower()
    module: Any = lowered.compiler_ir("stablehlo")
    with module.context:  # without dead code, such as checks of values, which count their traces
        PassManager.parse(PASSES).run(module.operation)
    text = module.operation.get_asm(enable_debug_info=False)
    names = re.findall(r"^(?:module|\s*func\.func (?:public|private)) @([\w.]+)", text, re.MULTILINE)
    position = {name: str(i) for i, name in enumerate(dict.fromkeys(names))}
    text = re.sub(r"@([\w.]+)", lambda m: f"@{position.get(m[1], m[1])}", text)
    return hashlib.sha256(text.encode()).hexdigest()
