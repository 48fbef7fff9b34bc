"""A function over many items in several threads, with results in order and few of them in memory."""

import collections
import concurrent.futures
import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Any


def in_order(function: Callable[[Any], Any], items: Iterable[Any], threads: int) -> Iterator[Any]:
    """Yield the result for each item; at most two per thread are computed ahead.

    The first error in the order of the items is raised, so that it does not depend on the threads.

    Example:
        >>> list(in_order(lambda x: x * x, range(4), threads=2))
        [0, 1, 4, 9]
    """
    items = iter(items)
    with concurrent.futures.ThreadPoolExecutor(threads) as pool:
        try:
            ahead = collections.deque(pool.submit(function, x) for x in itertools.islice(items, 2 * threads))
            while ahead:
                yield ahead.popleft().result()
                ahead.extend(pool.submit(function, x) for x in itertools.islice(items, 1))
        finally:
            pool.shutdown(cancel_futures=True)
