"""Masks and weights from drawn labels, checked by hand."""

import numpy as np
import pytest
from drawing import discs, picture
from scipy import ndimage

from deepsplit_core.config import SplittingConfig
from deepsplit_core.metrics import evaluate
from deepsplit_core.splitting import split
from training.data.annotations import find_annotations
from training.learning.targets import TargetConfig, make_targets, nearest_two_distances

FLAT = TargetConfig(class_balance=False, gap_weight=0)


def strip(text, height=9):
    """Labels of vertical stripes: one line, repeated."""
    return np.repeat(picture(text), height, axis=0)


def contact(text, **config):
    """The contact pixels of stripes, as a line of dots and crosses."""
    mask = make_targets(strip(text), TargetConfig(**config)).separation_mask
    assert (mask == mask[0]).all()
    return "".join("x" if pixel else "." for pixel in mask[0])


def by_force(labels):
    """Distances to the nearest two cells, from every pixel to every pixel."""
    pixels = np.stack(np.indices(labels.shape), axis=-1).reshape(-1, 2)
    all_distances = [np.full(pixels.shape[0], np.inf)] * 2
    for value in np.unique(labels[labels > 0]):
        cell = np.argwhere(labels == value)
        apart = pixels[:, None] - cell[None]
        all_distances.append(np.hypot(apart[..., 0], apart[..., 1]).min(axis=1))
    return [d.reshape(labels.shape) for d in np.sort(np.stack(all_distances), axis=0)[:2]]


# Masks


def test_cells_are_the_segmentation_mask():
    labels = discs((30, 30), [(10, 10, 6), (20, 18, 5)])
    assert np.array_equal(make_targets(labels, TargetConfig()).seg_mask, labels > 0)


@pytest.mark.parametrize(
    ("width", "expected"),
    [(0, "............"), (1, "....xx......"), (2, "...xxxx....."), (3, "..xxxxxx....")],
)
def test_contact_of_abutting_cells(width, expected):
    assert contact("111112222222", contact_width=width, contact_reach=0) == expected


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ("1111.2222", "....x...."),  # distances 1 and 1
        ("1111..222", "....xx..."),  # 1 and 2
        ("111...222", "...xxx..."),  # 1 and 3, 2 and 2
        ("111....22", "........."),  # 1 and 4: too far
    ],
)
def test_contact_across_a_gap(labels, expected):
    assert contact(labels, contact_width=1, contact_reach=4) == expected


def test_contact_reaches_into_cells_across_a_gap():
    # The last pixel of each cell is 2 from the other.
    assert contact("1111.2222", contact_width=2, contact_reach=4) == "...xxx..."


def test_outline_of_a_lone_cell_is_no_contact():
    assert not make_targets(discs((30, 30), [(15, 15, 8)]), TargetConfig()).separation_mask.any()


def test_contact_of_three_cells_that_meet():
    labels = picture("11122 11122 33333 33333")
    expected = picture("..11. 11111 11111 .....") > 0
    assert np.array_equal(make_targets(labels, TargetConfig(contact_width=1)).separation_mask, expected)


@pytest.mark.parametrize(
    ("labels", "width", "expected"),
    [
        ("1111112222", 3, "...xxxxxx."),  # cell 2 is 4 wide: its last pixel is beyond the width
        ("111111222", 3, "...xxxx.."),  # 3 wide: it would be taken whole, so the farther half stays
        ("11111122", 3, "...xxxx."),
        ("1111112", 3, "...xxx."),  # a line of one pixel is all cell; the neighbour's zone keeps it apart
        ("1111122333333", 2, "...xx..xx...."),  # between two cells every pixel is as far
    ],
)
def test_zone_never_takes_a_whole_cell(labels, width, expected):
    assert contact(labels, contact_width=width) == expected
    found = rejoined(strip(labels), make_targets(strip(labels), TargetConfig(contact_width=width)))
    # Each cell is one piece again; in the contact zone, the middle counts as the border.
    assert found.max() == strip(labels).max()
    assert evaluate(found, strip(labels)).merges == 0


def test_numbers_of_the_cells_do_not_matter():
    labels = discs((40, 40), [(12, 12, 8), (12, 27, 8), (30, 20, 8)])
    renumbered = np.array([0, 40, 7, 1000])[labels]
    for one, other in zip(make_targets(labels, TargetConfig()), make_targets(renumbered, TargetConfig())):
        assert np.array_equal(one, other)


def test_labels_are_not_modified():
    labels = discs((20, 20), [(10, 10, 6)])
    before = labels.copy()
    make_targets(labels, TargetConfig())
    assert np.array_equal(labels, before)


def test_types():
    targets = make_targets(strip("11.22").astype(np.uint16), TargetConfig())
    assert [part.dtype for part in targets] == [bool, bool, np.float32, np.float32]
    assert {part.shape for part in targets} == {(9, 5)}


