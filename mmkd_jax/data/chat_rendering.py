"""Script of `transformers_child`: render conversations with the chat template of a tokenizer.

Standard input: JSON, `[folder of the tokenizer, template, conversations, start, find]`: `start` adds the start of an
answer, `find` finds the answers. Output: `texts`, one of each conversation, and `spans`, start and end of each answer
in it; or `refused` and `row`, the number of the conversation. transformers renders in a sandbox without access to
Python's objects.
"""

import json
from typing import Any

MOST = 2**25
"""Characters of all texts together."""


def load() -> None:
    """Import transformers' tokenizers."""
    from transformers import AutoTokenizer  # noqa: F401


def reply(data: bytes) -> dict[str, Any]:
    """Render the conversations, and return what is printed."""
    from transformers import AutoTokenizer
    from transformers.utils.chat_template_utils import render_jinja_template

    folder, template, conversations, start, find = json.loads(data)
    tokenizer: Any = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    texts: list[str] = []
    spans: list[Any] = []
    left = MOST
    for row, conversation in enumerate(conversations):
        try:
            (text,), found = render_jinja_template(
                [conversation],
                chat_template=template,
                return_assistant_tokens_mask=find,
                add_generation_prompt=start,
                **tokenizer.special_tokens_map,
            )
        except MemoryError:
            raise
        except Exception as error:  # of Jinja, or of Python in an expression
            lines = [line.strip() for line in str(error).splitlines() if line.strip()]
            return {"refused": f"{type(error).__name__}: {(lines or [''])[0]}", "row": row}
        left -= len(text)
        if left < 0:
            return {"refused": f"all texts together have more than {MOST:,} characters", "row": row}
        texts.append(text)
        spans.append(found[0] if find else [])
    return {"texts": texts, "spans": spans}
