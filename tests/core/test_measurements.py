"""What is measured of cells, against values counted by hand on drawn cells."""

import numpy as np
import pytest
from drawing import picture

from deepsplit_core import (
    Prediction,
    Seeds,
    SegmentConfig,
    centres,
    measure_cells,
    predict,
    read_card,
    split_prediction,
)

DRAWN = picture(
    """
    ...........
    .111222....
    .111222....
    .111222..44
    .111222..44
    ...333.....
    ...333.....
    """
)


def found_in(labels, weights, mask=None, segmentation=None, **settings):
    """The segmentation in which each drawn cell is a seed of itself."""
    segmentation = (labels > 0).astype(np.float32) if segmentation is None else segmentation
    prediction = Prediction(
        np.stack([segmentation, np.zeros_like(segmentation)]), read_card(weights), 1.0, "", "cpu", "", 0.0, mask, 64
    )
    return split_prediction(prediction, SegmentConfig(**settings), Seeds(labels, int(labels.max())))


def test_contact_and_cuts_of_drawn_cells(tiny_weights):
    measured = measure_cells(found_in(DRAWN, tiny_weights))
    # Cells 1 and 2 are 3 x 4 and share 4 sides; cell 3 is 3 x 2, with 1 side at cell 1 and 2 at cell 2.
    assert measured.contact_share == pytest.approx([5 / 14, 6 / 14, 3 / 10, 0])
    assert measured.cut_length == pytest.approx([5, 6, 3, 0])
    assert measured.n_cuts == 3


def test_a_cut_on_a_slant_has_its_true_length(tiny_weights):
    measured = measure_cells(found_in(picture("1111112 1111222 1122222"), tiny_weights))
    assert measured.cut_length == pytest.approx([5, 5])
    assert measured.contact_share == pytest.approx([7 / 18, 7 / 16])  # in pixel sides, as the outline is


def test_the_border_of_the_image_and_of_the_mask_is_touched(tiny_weights):
    assert measure_cells(found_in(DRAWN, tiny_weights)).touches_border.tolist() == [0, 0, 1, 1]
    mask = np.ones(DRAWN.shape, bool)
    mask[:, 0] = False
    assert measure_cells(found_in(DRAWN, tiny_weights, mask)).touches_border.tolist() == [1, 0, 1, 1]


def test_the_probability_is_averaged_over_the_cell(tiny_weights):
    segmentation = np.select([DRAWN == 1, DRAWN == 2, DRAWN > 2], [0.9, 0.6, 1.0]).astype(np.float32)
    segmentation[1, 1] = 0.6
    measured = measure_cells(found_in(DRAWN, tiny_weights, segmentation=segmentation))
    assert measured.mean_probability == pytest.approx([(11 * 0.9 + 0.6) / 12, 0.6, 1, 1])


def test_cells_that_were_discarded_are_still_in_contact(tiny_weights):
    mask = np.ones(DRAWN.shape, bool)
    found = found_in(DRAWN, tiny_weights, mask, largest_cell=11)  # cells 1 and 2 have 12 pixels
    assert found.labels.max() == 2
    measured = measure_cells(found)
    assert measured.contact_share == pytest.approx([3 / 10, 0])
    assert measured.cut_length == pytest.approx([3, 0])
    assert measured.touches_border.tolist() == [1, 1]


def test_contact_is_measured_across_the_gap(wired_weights):
    """Whether or not contact pixels go to the cells, the cells are in contact."""
    image = np.zeros((14, 24), np.float32)
    image[2:12, 2:10] = image[2:12, 12:20] = 1
    image[2:12, 10:12] = 0.6
    shares = []
    for contact_to_cells in (True, False):
        config = SegmentConfig(model=str(wired_weights), device="cpu", contact_to_cells=contact_to_cells)
        found = split_prediction(predict(image, config), config)
        measured = measure_cells(found)
        assert found.n_cuts == 0  # the network separated them, not the watershed
        assert measured.n_cuts == 1
        assert measured.cut_length.tolist() == [10, 10]
        shares.append(measured.contact_share.tolist())
    assert shares[0] == shares[1]


def test_centres_are_the_means_of_the_pixels():
    labels = picture("113.. 11..3 .2222")
    expected = [[np.nonzero(labels == n)[axis].mean() for axis in (0, 1)] for n in (1, 2, 3)]
    assert centres(labels).tolist() == expected


def test_no_cells_no_values(tiny_weights):
    measured = measure_cells(found_in(np.zeros((4, 5), np.int32), tiny_weights))
    assert [len(values) for values in measured[:4]] == [0, 0, 0, 0]
    assert measured.n_cuts == 0


def test_values_have_one_type_whether_or_not_cells_touch(tiny_weights):
    for drawn in ("110 000 022", "112 112 112"):
        measured = measure_cells(found_in(picture(drawn.replace("0", ".")), tiny_weights))
        assert [values.dtype.kind for values in measured[:4]] == ["f", "f", "f", "i"]
