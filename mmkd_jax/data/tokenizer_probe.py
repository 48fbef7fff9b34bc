"""Script, run in a child process: read a tokenizer.json, and encode texts that make a bad regular expression slow.

Arguments: `sys.path` as JSON, and the maximum address space in bytes. Standard input: the content of the file.
"""

import contextlib
import json
import sys
from collections.abc import Iterator
from typing import Any

LENGTH = 1_000
"""Characters of a probe: a nested quantifier takes 2^LENGTH steps on it."""


def patterns(tree: Any) -> Iterator[str]:
    """Yield the regular expressions in a tokenizer.json."""
    stack = [tree]
    while stack:
        x = stack.pop()
        if isinstance(x, dict):
            if isinstance(x.get("Regex"), str):
                yield x["Regex"]
            stack += x.values()
        elif isinstance(x, list):
            stack += x


def probes(expressions: list[str]) -> list[str]:
    """Return long runs of each character that the expressions name, and of typical ones."""
    named = sorted({c for text in expressions for c in text if not c.isspace()})[:100]
    characters = [*dict.fromkeys([*"aA1 \n'_é中", *named])]
    return [c * LENGTH + end for c in characters for end in ("", "!", "\x00")] + ["ab" * LENGTH, "a " * LENGTH]


def main() -> None:
    """Read the file and encode the probes."""
    sys.path[:] = json.loads(sys.argv[1])
    with contextlib.suppress(ImportError):  # Windows
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (int(sys.argv[2]),) * 2)
    import os

    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    import tokenizers

    try:
        text = sys.stdin.buffer.read().decode()
        tokenizer = tokenizers.Tokenizer.from_str(text)
        tokenizer.no_padding()
        tokenizer.no_truncation()
        for probe in probes([*patterns(json.loads(text))]):
            tokenizer.encode(probe)
    except MemoryError:
        raise
    except BaseException as error:  # plain Exception, or a panic of Rust
        sys.exit((str(error).strip().splitlines() or [type(error).__name__])[0])


if __name__ == "__main__":
    main()
