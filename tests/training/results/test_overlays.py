"""What became of every cell, on drawings whose answer is known."""

import numpy as np
import pytest
from drawing import picture

from deepsplit_core.metrics import overlap_of
from training.learning.validation import fullest_window
from training.results.overlays import (
    COLOURS,
    CUT_COLOUR,
    IGNORED_COLOUR,
    IN_PIECES,
    LARGEST,
    MERGED,
    RIGHT,
    WRONG,
    draw,
    judge,
)

# A cell that is right, two that are merged, one in two pieces, one missed; and at the end one that nobody outlined.
TRUTH = picture("""
    11.2233.444444.55...
    11.2233.444444.55...
    11.2233.444444.55...
""")
FOUND = picture("""
    11.2222.334444....55
    11.2222.333444....55
    11.2222.333444....55
""")


def test_verdicts_by_hand():
    verdicts = judge(overlap_of(TRUTH, FOUND))
    assert list(verdicts.truth) == [RIGHT, MERGED, MERGED, IN_PIECES, WRONG]
    assert list(verdicts.found) == [RIGHT, MERGED, IN_PIECES, IN_PIECES, WRONG]


def test_merge_that_counts_as_found_is_shown_as_a_merge():
    """A small neighbour is swallowed: by its overlap the large cell is right, and a person has to see it anyway."""
    verdicts = judge(overlap_of(picture("1111112"), picture("1111111")))
    assert (list(verdicts.truth), list(verdicts.found)) == ([MERGED, MERGED], [MERGED])


@pytest.mark.parametrize(("found", "verdict"), [("111111....", RIGHT), ("11111.....", WRONG), (".....11111", WRONG)])
def test_cell_is_right_from_above_half_on(found, verdict):
    """As the scores count it: a common area of 6 of 10 pixels is right, of 5 of 10 it is not."""
    verdicts = judge(overlap_of(picture("1111111111"), picture(found)))
    assert (list(verdicts.truth), list(verdicts.found)) == ([verdict], [verdict])


def test_nothing_annotated_and_nothing_found():
    empty = np.zeros((4, 4), int)
    assert [len(verdicts) for verdicts in judge(overlap_of(empty, empty))] == [0, 0]
    assert draw(empty, empty, empty, empty > 0).image.shape == (LARGEST, LARGEST, 3)


@pytest.mark.parametrize("corner", [(0, 0), (0, 900), (700, 0), (700, 900), (300, 500)])
def test_part_with_most_errors_is_shown(corner):
    wrong = np.zeros((740, 960), bool)
    wrong[corner[0] : corner[0] + 30, corner[1] : corner[1] + 30] = True
    part = fullest_window(wrong, LARGEST)
    assert wrong[part].shape == (LARGEST, LARGEST)
    assert wrong[part].sum() == wrong.sum()


def test_small_image_is_shown_whole_and_enlarged():
    panels = draw(np.zeros(TRUTH.shape), TRUTH, FOUND, TRUTH < 0)
    assert panels.part == (slice(0, 3), slice(0, 20))
    assert panels.truth.shape == (3 * 24, 20 * 24, 3)


def colours_in(panel):
    return {tuple(colour) for colour in panel.reshape(-1, 3).tolist()}


def test_outlines_have_the_colours_of_their_verdicts():
    ignore = np.zeros(TRUTH.shape, bool)
    ignore[:, 17] = True
    panels = draw(np.zeros(TRUTH.shape), TRUTH, FOUND, ignore)
    assert colours_in(panels.image) == {(0, 0, 0), IGNORED_COLOUR}
    assert colours_in(panels.truth) == colours_in(panels.image) | set(map(tuple, COLOURS.tolist()))
    assert colours_in(panels.found) == colours_in(panels.truth) | {CUT_COLOUR}
    assert tuple(panels.truth[0, 2 * 24 - 1]) == tuple(COLOURS[RIGHT])
    assert tuple(panels.found[36, 24 * 11 - 1]) == CUT_COLOUR  # between the pieces of cell 4
    assert tuple(panels.truth[0, 24 * 15]) == tuple(COLOURS[WRONG])


def test_cells_that_nobody_annotated_are_not_judged():
    """The found cell at the right is no error where nobody has looked."""
    ignore = np.zeros(TRUTH.shape, bool)
    ignore[:, 17:] = True
    panels = draw(np.zeros(TRUTH.shape), TRUTH, FOUND, ignore)
    assert tuple(COLOURS[WRONG]) not in colours_in(panels.found)
