"""Holes in cells, on drawn pictures with known answers, and beside a slower way to find them."""

import numpy as np
import pytest
from drawing import picture
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from deepsplit_core.holes import fill_holes


def filled(labels, largest_hole):
    labels = labels.copy()
    fill_holes(labels, largest_hole)
    return labels


def test_hole_inside_one_cell_is_filled():
    ring = picture("11111 1...1 1...1 11111")
    assert filled(ring, 6).tolist() == np.ones((4, 5)).tolist()


def test_hole_above_the_limit_stays():
    ring = picture("11111 1...1 1...1 11111")
    assert filled(ring, 5).tolist() == ring.tolist()


def test_hole_between_two_cells_stays():
    labels = picture(
        """
        1111222
        11...22
        1111222
        """
    )
    assert filled(labels, 100).tolist() == labels.tolist()


@pytest.mark.parametrize("n_quarters", range(4))
def test_bay_at_any_border_of_the_image_stays(n_quarters):
    bay = np.rot90(picture("11111 1...1 1...1"), n_quarters)
    assert filled(bay, 100).tolist() == bay.tolist()


def test_gap_around_an_enclosed_cell_stays():
    labels = picture(
        """
        1111111
        1.....1
        1.222.1
        1.222.1
        1.....1
        1111111
        """
    )
    assert filled(labels, 100).tolist() == labels.tolist()


@pytest.mark.parametrize("n_quarters", range(4))
def test_background_that_leaks_through_a_corner_is_no_hole(n_quarters):
    # The gap in the middle meets the outside at one corner: background is connected by 8 neighbours, cells by 4.
    labels = picture(
        """
        .....
        .111.
        1..1.
        1111.
        .....
        """
    )
    labels = np.rot90(labels, n_quarters)
    assert filled(labels, 100).tolist() == labels.tolist()


def test_holes_of_several_cells_are_filled_with_their_own_labels():
    labels = picture(
        """
        111.222
        1.1.2.2
        111.222
        """
    )
    assert filled(labels, 1).tolist() == picture("111.222 111.222 111.222").tolist()


@given(
    arrays(np.int32, st.tuples(st.integers(1, 8), st.integers(1, 8)), elements=st.integers(0, 2)),
    st.integers(0, 12),
)
def test_any_labels_are_filled_as_piece_by_piece(labels, largest_hole):
    expected = labels.copy()
    pieces, n_pieces = ndimage.label(labels == 0, structure=np.ones((3, 3)))
    inner = np.zeros(labels.shape, bool)
    inner[1:-1, 1:-1] = True
    for number in range(1, n_pieces + 1):
        piece = pieces == number
        beside = np.unique(labels[ndimage.binary_dilation(piece) & ~piece])
        if inner[piece].all() and piece.sum() <= largest_hole and beside.size == 1:
            expected[piece] = beside[0]
    assert np.array_equal(filled(labels, largest_hole), expected)
