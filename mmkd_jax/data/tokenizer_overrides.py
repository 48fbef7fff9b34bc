"""What tokenizer_config.json says otherwise than tokenizer.json, where transformers follows the former."""

import json
import pathlib
from collections.abc import Mapping

import tokenizers
from tokenizers import normalizers, pre_tokenizers, processors

from mmkd_jax import foreign_files
from mmkd_jax.data import special_tokens, word_piece
from mmkd_jax.data.tokenizer_settings import TokenizerSettings
from mmkd_jax.errors import UserError, shown

_ROBERTA = ("roberta", "RobertaTokenizer", "RobertaTokenizerFast")
_MPNET = ("mpnet", "MPNetTokenizer", "MPNetTokenizerFast")
_ALBERT = ("albert", "AlbertTokenizer", "AlbertTokenizerFast")
_DEBERTA = ("deberta-v2", "DebertaV2Tokenizer", "DebertaV2TokenizerFast")
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
    and MPNet's classes follow the settings of their words; BERT's, ALBERT's and DeBERTa's their first and last token;
    RoBERTa's `add_prefix_space`. The settings of words of ALBERT's and DeBERTa's, which releases of transformers read
    differently, must agree with tokenizer.json.

    Args:
        tokenizer: tokenizer of tokenizer.json, changed in place.
        folder: model folder, used in messages.
        files: name -> content of its tokenizer files.
        settings: settings of its tokenizer_config.json.
        model: name of the tokenizer's class, or else its model_type; None if neither is known.
        rows: number of the model's token embeddings; None if it is unknown.

    Raises:
        UserError: a file is damaged, an added token has another id, or settings of words contradict tokenizer.json.
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
    if model not in (*_ROBERTA, *_MPNET, *_ALBERT, *_DEBERTA, *word_piece.CLASSES):
        return
    rules = json.loads(tokenizer.to_str())
    pre = rules.get("pre_tokenizer") or {}
    if model in _ROBERTA and pre.get("type") == "ByteLevel":
        blank = settings.add_prefix_space
        if blank is not None and blank != pre["add_prefix_space"]:
            tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=blank, use_regex=pre["use_regex"])
    if model in (*_MPNET, *word_piece.CLASSES) and rules["model"].get("type") == "WordPiece":
        state, wanted = rules.get("normalizer") or {}, {k: getattr(settings, x) for k, x in _CASES.items()}
        if state.get("type") == "BertNormalizer" and any(state[k] != x for k, x in wanted.items()):
            tokenizer.normalizer = normalizers.BertNormalizer(**wanted)
    if model in (*_ALBERT, *_DEBERTA) or (model in word_piece.CLASSES and rules["model"].get("type") == "WordPiece"):
        _bounded(tokenizer, tokens)
    if model in (*_ALBERT, *_DEBERTA):
        fields = foreign_files.json_object(files.get(special_tokens.CONFIG, b"{}"), folder / special_tokens.CONFIG)
        _refuse_contradictions(fields, rules, folder, keeps=model in _ALBERT)


def _refuse_contradictions(fields, rules, folder, keeps):
    """Refuse settings that tokenizer.json contradicts; `keep_accents` is one of ALBERT alone."""
    normalizer, pre = rules.get("normalizer") or {}, rules.get("pre_tokenizer") or {}
    types = {x.get("type") for x in normalizer.get("normalizers") or [normalizer]}
    splits = {x.get("type") for x in pre.get("pretokenizers") or [pre]}
    found = {"do_lower_case": "Lowercase" in types}
    found |= {"keep_accents": "StripAccents" not in types} if keeps else {"split_by_punct": "Punctuation" in splits}
    blanks = [x["prepend_scheme"] for x in pre.get("pretokenizers") or [pre] if x.get("type") == "Metaspace"]
    found |= {"add_prefix_space": "never" not in blanks} if blanks else {}
    for key, value in found.items():
        if fields.get(key, value) not in (value, None):
            path, said = folder / special_tokens.CONFIG, shown(repr(fields[key]))
            raise UserError(
                f"{path} has {key}={said}, but tokenizer.json is of {key}={value}, and releases of transformers differ "
                f"in which they follow: set {key} to that of the model's training in one of them"
            )


def _bounded(tokenizer, tokens):
    """Follow the first and last token, if they differ."""
    ids = tokenizer.get_vocab()
    named = word_piece.DEFAULTS | {k: x.content for k, x in tokens.named.items() if x is not None}
    last, first = named["sep_token"], named["cls_token"]
    if first in ids and last in ids and tokenizer.encode("").ids != [ids[first], ids[last]]:
        tokenizer.post_processor = processors.BertProcessing((last, ids[last]), (first, ids[first]))
