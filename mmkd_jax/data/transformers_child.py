"""Script, run in a child process: let another script ask transformers, offline and without frameworks.

Arguments: `sys.path` as JSON, the maximum address space in bytes, and the path of the other script, whose function
`load` imports its packages, and whose function `reply` takes the standard input, bytes, and returns JSON values.
Output: an empty line when they are imported and it begins to read; then the values, in one line, or `refused`, why a
function raised. No code of a model folder is run.
"""

import contextlib
import json
import os
import runpy
import sys
from typing import Any

OFFLINE = {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "OPENBLAS_NUM_THREADS": "1"}
UNUSED = ("torch", "torchvision", "tensorflow", "jax")
"""Packages that transformers would import, with more memory than the child process has."""


def main() -> None:
    """Run the script's `reply` and print the result."""
    sys.path[:] = json.loads(sys.argv[1])
    with contextlib.suppress(ImportError):  # Windows
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (int(sys.argv[2]),) * 2)
    os.environ.update(OFFLINE)
    not_found: Any = dict.fromkeys(UNUSED)
    sys.modules.update(not_found)
    try:
        script = runpy.run_path(sys.argv[3])
        try:
            script["load"]()
        finally:
            print(flush=True)
            data = sys.stdin.buffer.read()
        found = script["reply"](data)
    except MemoryError:
        raise
    except BaseException as error:  # plain Exception, or a panic of Rust
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        found = {"refused": f"{type(error).__name__}: {(lines or [''])[0]}"}
    print(f"\n{json.dumps(found)}")


if __name__ == "__main__":
    main()
