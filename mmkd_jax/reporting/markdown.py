"""Markdown tables."""

from collections.abc import Iterable, Sequence

_RULES = {"l": "---", "r": "---:"}


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]], align: str) -> str:
    """Return a Markdown table.

    Args:
        header: column names.
        rows: cells of each row.
        align: alignment of each column, "l" (left) or "r" (right), such as "lrr".

    Example:
        >>> print(markdown_table(["training", "accuracy"], [["kd", "0.91"]], "lr"), end="")
        | training | accuracy |
        | --- | ---: |
        | kd | 0.91 |
    """
    lines = [header, [_RULES[a] for a in align], *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
