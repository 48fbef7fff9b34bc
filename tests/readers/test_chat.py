"""Chat templates: ids are those of transformers, which renders in a child process."""

import json
import pathlib
from typing import Any

import numpy as np
import pytest

from mmkd_jax import child_process, pretrained
from mmkd_jax.data import chat
from mmkd_jax.data.tokenizer import Tokenizer
from mmkd_jax.errors import UserError
from mmkd_jax.models import Bert, Encoders, TransformerConfig
from tests.readers import texts

TEMPLATE = """{% for m in messages %}
{% if m.role == 'system' and not loop.first %}{{ raise_exception('the system speaks first') }}{% endif %}
{{ cls_token }}{{ m.role }} {% if m.role == 'assistant' %}{% generation %}{{ m.content }}{% endgeneration %}
{% else %}{{ m.content }}{% endif %}{{ sep_token }}
{% endfor %}{% if add_generation_prompt %}{{ cls_token }}assistant{% endif %}"""
TALK = [
    {"role": "user", "content": "a good day"},
    {"role": "assistant", "content": "the cat"},
    {"role": "user", "content": "a"},
]
TOKENS = {"cls_token": "[CLS]", "sep_token": "[SEP]", "tokenizer_class": "BertTokenizer"}
FOLDER = pathlib.Path("FOLDER")


def write(folder: pathlib.Path, template: Any = TEMPLATE) -> pathlib.Path:
    """A folder with a tokenizer.json."""
    (folder / "config.json").write_text('{"model_type": "bert"}')
    (folder / "tokenizer.json").write_text(json.dumps(texts.tokenizer()))
    (folder / "tokenizer_config.json").write_text(json.dumps(TOKENS | {"chat_template": template}))
    return folder


def test_ids_are_those_of_transformers(tmp_path):
    """Further tokenizers are compared in tests/parity."""
    from transformers import AutoTokenizer

    theirs, ours = AutoTokenizer.from_pretrained(write(tmp_path)), Tokenizer(tmp_path, 30, 0, limits=None)
    found = ours.chat([TALK, TALK[:1]], start=True, answers=True)
    how = {"add_generation_prompt": True, "return_dict": True, "return_assistant_tokens_mask": True}
    expected = theirs.apply_chat_template([TALK, TALK[:1]], **how)
    for i, ids in enumerate(expected["input_ids"]):
        assert found["text.ids"][i][found["text.mask"][i]].tolist() == ids
        assert found["text.answers"][i][: len(ids)].tolist() == [bool(x) for x in expected["assistant_masks"][i]]
    assert found["text.answers"].any(1).tolist() == [True, False]
    with pytest.warns(UserWarning, match="2 of 2 texts have more than 4 tokens"):
        short = ours.chat([TALK, TALK[:1]], start=True, answers=True, length=4, pad=True)
    np.testing.assert_array_equal(short["text.ids"], found["text.ids"][:, :4])
    assert not short["text.answers"].any()
    with pytest.raises(UserError, match=r"conversation 1 \(TemplateError: the system speaks first\): change the mess"):
        ours.chat([TALK, [*TALK, {"role": "system", "content": "a"}]])


@pytest.mark.parametrize(
    ("conversations", "said"),
    [
        (TALK, "expected a list of conversations, .* got a single one: put it in a list"),
        ("hello", "expected a list of conversations, .* got 'hello'"),
        ([[]], r"conversation 0 is \[\]; expected a list of messages"),
        ([TALK, "hello"], "conversation 1 is 'hello'"),
        ([["hello"]], "message 0 of conversation 0 is 'hello'"),
        ([[{"content": "a"}]], "message 0 of conversation 0 has no 'role'"),
        ([[*TALK, {"role": "user"}]], "message 3 of conversation 0 has no 'content'"),
        ([[{"role": "user", "content": None}]], "message 0 of conversation 0 has 'content': None; expected a text"),
        ([[{"role": "user", "content": [{"type": "image"}]}]], "has 'content': .*; expected a text"),
    ],
)
def test_messages_of_another_form(conversations, said):
    """They are refused before transformers is imported."""
    with pytest.raises(UserError, match=f"text: .*{said}") as error:
        chat.validated(conversations, "text")
    assert "\n" not in str(error.value) and len(str(error.value)) < 500


