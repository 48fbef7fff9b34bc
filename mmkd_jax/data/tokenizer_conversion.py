"""Script, run in a child process: read a tokenizer with transformers, and print it as a tokenizer.json.

Arguments: `sys.path` as JSON, and the maximum address space in bytes. Standard input: the folder. Output, one line of
JSON: `tokenizer`, the content of a tokenizer.json, or null if transformers has only a Python implementation, and
`padding`, its padding id, or null; or `refused`, why transformers cannot read it. No code of the folder is run.
"""

import contextlib
import json
import os
import sys
from typing import Any

OFFLINE = {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "OPENBLAS_NUM_THREADS": "1"}
UNUSED = ("torch", "torchvision", "tensorflow", "jax")
"""Packages that transformers would import, with more memory than the child process has."""
TEXTS = ["a", "ab " * 300, "aA1 \n'_é中!" * 30]


def converted(folder: str) -> dict[str, Any]:
    """Return what is printed."""
    from transformers import AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    names = set(tokenizer.vocab_files_names.values()) | {"tokenizer.model"}  # which it reads in place of another
    if not names & set(os.listdir(folder)):  # it would have its special tokens only
        raise ValueError(f"{type(tokenizer).__name__} reads {' or '.join(sorted(names))}, which the folder lacks")
    for text in TEXTS:
        tokenizer(text)
    padding = None if tokenizer.pad_token is None else tokenizer.pad_token_id
    return {"tokenizer": tokenizer.backend_tokenizer.to_str() if tokenizer.is_fast else None, "padding": padding}


def main() -> None:
    """Read the folder's tokenizer and print it."""
    sys.path[:] = json.loads(sys.argv[1])
    with contextlib.suppress(ImportError):  # Windows
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (int(sys.argv[2]),) * 2)
    os.environ.update(OFFLINE)
    not_found: Any = dict.fromkeys(UNUSED)
    sys.modules.update(not_found)
    folder = sys.stdin.buffer.read().decode()
    try:
        found = converted(folder)
    except MemoryError:
        raise
    except BaseException as error:  # plain Exception, or a panic of Rust
        lines = [line.strip() for line in str(error).replace(folder, "FOLDER").splitlines() if line.strip()]
        found = {"refused": f"{type(error).__name__}: {(lines or [''])[0]}"}
    print(f"\n{json.dumps(found)}")


if __name__ == "__main__":
    main()
