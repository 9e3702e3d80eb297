"""Scores on cases whose counts are known: `stardist.matching`'s definitions of TP, FP, FN and AP."""

import numpy as np
import pytest
from drawing import disc, discs, picture
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from deepsplit_core.metrics import AP_THRESHOLDS, Scores, evaluate, evaluate_all, overlap_of


def squares(*boxes, shape=(40, 120)):
    """Labels 1..n of squares (y, x, height, width)."""
    labels = np.zeros(shape, np.int32)
    for label, (y, x, height, width) in enumerate(boxes, 1):
        labels[y : y + height, x : x + width] = label
    return labels


def test_labels_below_0_are_cells_in_every_score():
    labels = -picture("11.22")
    scores = evaluate(labels, labels)
    assert (scores.dsc, scores.cds) == (1, 1)


def test_equal_labellings_score_one_whatever_the_numbers():
    truth = picture("11.22 11.22 ..... 333..")
    scores = evaluate(np.where(truth > 0, 100 - 7 * truth, 0), truth)
    assert (scores.n_true, scores.n_predicted, scores.merges, scores.splits) == (3, 3, 0, 0)
    assert scores.dsc == scores.cds == scores.cds_by_position == 1
    assert scores.ap == (1,) * 5


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.uint64, np.float64])
@pytest.mark.parametrize("factor", [1, 60, 10**6])
def test_scores_do_not_hang_on_how_cells_are_numbered(dtype, factor):
    """Cells numbered far beyond the number of pixels, or in another type, are the same cells."""
    truth, found = picture("11.22 11.22 ..... 333.."), picture("1.222 11.22 ..... 333.4")
    ignore = picture("....1 ....1 ..... ....1") > 0
    numbered = (found * min(factor, 60 if dtype == np.uint8 else factor)).astype(dtype)
    assert evaluate(numbered, truth, ignore) == evaluate(found, truth, ignore)
    assert evaluate(truth, numbered) == evaluate(truth, found)


def test_one_cell_may_be_a_mask():
    mask = picture("11... 11...") > 0
    assert evaluate(mask, mask) == evaluate(mask.astype(np.int32), mask)
    assert evaluate(mask, mask).n_true == 1


def test_iou_of_a_shifted_square():
    # 10 x 10, shifted by 2: 80 pixels in common, 120 in either.
    truth, predicted = squares((5, 5, 10, 10)), squares((5, 7, 10, 10))
    assert overlap_of(truth, predicted).iou() == pytest.approx([80 / 120])
    scores = evaluate(predicted, truth)
    assert scores.true_positives == (1, 1, 0, 0, 0)
    assert scores.dsc == pytest.approx(2 * 80 / 200)
    assert scores.cds == 1


def test_iou_of_a_shifted_disc():
    truth, predicted = disc((60, 60), (30, 25), 15).astype(int), disc((60, 60), (30, 33), 15).astype(int)
    # The lens of two circles of radius 15 whose centres are 8 apart.
    lens = 2 * 15**2 * np.arccos(8 / 30) - 4 * np.sqrt(4 * 15**2 - 8**2)
    (iou,) = overlap_of(truth, predicted).iou()
    assert iou == pytest.approx(lens / (2 * np.pi * 15**2 - lens), abs=0.01)


@pytest.mark.parametrize(("threshold", "common"), [(0.5, 10), (0.6, 12), (0.7, 14), (0.8, 16), (0.9, 18)])
def test_a_threshold_is_met_by_equality(threshold, common):
    # 20 pixels of which `common` are found, and nothing else: the IoU is exactly the threshold.
    truth, predicted = squares((0, 0, 1, 20)), squares((0, 0, 1, common))
    n_met = AP_THRESHOLDS.index(threshold) + 1
    assert evaluate(predicted, truth).true_positives == (1,) * n_met + (0,) * (5 - n_met)


def test_cds_asks_for_more_than_half():
    truth = squares((0, 0, 1, 20))
    assert evaluate(squares((0, 0, 1, 10)), truth).matched_above_half == 0
    assert evaluate(squares((0, 0, 1, 11)), truth).matched_above_half == 1


def test_two_halves_match_a_cell_once():
    # Both halves have an IoU of exactly 0.5 with the cell: one true positive, one false positive.
    truth, halves = squares((0, 0, 2, 20)), squares((0, 0, 2, 10), (0, 10, 2, 10))
    scores = evaluate(halves, truth)
    assert scores.true_positives[0] == 1
    assert scores.ap[0] == pytest.approx(1 / 2)
    assert scores.cds == 0
    assert evaluate(truth, halves).true_positives[0] == 1