def test_where_templates_are(tmp_path):
    """Files of templates replace those in tokenizer_config.json, as in transformers; all are saved."""
    tokenizer = Tokenizer(write(tmp_path), 30, 0, limits=None)
    assert chat.templates(FOLDER, tokenizer.files) == {"default": TEMPLATE}
    write(tmp_path, [{"name": "default", "template": "d"}, {"name": "tools", "template": "t"}])
    (tmp_path / "chat_template.json").write_text('{"chat_template": "old"}')
    tokenizer = Tokenizer(tmp_path, 30, 0, limits=None)
    assert chat.templates(FOLDER, tokenizer.files) == {"default": "d", "tools": "t"}
    (tmp_path / "tokenizer_config.json").unlink()
    assert chat.templates(FOLDER, Tokenizer(tmp_path, 30, 0, limits=None).files) == {"default": "old"}
    (tmp_path / "additional_chat_templates").mkdir()
    (tmp_path / "additional_chat_templates" / "short.jinja").write_text("s")
    (tmp_path / "chat_template.jinja").write_text("{{ é }}", encoding="utf-8")
    tokenizer = Tokenizer(tmp_path, 30, 0, limits=None)
    assert chat.templates(FOLDER, tokenizer.files) == {"default": "{{ é }}", "short": "s"}
    config = TransformerConfig(embed_dim=8, num_layers=1, num_heads=2, mlp_dim=16)
    small = Encoders({"text": Bert(tokenizer.vocabulary, config, length=30)})
    pretrained.save(tmp_path / "saved", "bert", small, pretrained.initial(small), tokenizer)
    assert Tokenizer(tmp_path / "saved", 30, 0, limits=None).files == tokenizer.files


@pytest.mark.parametrize(
    ("template", "options", "said"),
    [
        (None, {}, r"the tokenizer in FOLDER has no chat template: add the chat_template.jinja that the model was"),
        ("{{ messages }}", {"template": "tools"}, "no chat template tools; available: default"),
        ("{{ messages }}", {"answers": True}, r"chat template default has no {% generation %}, which marks"),
        (5, {}, "chat_template has 5; expected a text of at most 1 MiB, or a list of objects with name and template"),
        ([{"name": "a"}], {}, "chat_template has None; expected a text"),
    ],
)
def test_templates_that_are_not_there(template, options, said, tmp_path):
    """They are refused before transformers is imported."""
    tokenizer = Tokenizer(write(tmp_path, template), 30, 0, limits=None)
    tokenizer.limits = child_process.Limits(loading=0.0)
    with pytest.raises(UserError) as error:
        tokenizer.chat([TALK], **options)
    message = str(error.value).replace(str(tmp_path), "FOLDER").replace("'", "")
    assert said in message and "\n" not in message and len(message) < 500


def test_damaged_template_files(tmp_path):
    write(tmp_path, None)
    (tmp_path / "chat_template.jinja").write_bytes(b"\xff")
    tokenizer = Tokenizer(tmp_path, 30, 0, limits=None)
    with pytest.raises(UserError, match="chat_template.jinja is not UTF-8 .invalid start byte.: fetch it again"):
        tokenizer.chat([TALK])
    (tmp_path / "chat_template.jinja").write_bytes(b"x" * (2**20 + 1))
    with pytest.raises(UserError, match="chat_template.jinja has 1,048,577 bytes; expected at most 1,048,576"):
        Tokenizer(tmp_path, 30, 0, limits=None)


HOSTILE = {
    "for ever": ("{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}", "longer than"),
    "memory": ("{{ 'a' * 10**10 }}", "needs more than 2 GiB"),
    "a long text": ("{{ 'a' * 10**8 }}", "all texts together have more than 33,554,432 characters"),
    "a large range": ("{% for i in range(10**9) %}{% endfor %}", "OverflowError"),
    "recursion": ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "RecursionError"),
    "objects of Python": ("{{ ''.__class__.__mro__ }}", "SecurityError"),
    "changes": ("{{ messages.append(1) }}", "SecurityError"),
    "files": ("{% include '/etc/passwd' %}", "TypeError|TemplateNotFound|no loader"),
    "syntax": ("{% if", "TemplateSyntaxError"),
    "an undefined name": ("{{ nothing.more }}", "UndefinedError"),
}


@pytest.mark.full
@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_templates(name, tmp_path):
    """They are refused in one line."""
    template, said = HOSTILE[name]
    tokenizer = Tokenizer(write(tmp_path, template), 30, 0, limits=None)
    with pytest.raises(UserError, match=said) as error:
        tokenizer.chat([TALK])
    assert "\n" not in str(error.value) and len(str(error.value)) < 500
