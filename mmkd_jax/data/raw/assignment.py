"""Splits of a table's rows: by a column or by shares, with groups and copies of files in one split."""

import hashlib
import math
from collections.abc import Mapping, Sequence

import numpy as np

from mmkd_jax.data import splits
from mmkd_jax.data.raw.table_file import Table
from mmkd_jax.errors import UserError, shown


def check_shares(shares: Mapping[str, float]) -> None:
    """Raise a UserError unless all shares are positive and their sum is 1."""
    good = all(isinstance(x, int | float) and x > 0 for x in shares.values())
    if not good or not math.isclose(sum(shares.values()), 1, abs_tol=1e-6):
        raise UserError(f'split={dict(shares)}: expected shares with a sum of 1, such as {{"train": 0.8, "test": 0.2}}')


def by_shares(
    lots: Sequence[int],
    contents: Sequence[str],
    labels: np.ndarray,
    known: np.ndarray,
    shares: Mapping[str, float],
    seed: int,
    train: str,
) -> list[str]:
    """Assign rows to splits by shares, equally within each class; the order of the rows does not matter.

    The lots are visited in the order of a hash of seed and content. Each goes to the split that lacks most: rows of the
    lot's classes, plus rows in all divided by the number of classes. Lots with unlabeled rows go to the training split,
    before all others.

    Args:
        lots: index of each row's lot, whose rows stay together.
        contents: hash of each row's content.
        labels: class of each row; all equal without labels.
        known: whether a row has a label.
        shares: split -> share of the labeled rows.
        seed: changes the order of the lots.
        train: name of the training split.

    Raises:
        UserError: unlabeled rows without a training split, more labeled rows in their lots than the training split's
            share, or a split without rows.

    Example:
        >>> rows, shares = np.arange(8), {"train": 0.5, "test": 0.5}
        >>> found = by_shares(range(8), [f"{i}" for i in rows], rows % 2, rows >= 0, shares, 0, "train")
        >>> sorted((s, i % 2) for i, s in enumerate(found))[::2]
        [('test', 0), ('test', 1), ('train', 0), ('train', 1)]
    """
    if not known.all() and train not in shares:
        raise UserError(f"split={dict(shares)} has no {train!r}, to which rows without a label belong")
    members: dict[int, list[int]] = {}
    for i, lot in enumerate(lots):
        members.setdefault(lot, []).append(i)
    order = sorted(members.values(), key=lambda rows: _digest([str(seed), *sorted(contents[i] for i in rows)]))
    names = list(shares)
    totals = np.bincount(labels[known]) if known.any() else np.zeros(1)
    lacking = np.array(list(shares.values()))[:, None] * totals
    found = [""] * len(lots)
    forced = [i for rows in order if not known[rows].all() for i in rows]
    largest = max(int(known[rows].sum()) for rows in order)
    if forced and (beside := int(known[forced].sum())) >= (most := shares[train] * known.sum()) + largest:
        raise UserError(
            f"split={dict(shares)}: {beside:,} labeled rows share a group or a file with an unlabeled row, which "
            f"belong to {train!r}, and its share is {most:,.0f} of {known.sum():,}: raise it, or label those rows"
        )
    for rows in sorted(order, key=lambda rows: bool(known[rows].all())):
        counts = np.bincount(labels[rows], minlength=len(totals)) / len(rows)
        best = int(np.argmax(lacking @ counts[: len(totals)] + lacking.sum(1) / len(totals)))
        which = names[best] if known[rows].all() else train
        for i in rows:
            found[i] = which
            lacking[names.index(which), labels[i]] -= known[i]
    if empty := [name for name in names if name not in found]:
        raise UserError(
            f"split={dict(shares)}: {empty[0]!r} has none of the {len(lots)} rows, in {len(members)} groups: choose "
            "other shares"
        )
    return found


_USUAL = ("train", "training", "validation", "valid", "val", "dev", "test", "testing", "unlabeled")
"""Usual names of splits."""


def check_names(table: Table, column: str, assigned: Sequence[str], train: str) -> None:
    """Raise a UserError if the name of a split looks like a typo of a usual name, or of another one but for case."""
    known = [train, *_USUAL]
    first = {name: i for i, name in reversed([*enumerate(assigned)])}
    for name, row in first.items():
        alike = [x for x in known if x != name and x.casefold() == name.casefold() and x in (*first, train)]
        if name not in known and name.isalpha():
            alike += [x for x in known if _one_typo(name.casefold(), x)]
        if alike:
            raise UserError(
                f"{table.row(row)}: {column!r}, the split, is {name!r}, which looks like {alike[0]!r}: write it so, or "
                "choose another name"
            )


def _one_typo(word: str, other: str) -> bool:
    """Return whether one letter more, less or other, or two letters that changed places, make one word of the other.

    The first letters must be equal: "rest" is no typo of "test".

    Example:
        >>> _one_typo("trian", "train"), _one_typo("tests", "test"), _one_typo("rest", "test")
        (True, True, False)
    """
    if word == other or word[:1] != other[0] or abs(len(word) - len(other)) > 1:
        return False
    start = next((i for i, (a, b) in enumerate(zip(word, other, strict=False)) if a != b), min(len(word), len(other)))
    a, b = word[start:], other[start:]
    return a[1:] == b or a == b[1:] or a[1:] == b[1:] or (a[1::-1] == b[:2] and a[2:] == b[2:])


def joined(groups: Sequence[str] | None, contents: Sequence[Sequence[str]]) -> list[int]:
    """Return the lot of each row: rows of one group, or with one content, are in one lot."""
    keys = [
        [("row", i), *(("content", x) for x in each), *([("group", groups[i])] if groups else [])]
        for i, each in enumerate(contents)
    ]
    return splits.joined(keys)


def check_groups(table: Table, column: str, groups: Sequence[str], assigned: Sequence[str]) -> None:
    """Raise a UserError if rows of one group are in two splits."""
    first: dict[str, int] = {}
    for i, group in enumerate(groups):
        j = first.setdefault(group, i)
        if assigned[i] != assigned[j]:
            raise UserError(
                f"{table.row(i)}: group {shown(repr(group), 60)} of column {column!r} is in split {assigned[i]!r}, and "
                f"with row {j} in {assigned[j]!r}: rows of one group must be in one split"
            )


def check_copies(table: Table, copies: Sequence[Sequence[tuple[str, str]]], assigned: Sequence[str]) -> None:
    """Raise a UserError if a content is in two splits.

    Args:
        table: the table.
        copies: (what, content) of each row.
        assigned: split of each row.
    """
    first: dict[str, int] = {}
    for i, contents in enumerate(copies):
        for what, content in contents:
            j = first.setdefault(content, i)
            if assigned[i] != assigned[j]:
                raise UserError(
                    f"{table.row(i)}: {what} in split {assigned[i]!r} has the same content as that of row {j} in "
                    f"{assigned[j]!r}: remove one, or pass allow_copies=True"
                )


def _digest(texts):
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()
