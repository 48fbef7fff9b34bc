"""What tokenizer_config.json says otherwise than tokenizer.json, where transformers follows the former."""

import json
import pathlib
from collections.abc import Mapping

import tokenizers
from tokenizers import normalizers, pre_tokenizers, processors

from mmkd_jax.data import special_tokens, word_piece
from mmkd_jax.data.tokenizer_settings import TokenizerSettings
from mmkd_jax.errors import UserError, shown

_ROBERTA = ("roberta", "RobertaTokenizer", "RobertaTokenizerFast")
_CASES = {"lowercase": "do_lower_case", "strip_accents": "strip_accents"}
_CASES |= {"handle_chinese_chars": "tokenize_chinese_chars"}


def apply(
    tokenizer: tokenizers.Tokenizer,
    folder: pathlib.Path,
    files: Mapping[str, bytes],
    settings: TokenizerSettings,
    model: str | None,
    rows: int | None,
) -> None:
    """Change a tokenizer of tokenizer.json as its folder says.

    Tokens that are named and missing are added, those at the end only if the model has an embedding for them. BERT's
    classes follow the settings of their words, and their first and last token; RoBERTa's follows `add_prefix_space`.

    Args:
        tokenizer: tokenizer of tokenizer.json, changed in place.
        folder: model folder, used in messages.
        files: name -> content of its tokenizer files.
        settings: settings of its tokenizer_config.json.
        model: name of the tokenizer's class, or else its model_type; None if neither is known.
        rows: number of the model's token embeddings; None if it is unknown.

    Raises:
        UserError: a file is damaged, or an added token has another id.
    """
    tokens = special_tokens.read(folder, files)
    known = {x.content for x in tokenizer.get_added_tokens_decoder().values()}
    named = [x for x in tokens.named.values() if x is not None]
    contents = {x.content for x in named}
    added = [x for _, x in sorted(tokens.added.items())]
    for token in added:
        token.special = token.special or token.content in contents
    missing = [x for x in [*added, *named, *tokens.extra] if x.content and x.content not in known]
    without_id = {x.content for x in missing} - {x.content for x in added}
    if missing:
        tokenizer.add_tokens(word_piece.within(missing, tokenizer.get_vocab(), without_id, rows))
    for i, token in tokens.added.items():
        if token.content and (found := tokenizer.token_to_id(token.content)) != i:
            raise UserError(
                f"{folder}: added token {shown(repr(token.content))} has id {i} in tokenizer_config.json, but {found} "
                "in tokenizer.json: fetch both of the same model"
            )
    if model not in (*_ROBERTA, *word_piece.CLASSES):
        return
    rules = json.loads(tokenizer.to_str())
    pre = rules.get("pre_tokenizer") or {}
    if model in _ROBERTA and pre.get("type") == "ByteLevel":
        blank = settings.add_prefix_space
        if blank is not None and blank != pre["add_prefix_space"]:
            tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=blank, use_regex=pre["use_regex"])
    if model in word_piece.CLASSES and rules["model"].get("type") == "WordPiece":
        _as_bert(tokenizer, tokens, settings, rules.get("normalizer") or {})


def _as_bert(tokenizer, tokens, settings, state):
    """Follow the settings of words, and the first and last token, if they differ."""
    wanted = {ours: getattr(settings, theirs) for ours, theirs in _CASES.items()}
    if state.get("type") == "BertNormalizer" and any(state[k] != x for k, x in wanted.items()):
        tokenizer.normalizer = normalizers.BertNormalizer(**wanted)
    ids = tokenizer.get_vocab()
    named = word_piece.DEFAULTS | {k: x.content for k, x in tokens.named.items() if x is not None}
    last, first = named["sep_token"], named["cls_token"]
    if first in ids and last in ids and tokenizer.encode("").ids != [ids[first], ids[last]]:
        tokenizer.post_processor = processors.BertProcessing((last, ids[last]), (first, ids[first]))