def rejoined(labels, targets):
    """The cells that perfect probabilities of these targets give, without any clean-up."""
    config = SplittingConfig(smallest_cell=0, largest_hole=0, watershed=False)
    return split(np.stack([targets.seg_mask, targets.separation_mask]).astype(np.float32), config).labels


@pytest.mark.parametrize("width", [1, 2, 3])
@pytest.mark.parametrize("apart", [16, 19, 22], ids=["abut", "just abut", "gap"])
def test_perfect_probabilities_give_the_cells_back(width, apart):
    labels = discs((50, 70), [(18, 20, 10), (18, 20 + apart, 10), (18 + apart, 20, 10)])
    targets = make_targets(labels, TargetConfig(contact_width=width))
    scores = evaluate(rejoined(labels, targets), labels)
    assert scores.ap == (1,) * 5
    assert scores.dsc == 1


def test_without_contact_pixels_inside_cells_abutting_cells_stay_merged():
    """A zone in the gaps alone is not enough."""
    labels = discs((40, 60), [(20, 20, 10), (20, 37, 10)])
    assert evaluate(rejoined(labels, make_targets(labels, TargetConfig(contact_width=0))), labels).merges == 1


@pytest.mark.parametrize("width", [1, 2, 3])
@pytest.mark.parametrize("folder", ["usiigaci", "endothelium", "dsb2018"])
def test_zone_separates_touching_cells_of_real_sets(shared_data, folder, width):
    labels, ignore = find_annotations(shared_data / folder)[1].read()[1:]
    targets = make_targets(labels, TargetConfig(contact_width=width), ignore)
    assert evaluate(rejoined(labels, targets), labels, ignore).merges == 0


# Distances


@pytest.mark.parametrize("seed", range(8))
def test_distances_against_every_pair_of_pixels(seed):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 5, (11, 13)) * (rng.random((11, 13)) < 0.15)
    for found, expected in zip(nearest_two_distances(labels, reach=100), by_force(labels)):
        np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_distances_beyond_the_reach_are_infinite():
    labels = strip("1.........2")
    nearest, second = nearest_two_distances(labels, reach=5)
    expected = [d[0] for d in by_force(labels)]
    assert nearest[0].tolist() == expected[0].tolist()
    assert second[0].tolist() == np.where(expected[1] <= 5, expected[1], np.inf).tolist()


# Weights (eq. 1)


@pytest.mark.parametrize(
    ("gap_distance", "exponents"),
    [("sum", [3**2, 3**2]), ("squares", [1**2 + 2**2, 2**2 + 1**2])],
)
def test_gap_term_of_equation_1(gap_distance, exponents):
    config = TargetConfig(class_balance=False, gap_weight=10, gap_sigma=2, gap_distance=gap_distance)
    weights = make_targets(strip("1111..2222"), config).weight_map[4]
    expected = [1 + 10 * np.exp(-exponent / (2 * 2**2)) for exponent in exponents]
    assert weights[4:6] == pytest.approx(expected)
    assert weights[:4].tolist() == weights[6:].tolist() == [1] * 4  # on background alone


def test_gap_term_fades_with_the_distance():
    weights = make_targets(strip("11.............22"), TargetConfig(class_balance=False, gap_sigma=3)).weight_map
    assert weights[0, 8] == pytest.approx(1 + 10 * np.exp(-(14**2) / (2 * 9)), abs=1e-3)


def test_lone_cell_has_no_gap_term():
    labels = discs((30, 30), [(15, 15, 8)])
    assert (make_targets(labels, TargetConfig(class_balance=False)).weight_map == 1).all()


@pytest.mark.parametrize("radius", [3, 8, 14])
def test_class_balance_gives_foreground_the_weight_of_the_background(radius):
    labels = discs((30, 30), [(15, 15, radius)])
    seg_mask, _, weights, _ = make_targets(labels, TargetConfig())
    assert weights[seg_mask].sum() == pytest.approx(weights[~seg_mask].sum(), rel=1e-5)
    assert np.unique(weights[seg_mask]).size == 1
    assert (weights[~seg_mask] == 1).all()


def test_class_balance_counts_the_gap_weights():
    """A confluent sheet has no background but gaps, which weigh up to ten times as much."""
    weights = make_targets(strip("1111.2222.3333"), TargetConfig()).weight_map
    assert weights[0, 4] > 5
    assert weights[0, :4].sum() == pytest.approx(weights[0, [4, 9]].sum() / 3, rel=1e-5)


@pytest.mark.parametrize("value", [0, 1])
def test_image_of_one_class_has_finite_weights_that_count(value):
    """An empty field, or a confluent one: the loss is a sum of weights over their sum."""
    weights = make_targets(np.full((8, 8), value), TargetConfig()).weight_map
    assert np.isfinite(weights).all()
    assert weights.sum() > 0