def test_matches_are_as_many_as_possible():
    # Cell 1 could match a or b, cell 2 only a: a greedy choice of (1, a) would leave 2 and b alone.
    truth = squares((0, 0, 1, 4), (0, 4, 1, 2))
    predicted = squares((0, 0, 1, 2), (0, 2, 1, 4))
    iou = overlap_of(truth, predicted).pixels.toarray()
    assert iou.tolist() == [[2, 2], [0, 2]]
    assert evaluate(predicted, truth).true_positives[0] == 2  # IoU 2/4 and 2/4


def test_merge_counts_as_the_paper_says():
    """A merge is two false negatives and one false positive (3.3)."""
    truth = squares((5, 5, 20, 20), (5, 25, 20, 20))
    merged = (truth > 0).astype(int)
    scores = evaluate(merged, truth)
    assert (scores.merges, scores.splits) == (1, 0)
    assert scores.dsc == 1
    assert scores.cds == 0
    assert scores.n_true - scores.matched_above_half == 2
    assert scores.n_predicted - scores.matched_above_half == 1
    assert scores.ap[0] == pytest.approx(1 / 2)  # an IoU of exactly 0.5 with one of them


def test_merge_of_three_is_one_merge():
    truth = squares((0, 0, 5, 10), (0, 10, 5, 10), (0, 20, 5, 10))
    assert evaluate((truth > 0).astype(int), truth).merges == 1


def test_split_is_a_merge_seen_from_the_other_side():
    truth = squares((5, 5, 20, 20), (5, 25, 20, 20))
    scores = evaluate(truth, (truth > 0).astype(int))
    assert (scores.merges, scores.splits) == (0, 1)


def test_cell_that_covers_a_corner_of_another_is_no_merge():
    truth = squares((0, 0, 10, 10), (0, 10, 10, 10))
    predicted = squares((0, 0, 10, 15), (0, 15, 10, 5))  # half of cell 2, not more
    assert evaluate(predicted, truth).merges == 0


def test_missed_and_invented_cells():
    truth = squares((0, 0, 10, 10), (0, 20, 10, 10), (0, 40, 10, 10))
    predicted = squares((0, 0, 10, 10), (20, 0, 10, 10))
    scores = evaluate(predicted, truth)
    # TP 1, FP 1, FN 2.
    assert scores.ap == (pytest.approx(1 / 4),) * 5
    assert scores.cds == pytest.approx(2 / (2 + 1 + 2))
    assert scores.dsc == pytest.approx(2 * 100 / 500)


# Position and area (the paper's reading)


@pytest.mark.parametrize(("shift", "n_matches"), [(0, 1), (5, 1), (6, 0)])
def test_position_within_half_a_radius(shift, n_matches):
    # The radius of a disc of 400 pixels is 11.28, half of it 5.64.
    truth, predicted = squares((5, 5, 20, 20)), squares((5, 5 + shift, 20, 20))
    assert evaluate(predicted, truth).matched_by_position == n_matches


