"""Threads change nothing but the time."""

import threading

import pytest

from deepsplit_core import threads
from deepsplit_core.threads import in_threads, one_ahead


@pytest.mark.parametrize("n_threads", [1, 2])
@pytest.mark.parametrize("n_items", [0, 1, 2, 7])
def test_results_of_threads_come_in_order_and_few_ahead(monkeypatch, n_items, n_threads):
    monkeypatch.setattr(threads, "THREADS", n_threads)
    asked = []

    def items():
        for i in range(n_items):
            asked.append(i)
            yield i

    taken = []
    for result in in_threads(lambda i: i * i, items()):
        taken.append(result)
        assert len(asked) - len(taken) < 2 * n_threads
    assert taken == [i * i for i in range(n_items)]


def test_an_error_in_a_thread_is_raised_where_its_result_is_taken(monkeypatch):
    monkeypatch.setattr(threads, "THREADS", 2)
    results = in_threads(lambda i: 1 // i, [1, 0, 2])
    assert next(results) == 1
    with pytest.raises(ZeroDivisionError):
        next(results)


@pytest.mark.parametrize("n_items", [0, 1, 2, 5])
def test_results_come_in_order_one_ahead(n_items):
    started = []

    def square(i):
        started.append(i)
        return i * i

    for n_before, (item, result) in enumerate(one_ahead(square, range(n_items))):
        assert (item, result.result()) == (n_before, n_before**2)
        assert len(started) <= n_before + 2
    assert started == list(range(n_items))


def test_the_next_one_is_computed_while_one_is_used():
    is_next_started = threading.Event()
    results = one_ahead(lambda i: i == 1 and is_next_started.set(), [0, 1])
    next(results)
    assert is_next_started.wait(10)


def test_an_error_is_that_of_its_item_and_the_others_have_results():
    results = one_ahead(lambda i: 1 // i, [1, 0, 1])
    assert next(results)[1].result() == 1
    with pytest.raises(ZeroDivisionError):
        next(results)[1].result()
    assert next(results)[1].result() == 1
