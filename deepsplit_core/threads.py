"""Several things at a time, their results in order."""

from __future__ import annotations

import os
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain, islice
from typing import Callable, Iterable, Iterator, TypeVar

THREADS = min(os.cpu_count() or 1, 8)

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_threads(function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """Return the results of the items in their order; as many are computed at a time as there are processors.

    For functions that spend their time in compiled code which lets other threads run, as that of scipy does. What was
    computed and not yet taken stays small.
    """
    rest = iter(items)
    first = list(islice(rest, THREADS))
    if len(first) < 2:  # one item or one processor: no threads to start
        yield from map(function, chain(first, rest))
        return
    with ThreadPoolExecutor(THREADS) as pool:
        while first:
            yield from pool.map(function, first)
            first = list(islice(rest, THREADS))


def one_ahead(function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[tuple[Item, Future[Result]]]:
    """Yield each item with its result to come, while that of the next one is computed already.

    One at a time is computed, and no more than two are there.
    """
    pool = ThreadPoolExecutor(1)
    try:
        before = None
        for item in items:
            current = item, pool.submit(function, item)
            if before is not None:
                yield before
            before = current
        if before is not None:
            yield before
    finally:
        pool.shutdown(wait=False)
