"""Group-aware data splits: rows of one group stay in one split."""

from collections.abc import Hashable, Mapping, Sequence

import numpy as np


def joined(keys: Sequence[Sequence[Hashable]]) -> list[int]:
    """Group rows that share a key, directly or transitively (connected components).

    Args:
        keys: keys of each row.

    Returns:
        Group index of each row, numbered in order of appearance.

    Example:
        >>> joined([["a"], ["b"], ["c", "b"], ["d"], ["a", "d"]])
        [0, 1, 1, 0, 0]
    """
    parent: dict[Hashable, Hashable] = {}

    def root(key):
        while parent.setdefault(key, key) != key:
            key = parent[key]
        return key

    for row_keys in keys:
        for key in row_keys[1:]:
            parent[root(key)] = root(row_keys[0])
    roots = [root(row_keys[0]) for row_keys in keys]
    number = {r: i for i, r in enumerate(dict.fromkeys(roots))}
    return [number[r] for r in roots]


def split(draw: np.random.Generator, lots: Sequence[int], shares: Mapping[str, float]) -> list[str]:
    """Assign each row to a split, keeping groups together.

    Groups are assigned in random order until each split other than "train" has its share of the rows.

    Args:
        draw: random generator for the order of the groups.
        lots: group index of each row; a group is never divided.
        shares: split -> share of the rows; the remaining rows are "train".

    Example:
        >>> split(np.random.default_rng(0), [0, 0, 1, 1, 2, 2], {"test": 1 / 3})
        ['train', 'train', 'train', 'train', 'test', 'test']
    """
    sizes = {lot: 0 for lot in lots}
    for lot in lots:
        sizes[lot] += 1
    room = {name: share * len(lots) for name, share in shares.items()}
    assigned = {}
    for lot in draw.permutation(list(sizes)).tolist():
        assigned[lot] = next((name for name in room if room[name] > 0), "train")
        if assigned[lot] in room:
            room[assigned[lot]] -= sizes[lot]
    return [assigned[lot] for lot in lots]