@pytest.mark.parametrize(("width", "n_matches"), [(10, 1), (9, 0), (40, 1), (41, 0)])
def test_area_within_a_factor_of_two(width, n_matches):
    truth = squares((0, 50, 40, 20))
    predicted = squares((0, 60 - width // 2, 40, width))
    assert evaluate(predicted, truth).matched_by_position == n_matches


def test_position_and_area_match_one_to_one():
    truth = squares((10, 10, 20, 20))
    predicted = squares((10, 10, 10, 20), (20, 10, 10, 20))  # two halves, both near and half as large
    assert evaluate(predicted, truth).matched_by_position == 1


# Empty images


def test_nothing_found_where_nothing_is():
    nothing = np.zeros((5, 6), int)
    scores = evaluate(nothing, nothing)
    assert (scores.dsc, scores.cds, scores.cds_by_position, scores.ap) == (1, 1, 1, (1,) * 5)
    assert (scores.n_true, scores.n_predicted) == (0, 0)


@pytest.mark.parametrize("is_truth_empty", [False, True])
def test_one_side_empty(is_truth_empty):
    nothing, cells = np.zeros((5, 5), int), picture("11... 11... ..... ...22 ...22")
    scores = evaluate(*((cells, nothing) if is_truth_empty else (nothing, cells)))
    assert (scores.dsc, scores.cds, scores.cds_by_position, scores.ap) == (0, 0, 0, (0,) * 5)
    assert (scores.n_true, scores.n_predicted) == ((0, 2) if is_truth_empty else (2, 0))


def test_image_full_of_cells_has_no_background():
    truth = picture("1122 1122")
    assert evaluate(truth, truth).ap == (1,) * 5


# Pixels that nobody annotated


def ignored(*box, shape=(40, 120)):
    """A mask of one box (y, x, height, width)."""
    return squares(box, shape=shape) > 0


def test_cell_predicted_where_nobody_annotated_is_neither_right_nor_wrong():
    truth = squares((0, 0, 10, 10))
    predicted = squares((0, 0, 10, 10), (20, 0, 10, 10))
    assert evaluate(predicted, truth).cds < 1
    assert evaluate(predicted, truth, ignored(20, 0, 10, 10)) == evaluate(truth, truth)


@pytest.mark.parametrize(("n_ignored", "n_predicted"), [(50, 1), (51, 0)])
def test_cell_is_left_out_when_more_than_half_of_it_is_ignored(n_ignored, n_predicted):
    predicted, nothing = squares((0, 0, 1, 100)), squares()
    scores = evaluate(predicted, nothing, ignored(0, 0, 1, n_ignored))
    assert (scores.n_predicted, scores.predicted_pixels) == (n_predicted, 50 * n_predicted)
    assert evaluate(nothing, predicted, ignored(0, 0, 1, n_ignored)).n_true == n_predicted


def test_cells_are_compared_outside_of_the_ignored_pixels():
    # The prediction runs 10 pixels on into what nobody annotated: outside of it the two agree.
    truth, predicted = squares((0, 0, 10, 20)), squares((0, 0, 10, 30))
    assert evaluate(predicted, truth, ignored(0, 20, 10, 20)) == evaluate(truth, truth)
    assert evaluate(predicted, truth, ignored(0, 20, 10, 20)).common_pixels == 200


def test_ignore_mask_may_be_of_numbers():
    truth, predicted = picture("11.22 11.22"), picture("11.2. 11.2.")
    ignore = 255 * picture("....1 ....1").astype(np.uint8)
    scores = evaluate(predicted, truth, ignore)
    assert scores == evaluate(predicted, truth, ignore > 0)
    assert (scores.cds, scores.true_pixels) == (1, 6)


def test_mask_without_ignored_pixels_changes_nothing():
    truth = discs((40, 80), [(12, 14, 9), (28, 20, 8), (14, 60, 10)])
    predicted = np.roll(truth, 3, axis=1)
    assert evaluate(predicted, truth, np.zeros(truth.shape, bool)) == evaluate(predicted, truth)


def test_everything_ignored_leaves_nothing_to_compare():
    truth = squares((0, 0, 10, 10))
    assert evaluate(truth, truth, np.ones(truth.shape, bool)) == Scores()


def test_ignoring_does_not_modify_the_labels():
    truth, predicted = squares((0, 0, 10, 10)), squares((0, 5, 10, 10))
    copies = truth.copy(), predicted.copy()
    evaluate(predicted, truth, ignored(0, 0, 10, 8))
    assert np.array_equal(truth, copies[0])
    assert np.array_equal(predicted, copies[1])


def test_ignore_mask_of_another_size_is_refused():
    with pytest.raises(ValueError, match=r"ignored pixels has the shape \(4, 4\), the truth \(40, 120\)"):
        evaluate(squares(), squares(), np.zeros((4, 4), bool))


# Sums


def test_counts_of_images_are_added_before_the_scores():
    truth = squares((0, 0, 10, 10), (0, 20, 10, 10))
    found, missed = evaluate(truth, truth), evaluate(np.zeros_like(truth), truth)
    both = found + missed
    assert both == evaluate_all([(truth, truth), (np.zeros_like(truth), truth)])
    assert both.n_true == 4
    assert both.true_positives == (2,) * 5
    assert both.cds == pytest.approx(2 * 2 / (4 + 2))
    assert both.ap[0] == pytest.approx(2 / 4)
    assert both.dsc == pytest.approx(2 * 200 / (400 + 200))


def test_image_cut_in_two_scores_like_the_whole():
    truth = discs((40, 80), [(12, 14, 9), (28, 20, 8), (14, 60, 10), (30, 66, 6)])
    predicted = np.roll(truth, 2, axis=0)
    halves = [(predicted[:, :40], truth[:, :40]), (predicted[:, 40:], truth[:, 40:])]
    assert evaluate_all(halves) == evaluate(predicted, truth)


def test_each_image_is_compared_under_its_own_ignore_mask():
    truth, extra = squares((0, 0, 10, 10)), squares((0, 0, 10, 10), (20, 0, 10, 10))
    scores = evaluate_all([(extra, truth, ignored(20, 0, 10, 10)), (extra, truth, None), (extra, truth)])
    assert (scores.n_true, scores.n_predicted) == (3, 5)


def test_no_image_has_no_counts():
    assert evaluate_all([]) == Scores()


def test_report_has_plain_names_and_numbers():
    truth = picture("11.22")
    report = evaluate(truth, truth).to_dict()
    assert report["ap_0.5"] == report["dsc"] == 1
    assert {"cds", "cds_by_position", "ap_0.9", "merges", "splits", "n_true", "n_predicted"} < set(report)
    assert all(type(value) in (int, float) for value in report.values())


def test_images_of_two_sizes_are_refused():
    with pytest.raises(ValueError, match=r"\(2, 3\), the truth \(3, 2\)"):
        evaluate(np.zeros((2, 3), int), np.zeros((3, 2), int))


@pytest.mark.parametrize("shapes", [((2, 3, 4), (2, 3, 4)), ((3, 4), (2, 3, 4)), ((2, 3, 4), (3, 4)), ((5,), (5,))])
def test_what_is_no_label_image_is_refused(shapes):
    with pytest.raises(ValueError, match=r"label images \(Y, X\) are needed"):
        evaluate(*(np.zeros(shape, int) for shape in shapes))


@pytest.mark.parametrize("value", [0.5, np.nan, np.inf])
@pytest.mark.parametrize("name", ["prediction", "truth"])
def test_values_that_are_no_whole_numbers_are_refused(value, name):
    pair = [np.array([[0, value]]), np.array([[0.0, 1.0]])]
    with pytest.raises(ValueError, match=f"The {name} holds float64 values that are no whole numbers"):
        evaluate(*(pair if name == "prediction" else pair[::-1]))


label_images = arrays(np.int32, st.tuples(st.integers(1, 8), st.integers(1, 8)), elements=st.integers(0, 4))


@given(label_images, st.randoms(use_true_random=False))
def test_scores_against_the_definitions(truth, random):
    """Every count from plain sets of pixels, for any two labellings."""
    predicted = truth.copy()
    for _ in range(random.randrange(truth.size + 1)):
        predicted[random.randrange(truth.shape[0]), random.randrange(truth.shape[1])] = random.randrange(5)
    sets = [
        [set(np.flatnonzero(labels == value).tolist()) for value in np.unique(labels[labels > 0])]
        for labels in (truth, predicted)
    ]
    iou = {(i, j): len(a & b) / len(a | b) for i, a in enumerate(sets[0]) for j, b in enumerate(sets[1])}
    scores = evaluate(predicted, truth)
    assert (scores.n_true, scores.n_predicted) == (len(sets[0]), len(sets[1]))
    assert scores.matched_above_half == sum(value > 0.5 for value in iou.values())
    for threshold, n_matches in zip(AP_THRESHOLDS, scores.true_positives):
        assert n_matches == most_pairs([pair for pair, value in iou.items() if value >= threshold])
    covers = {(i, j): len(sets[0][i] & sets[1][j]) for i, j in iou}
    assert scores.merges == sum(
        sum(covers[i, j] > len(sets[0][i]) / 2 for i in range(len(sets[0]))) > 1 for j in range(len(sets[1]))
    )
    assert scores.splits == sum(
        sum(covers[i, j] > len(sets[1][j]) / 2 for j in range(len(sets[1]))) > 1 for i in range(len(sets[0]))
    )
    assert 0 <= scores.dsc <= 1 and 0 <= scores.cds <= 1 and sorted(scores.ap, reverse=True) == list(scores.ap)
    swapped = evaluate(truth, predicted)
    assert (swapped.ap, swapped.cds, swapped.dsc) == (scores.ap, scores.cds, scores.dsc)
    assert (swapped.merges, swapped.splits) == (scores.splits, scores.merges)


def most_pairs(pairs):
    """The most pairs that share no member, by trying all."""
    if not pairs:
        return 0
    (i, j), rest = pairs[0], pairs[1:]
    return max(most_pairs(rest), 1 + most_pairs([(a, b) for a, b in rest if a != i and b != j]))
