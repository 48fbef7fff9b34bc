"""Buckets of relative positions: near ones have a bucket each, farther ones share buckets on a logarithmic scale."""

import math

import numpy as np
from jaxtyping import Int


def relative_buckets(length: int, buckets: int, reach: int) -> Int[np.ndarray, "q s"]:
    """Return the bucket of each key relative to each query: the first half for keys before it, the second for later.

    Formula: n if n < B / 4, else B / 4 + ⌊B / 4 · log(4 n / B) / log(4 reach / B)⌋, at most B / 2 − 1, with B buckets
        and the distance n; + B / 2 for later keys

    Args:
        length: number of positions.
        buckets: B.
        reach: distance from which on all have the last bucket.

    Source: Raffel et al., T5, 2019, https://arxiv.org/abs/1910.10683

    Example:
        >>> relative_buckets(4, 8, 16).tolist()
        [[0, 5, 6, 6], [1, 0, 5, 6], [2, 1, 0, 5], [2, 2, 1, 0]]
    """
    half, exact = buckets // 2, buckets // 4
    relative = np.arange(length)[None] - np.arange(length)[:, None]
    distance = np.abs(relative)
    ratio = np.maximum(distance, exact).astype(np.float32) / np.float32(exact)  # rounded as published models do
    far = np.log(ratio) / np.float32(math.log(reach / exact)) * np.float32(half - exact)
    far = np.minimum(exact + far.astype(np.int32), half - 1)
    return (np.where(distance < exact, distance, far) + half * (relative > 0)).astype(np.int32)


def signed_buckets(length: int, buckets: int, reach: int) -> Int[np.ndarray, "q s"]:
    """Return the bucket of each query relative to each key, with the sign of q − s; the middle is 0.

    Formula: n if n ≤ B / 2, else B / 2 + ⌈(B / 2 − 1) · log(2 n / B) / log(2 (reach − 1) / B)⌉, with the distance n

    Args:
        length: number of positions.
        buckets: B; 0 returns the relative position itself.
        reach: distance that has the last bucket.

    Source: He et al., DeBERTa, 2020, https://arxiv.org/abs/2006.03654

    Example:
        >>> signed_buckets(7, 4, 7)[6].tolist()
        [3, 3, 3, 3, 2, 1, 0]
    """
    relative = np.arange(length)[:, None] - np.arange(length)[None]
    if buckets < 1:
        return relative.astype(np.int32)
    half = buckets // 2
    ratio = np.maximum(np.abs(relative), half).astype(np.float32) / np.float32(half)  # rounded as published models do
    far = np.log(ratio) / np.log(np.float32((reach - 1) / half)) * np.float32(half - 1)
    far = np.ceil(far).astype(np.int32) + half
    return np.where(np.abs(relative) <= half, relative, far * np.sign(relative)).astype(np.int32)
