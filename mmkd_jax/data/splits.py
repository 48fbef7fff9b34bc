"""Splits of rows that keep together what belongs together."""

from collections.abc import Hashable, Mapping, Sequence

import numpy as np


def joined(keys: Sequence[Sequence[Hashable]]) -> list[int]:
    """Which rows belong together: those that share a key, directly or by way of others.

    Args:
        keys: of each row.

    Returns:
        The number of each row's lot, in order of appearance.

    Example:
        >>> joined([["a"], ["b"], ["c", "b"], ["d"], ["a", "d"]])
        [0, 1, 1, 0, 0]
    """
    above: dict[Hashable, Hashable] = {}

    def top(key):
        while above.setdefault(key, key) != key:
            key = above[key]
        return key

    for own in keys:
        for key in own[1:]:
            above[top(key)] = top(own[0])
    tops = [top(own[0]) for own in keys]
    number = {t: i for i, t in enumerate(dict.fromkeys(tops))}
    return [number[t] for t in tops]


def split(draw: np.random.Generator, lots: Sequence[int], shares: Mapping[str, float]) -> list[str]:
    """The split of each row: lots in random order, until each split but "train" has its share of the rows.

    Args:
        draw: of the order.
        lots: of the rows; a lot is never divided.
        shares: of the rows; the rest is "train".

    Example:
        >>> split(np.random.default_rng(0), [0, 0, 1, 1, 2, 2], {"test": 1 / 3})
        ['train', 'train', 'train', 'train', 'test', 'test']
    """
    sizes = {lot: 0 for lot in lots}
    for lot in lots:
        sizes[lot] += 1
    room = {name: share * len(lots) for name, share in shares.items()}
    found = {}
    for lot in draw.permutation(list(sizes)).tolist():
        found[lot] = next((name for name in room if room[name] > 0), "train")
        if found[lot] in room:
            room[found[lot]] -= sizes[lot]
    return [found[lot] for lot in lots]
