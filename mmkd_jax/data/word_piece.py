"""WordPiece tokenizer of a vocab.txt with the settings and tokens that its folder names."""

import pathlib
from collections.abc import Collection, Mapping
from typing import Any

import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors

from mmkd_jax.data import special_tokens, text
from mmkd_jax.data.tokenizer_settings import TokenizerSettings
from mmkd_jax.errors import UserError, shown

FILE = "vocab.txt"
DEFAULTS = {"unk_token": "[UNK]", "sep_token": "[SEP]", "pad_token": "[PAD]", "cls_token": "[CLS]"}
DEFAULTS |= {"mask_token": "[MASK]"}
CLASSES = ("BertTokenizer", "BertTokenizerFast", "DistilBertTokenizer", "DistilBertTokenizerFast", "bert", "distilbert")
CLASSES += ("ElectraTokenizer", "ElectraTokenizerFast", "electra")
"""Names of its classes, and model_types whose tokenizers are of them."""
_NEEDED = ("sep_token", "cls_token", "unk_token")


def is_class(kind: str | None, config: Mapping[str, Any]) -> bool:
    """Return whether a vocab.txt is one of BERT's.

    Args:
        kind: name of the tokenizer's class, if it is named.
        config: config.json, by whose model_type transformers chooses the class otherwise; or {}.
    """
    return (kind or config.get("model_type", "bert")) in CLASSES


def build(
    folder: pathlib.Path, files: Mapping[str, bytes], settings: TokenizerSettings, rows: int | None = None
) -> tuple[tokenizers.Tokenizer, str | None]:
    """Return the tokenizer of a vocab.txt, and its padding token, if the folder names one.

    Special tokens that are not in vocab.txt have the ids after it, in the order in which transformers adds them. If the
    model has no embedding for [PAD] or [MASK], and no file names them, they are no tokens.

    Source: Devlin et al., BERT: Pre-training of Deep Bidirectional Transformers for Language Understanding, 2019,
        https://arxiv.org/abs/1810.04805.

    Args:
        folder: model folder, used in messages.
        files: name -> content of its tokenizer files.
        settings: settings of its tokenizer_config.json.
        rows: number of the model's token embeddings; None if it is unknown.

    Raises:
        UserError: a file is damaged, the first, last or unknown token is missing, or an added token has another id.
    """
    path = folder / FILE
    vocabulary = {w: i for i, w in enumerate(text.lines(files[FILE], path))}
    tokens = special_tokens.read(folder, files)
    defaults = {k: tokenizers.AddedToken(x, special=True) for k, x in DEFAULTS.items() if k not in tokens.named}
    by_content = {x.content: x for x in tokens.added.values()}
    named = {**{k: by_content.get(x.content, x) for k, x in defaults.items()}, **tokens.named}
    ordered = [*special_tokens.NAMES, *(k for k in named if k not in special_tokens.NAMES)]
    added = [x for _, x in sorted(tokens.added.items())]
    contents = {x.content for x in named.values() if x is not None}
    for token in added:
        token.special = token.special or token.content in contents
    added += [x for k in ordered if (x := named.get(k)) is not None]
    needed = {}
    for name in _NEEDED:
        known = set(vocabulary) | (set(by_content) if name != "unk_token" else set())
        if (token := named[name]) is None or token.content not in known:
            what = "null" if token is None else shown(repr(token.content))
            raise UserError(f"the tokenizer in {folder} is damaged ({name} {what} is not in {FILE}): fetch it again")
        needed[name] = token.content
    tokenizer = tokenizers.Tokenizer(models.WordPiece(vocabulary, unk_token=needed["unk_token"]))
    tokenizer.normalizer = normalizers.BertNormalizer(
        handle_chinese_chars=settings.tokenize_chinese_chars,
        strip_accents=settings.strip_accents,
        lowercase=settings.do_lower_case,
    )
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    added = [x for x in [*added, *tokens.extra] if x.content]
    tokenizer.add_tokens(within(added, vocabulary, {x.content for x in defaults.values()}, rows))
    ids = tokenizer.get_vocab()
    last, first = ((x, ids[x]) for x in (needed["sep_token"], needed["cls_token"]))
    tokenizer.post_processor = processors.BertProcessing(last, first)
    for i, token in tokens.added.items():
        if (found := tokenizer.token_to_id(token.content)) != i:
            raise UserError(
                f"{folder}: added token {shown(repr(token.content))} has id {i}, but {found} by its place after "
                f"{FILE}: fetch both of the same model"
            )
    padding = tokens.named.get("pad_token")
    return tokenizer, padding and padding.content


def within(
    added: list[tokenizers.AddedToken], vocabulary: Mapping[str, int], defaults: Collection[str], rows: int | None
) -> list[tokenizers.AddedToken]:
    """Leave out tokens at the end that have no embedding.

    Args:
        added: tokens to be added, in order.
        vocabulary: token -> id.
        defaults: tokens that may be left out.
        rows: number of the model's token embeddings; None leaves out none.
    """
    new = list(dict.fromkeys(x.content for x in added if x.content not in vocabulary))
    omitted = set()
    while rows is not None and new and len(vocabulary) + len(new) > rows and new[-1] in defaults:
        omitted.add(new.pop())
    return [x for x in added if x.content not in omitted]
