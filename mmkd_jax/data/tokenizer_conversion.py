"""Script of `transformers_child`: read a tokenizer with transformers, and print it as a tokenizer.json.

Standard input: the folder. Output: `tokenizer`, the content of a tokenizer.json, or null if transformers has only a
Python implementation, and `padding`, its padding id, or null.
"""

import os
from typing import Any

TEXTS = ["a", "ab " * 300, "aA1 \n'_é中!" * 30]


def load() -> None:
    """Import transformers' tokenizers."""
    from transformers import AutoTokenizer  # noqa: F401


def reply(data: bytes) -> dict[str, Any]:
    """Read the folder's tokenizer, and return what is printed."""
    from transformers import AutoTokenizer

    folder = data.decode()
    tokenizer: Any = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    names = set(tokenizer.vocab_files_names.values()) | {"tokenizer.model"}  # which it reads in place of another
    if not names & set(os.listdir(folder)):  # it would have its special tokens only
        raise ValueError(f"{type(tokenizer).__name__} reads {' or '.join(sorted(names))}, which the folder lacks")
    for text in TEXTS:
        tokenizer(text)
    padding = None if tokenizer.pad_token is None else tokenizer.pad_token_id
    return {"tokenizer": tokenizer.backend_tokenizer.to_str() if tokenizer.is_fast else None, "padding": padding}
