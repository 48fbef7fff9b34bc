"""F1 of spans, such as named entities, from IOB2 tags."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Bool, Integer

from mmkd_jax.errors import UserError, shown
from mmkd_jax.metrics._inputs import check_labels
from mmkd_jax.metrics.confusion import ClassCounts
from mmkd_jax.validation import validated

Decoding = Literal["strict", "lenient"]


class Span(NamedTuple):
    """A span of a sequence.

    Attributes:
        kind: its type, such as "PER".
        first: position of its first tag.
        last: position of its last tag.
    """

    kind: str
    first: int
    last: int


class SpanScores(NamedTuple):
    """Scores of spans; a prediction is right if type, first and last position are.

    Attributes:
        precision: over all types; NaN without predicted spans.
        recall: over all types; NaN without spans.
        f1: over all types; NaN without spans and predicted ones.
        types: in the order of `counts`.
        counts: by type; its `precision`, `recall` and `f1` are those by type.
    """

    precision: float
    recall: float
    f1: float
    types: tuple[str, ...]
    counts: ClassCounts


def _tag(tag: str) -> tuple[str, str]:
    """Split "B-PER" into "B" and "PER"."""
    prefix, _, kind = tag.partition("-")
    if prefix not in ("B", "I", "O") or (prefix == "O") != (tag == "O") or (prefix != "O" and not kind):
        raise UserError(f"tag {shown(tag)!r}; expected O, B-… or I-…: convert other schemes, such as BIOES, to IOB2")
    return prefix, kind


@validated
def decode_spans(tags: Sequence[str], decoding: Decoding = "strict") -> tuple[Span, ...]:
    """Decode the spans of one sequence of IOB2 tags.

    Args:
        tags: "O", "B-TYPE" and "I-TYPE".
        decoding: in "strict", a span begins with B; an I that continues no span of its type is no span. In "lenient",
            as in conlleval, such an I begins a span.

    Raises:
        UserError: a tag has another form.

    Source: Tjong Kim Sang and De Meulder, Introduction to the CoNLL-2003 Shared Task, 2003,
        https://arxiv.org/abs/cs/0306050 (conlleval, lenient)

    Example:
        >>> [tuple(span) for span in decode_spans(["B-PER", "I-PER", "O", "I-LOC"])]
        [('PER', 0, 1)]
        >>> [tuple(span) for span in decode_spans(["B-PER", "I-PER", "O", "I-LOC"], "lenient")]
        [('PER', 0, 1), ('LOC', 3, 3)]
    """
    if isinstance(tags, str):
        raise UserError(f"tags are the text {shown(tags)!r}; expected a list of tags")
    found: list[Span] = []
    current = ""  # type of the span that the tag before belongs to
    for i, tag in enumerate(tags):
        prefix, kind = _tag(tag)
        if prefix == "I" and kind == current:
            found[-1] = found[-1]._replace(last=i)
        elif prefix == "B" or (prefix == "I" and decoding == "lenient"):
            found.append(Span(kind, i, i))
            current = kind
        else:
            current = ""
    return tuple(found)


@validated
def span_f1(
    labels: Integer[np.ndarray, "n l"],
    predictions: Integer[np.ndarray, "n l"],
    tags: Sequence[str],
    mask: Bool[np.ndarray, "n l"] | None = None,
    decoding: Decoding = "strict",
) -> SpanScores:
    """Precision, recall and F1 of spans, micro-averaged over all sequences and types.

    Formula: F1 = 2 hits/(spans + predicted spans); a hit has type, first and last position of a span

    Args:
        labels: index of each position's tag, [n, l].
        predictions: index of each position's predicted tag, [n, l].
        tags: the tags, such as ("O", "B-PER", "I-PER").
        mask: positions that count, [n, l], such as the first piece of each word; None for all. The others are removed,
            and spans continue across them.
        decoding: "strict" or "lenient", as in `decode_spans`.

    Raises:
        UserError: shapes differ, a label is out of range (masked positions may have any), or a tag has another form.

    Source: Tjong Kim Sang and De Meulder, Introduction to the CoNLL-2003 Shared Task, 2003,
        https://arxiv.org/abs/cs/0306050

    Example:
        >>> tags = ("O", "B-PER", "I-PER")
        >>> labels, predictions = np.array([[1, 2, 0, 1]]), np.array([[2, 2, 0, 1]])
        >>> round(span_f1(labels, predictions, tags).f1, 3), span_f1(labels, predictions, tags, decoding="lenient").f1
        (0.667, 1.0)
    """
    if isinstance(tags, str) or len(set(tags)) != len(tags):
        raise UserError(
            f"tags are {shown(tags)}; expected a sequence of distinct tags, such as ('O', 'B-PER', 'I-PER')"
        )
    types = tuple(dict.fromkeys(kind for _, kind in map(_tag, tags) if kind))
    mask = np.ones(labels.shape, bool) if mask is None else np.asarray(mask)
    labels = check_labels(np.where(mask, labels, 0), len(tags))
    predictions = check_labels(np.where(mask, predictions, 0), len(tags), "predictions")
    counts = {kind: [0, 0, 0] for kind in types}
    for label, prediction, counted in zip(labels, predictions, mask, strict=True):
        actual, predicted = (set(decode_spans([tags[i] for i in x[counted]], decoding)) for x in (label, prediction))
        for column, members in enumerate((actual & predicted, predicted, actual)):
            for span in members:
                counts[span.kind][column] += 1
    by_type = ClassCounts(*np.array(list(counts.values()), np.int64).reshape(-1, 3).T)
    total = by_type.micro
    return SpanScores(float(total.precision[0]), float(total.recall[0]), float(total.f1[0]), types, by_type)
