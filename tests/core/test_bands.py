"""Bands of rows, and what is counted in them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from deepsplit_core import bands
from deepsplit_core.bands import areas_of, centres, is_at_least, new_image, runs, typical_area


@pytest.mark.parametrize("shape", [(1, 1), (7, 3), (8, 3), (9, 100), (0, 5), (5, 0)])
def test_bands_cover_every_row_once(monkeypatch, shape):
    monkeypatch.setattr(bands, "BAND_PIXELS", 12)
    rows = [row for band in bands.bands(shape) for row in range(band.start, band.stop)]
    assert rows == list(range(shape[0]))
    assert all(band.stop - band.start >= 3 or band.stop == shape[0] for band in bands.bands(shape, at_least=3))


@given(st.integers(0, 5), st.integers(0, 5000), st.sampled_from([bool, np.float32]))
def test_rows_of_a_new_image_are_never_a_power_of_two_of_bytes_apart(n_rows, n_columns, dtype):
    image = new_image((n_rows, n_columns), dtype)
    assert image.shape == (n_rows, n_columns) and image.dtype == dtype
    distance = image.base.shape[1]
    assert distance >= n_columns and distance % 32 == 16


@given(arrays(np.int32, st.tuples(st.integers(1, 9), st.integers(1, 9)), elements=st.integers(0, 6)))
def test_areas_add_up_over_bands(labels):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bands, "BAND_PIXELS", 10)
        assert areas_of(labels).tolist() == np.bincount(labels.ravel()).tolist()


@pytest.mark.parametrize(("areas", "typical"), [([0, 30, 50, 40], 40), ([0, 1, 1, 2], 1), ([7], 0), ([7, 0], 0)])
def test_the_typical_cell_holds_the_middle_pixel_whatever_the_order(areas, typical):
    assert typical_area(np.array(areas)) == typical


def test_a_threshold_between_two_numbers_of_the_array_is_not_rounded():
    """0.3 is no float16: the nearest one is above it, and the next one below is not reached."""
    values = np.array([[np.float16(0.3), np.nextafter(np.float16(0.3), np.float16(0))]])
    assert is_at_least(values, 0.3).tolist() == [[True, False]]


@given(st.floats(0, 1) | st.integers(0, 0x3C00).map(lambda bits: float(np.uint16(bits).view(np.float16))))
def test_all_float16_from_0_to_1_compare_as_in_float32(threshold):
    values = np.arange(0x3C00 + 1, dtype=np.uint16).view(np.float16)[None]
    expected = values.astype(np.float32) >= np.float32(threshold)
    assert np.array_equal(is_at_least(values, threshold), expected)
    assert np.array_equal(is_at_least(values.astype(np.float32), threshold), expected)


@given(arrays(np.int32, st.tuples(st.integers(1, 6), st.integers(1, 6)), elements=st.integers(0, 2)))
def test_runs_are_the_rows_in_short(labels):
    numbers, starts, lengths = runs(labels)
    assert np.array_equal(np.repeat(numbers, lengths), labels.ravel())
    assert np.array_equal(np.cumsum(lengths) - lengths, starts)
    rows, last_rows = starts // labels.shape[1], (starts + lengths - 1) // labels.shape[1]
    assert np.array_equal(rows, last_rows)  # none goes on in the next row


@pytest.mark.parametrize("shape", [(0, 3), (3, 0)])
def test_an_image_without_pixels_has_no_runs(shape):
    assert [part.size for part in runs(np.zeros(shape, np.int32))] == [0, 0, 0]


def test_labels_may_be_of_64_bits_without_sign():
    labels = np.array([[0, 2, 2], [1, 2, 2]], np.uint64)
    assert areas_of(labels).tolist() == [1, 1, 4]
    assert centres(labels).tolist() == [[1, 0], [0.5, 1.5]]
