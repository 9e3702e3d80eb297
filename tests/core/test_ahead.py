"""Results are computed one ahead, and come in order."""

import threading

import pytest

from deepsplit_core.ahead import one_ahead


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
