"""What comes next, while what is there is used."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from typing import Callable, Iterable, Iterator, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


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