# Weights of the separation loss


def test_separation_weights_of_the_paper():
    """5 on cells, 22.6 on contact, inside cells and between them, 1 on the background (3.2)."""
    targets = make_targets(strip("..1111.22"), TargetConfig(contact_width=2))
    expected = [1, 1, 5, 5, 5, 22.6, 22.6, 22.6, 5]
    assert targets.separation_weights[0] == pytest.approx(expected)


# Pixels that nobody annotated


def ignoring(text, ignored, **config):
    """Targets of stripes, in which a line of dots and i's tells what is ignored."""
    ignore = np.repeat(np.array([[c == "i" for c in ignored]]), 9, axis=0)
    return make_targets(strip(text), TargetConfig(**config), ignore)


def test_ignored_pixels_weigh_nothing():
    targets = ignoring("1111....22", "....ii....", gap_weight=10)
    assert (targets.weight_map[0] == 0).tolist() == [c == "i" for c in "....ii...."]
    assert (targets.separation_weights[:, 4:6] == 0).all()


@pytest.mark.parametrize(
    ("ignored", "unknown"),
    [
        ("....iii...", "..xxxxx..."),  # it would abut: 2 pixels of the cell would be contact
        ("......iii.", "....xxxxx."),  # a gap of 2: the distances add up to 3
        (".......ii.", "....xxxxx."),  # to 4
        ("........i.", "........x."),  # to 5: no contact, whatever is there
    ],
)
def test_contact_with_a_possible_cell_is_not_learned_from(ignored, unknown):
    """There may be a cell in what is ignored: pixels beside it are no examples of "no contact"."""
    targets = ignoring("1111......", ignored, contact_width=2, contact_reach=4)
    assert (targets.separation_weights[0] == 0).tolist() == [c == "x" for c in unknown]
    assert (targets.weight_map[0] == 0).tolist() == [c == "i" for c in ignored]


def test_contact_between_known_cells_counts_beside_ignored_pixels():
    targets = ignoring("111122222...", ".........iii", contact_width=2)
    assert targets.separation_weights[0, 2:6] == pytest.approx([22.6] * 4)
    targets = ignoring("111222.....", "......iiiii", contact_width=2)
    assert targets.separation_weights[0, 1:5] == pytest.approx([22.6] * 4)


def test_class_balance_is_that_of_the_annotated_pixels():
    labels = discs((30, 30), [(15, 8, 6), (15, 24, 5)])
    ignore = np.indices(labels.shape)[1] >= 16
    seg_mask, _, weights, _ = make_targets(labels, TargetConfig(gap_weight=0), ignore)
    assert weights[seg_mask].sum() == pytest.approx(weights[~seg_mask].sum(), rel=1e-5)
    left = make_targets(labels[:, :16], TargetConfig(gap_weight=0))
    assert np.unique(weights[:, :16][seg_mask[:, :16]]) == np.unique(left.weight_map[left.seg_mask])


def test_confluent_sheet_with_ignored_pixels_has_finite_weights():
    weights = make_targets(np.ones((8, 8), int), TargetConfig(), np.eye(8, dtype=bool)).weight_map
    assert np.array_equal(weights, 1 - np.eye(8))


def test_nothing_ignored_changes_nothing():
    labels = discs((40, 40), [(12, 12, 8), (12, 27, 8), (30, 20, 8)])
    targets = make_targets(labels, TargetConfig(), np.zeros(labels.shape, bool))
    for one, other in zip(targets, make_targets(labels, TargetConfig())):
        assert np.array_equal(one, other)


def test_confluent_sheet_with_unknown_cells(shared_data):
    """The endothelium set: all pixels are of a cell or ignored; cells beside ignored pixels have rims of weight 0."""
    labels, ignore = find_annotations(shared_data / "endothelium")[0].read()[1:]
    targets = make_targets(labels, TargetConfig(), ignore)
    assert np.array_equal(targets.weight_map > 0, ~ignore)
    is_unknown = (targets.separation_weights == 0) & ~ignore
    rim = ndimage.distance_transform_edt(~ignore) <= 2
    assert is_unknown.any()
    assert np.array_equal(is_unknown, rim & ~ignore & ~targets.separation_mask)


@pytest.mark.parametrize(
    ("field", "value"),
    [("contact_width", -1), ("contact_reach", -1), ("gap_weight", -1), ("gap_sigma", 0), ("gap_distance", "product")],
)
def test_wrong_settings(field, value):
    with pytest.raises(ValueError, match=f"TargetConfig.{field} is"):
        TargetConfig(**{field: value})


def test_flat_weights():
    assert (make_targets(strip("11.22"), FLAT).weight_map == 1).all()
