"""The whole flow, on a network whose answer is known: cells are brighter than 0.3, contact is grey 0.6."""

import dataclasses

import numpy as np
import pytest
from drawing import as_sets, contact, disc, discs, grid_of_pairs, photograph
from networks import CONTACT_GREY, card_of, wired_network, write_weights

import deepsplit_core
from deepsplit_core import (
    Seeds,
    SegmentConfig,
    SplittingConfig,
    evaluate,
    predict,
    segment,
    segmentation,
    split_prediction,
)
from deepsplit_core.config import PreprocessingConfig
from deepsplit_core.sizes import brightest_window, typical_diameter
from deepsplit_core.weights import read_card, write

PAIR = discs((40, 60), [(20, 18, 12), (20, 40, 12)])


def drawn(labels):
    """An image that the wired network reads: background 0, cells 1, contact between."""
    return np.where(contact(labels), CONTACT_GREY, labels > 0).astype(np.float32)


def run(image, weights, mask=None, **settings):
    config = SegmentConfig(model=str(weights), device="cpu", **settings)
    return split_prediction(predict(image, config, mask), config)


def test_drawn_cells_come_back(wired_weights):
    labels = segment(drawn(PAIR), str(wired_weights), device="cpu")
    assert labels.dtype == np.int32
    assert as_sets(labels) == as_sets(PAIR)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32, np.float32, np.float64])
def test_any_unit_and_type_gives_the_same_cells(wired_weights, dtype):
    image = (drawn(PAIR) * 200 + 30).astype(dtype)
    assert as_sets(segment(image, str(wired_weights), device="cpu")) == as_sets(PAIR)


def test_bool_image(wired_weights):
    labels = segment(discs((40, 40), [(10, 10, 6), (28, 25, 8)]) > 0, str(wired_weights), device="cpu")
    assert labels.max() == 2


def test_image_is_not_modified(wired_weights):
    image = drawn(PAIR)
    before = image.copy()
    segment(image, str(wired_weights), device="cpu")
    assert np.array_equal(image, before)


def test_lists_and_read_only_arrays_are_images(wired_weights):
    image = drawn(PAIR)
    image.flags.writeable = False
    assert segment(image, str(wired_weights), device="cpu").max() == 2
    assert segment(image.tolist(), str(wired_weights), device="cpu").max() == 2


# Sizes and empty images


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (15, 17), (5000, 37)])
def test_any_size(tiny_weights, shape):
    image = np.random.default_rng(0).integers(0, 4096, shape, dtype=np.uint16)
    labels = segment(image, str(tiny_weights), device="cpu")
    assert (labels.shape, labels.dtype) == (shape, np.int32)


def test_cells_at_both_ends_of_a_long_image(wired_weights):
    truth = discs((2500, 37), [(12, 18, 8), (1020, 18, 8), (1030, 30, 4), (2490, 18, 8)])
    assert as_sets(segment(drawn(truth), str(wired_weights), device="cpu", watershed=False)) == as_sets(truth)


@pytest.mark.parametrize("value", [0, 7, 65535])
def test_constant_image_has_no_cells(wired_weights, value):
    result = run(np.full((30, 20), value, np.uint16), wired_weights)
    assert not result.labels.any()
    assert result.n_cuts == 0


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.full((4, 4), np.nan), "NaN or infinity in 16 of 16 values"),
        (np.arange(48).reshape(4, 4, 3), "3 colour channels"),
        (np.zeros((5, 4, 6)), "3 dimensions"),
        (np.zeros((0, 4)), "no pixels"),
    ],
)
def test_unusable_images_are_refused(wired_weights, image, message):
    with pytest.raises(ValueError, match=message):
        segment(image, str(wired_weights), device="cpu")


# Settings


def test_unknown_setting_is_refused():
    with pytest.raises(ValueError, match=r"SegmentConfig does not know \['diametre'\]; it knows .*'diameter'"):
        segment(np.zeros((4, 4)), diametre=30)


def test_settings_reach_the_splitting(wired_weights):
    image = drawn(PAIR)
    assert run(image, wired_weights, smallest_cell=1000).labels.max() == 0
    assert run(image, wired_weights, separation_threshold=1).labels.max() == 1
    with_gap = run(image, wired_weights, contact_to_cells=False).labels
    assert with_gap.max() == 2
    assert not with_gap[contact(PAIR)].any()


def test_watershed_setting_and_cuts_are_reported(wired_weights):
    whole = (PAIR > 0).astype(np.float32)  # no contact drawn: the watershed has to find it
    cut = run(whole, wired_weights, longest_cut=14)
    assert (cut.labels.max(), cut.n_cuts) == (2, 1)
    assert run(whole, wired_weights, longest_cut=14, watershed=False).labels.max() == 1
    assert run(whole, wired_weights, longest_cut=1).labels.max() == 1


def test_unset_settings_are_the_cards(tmp_path):
    network = wired_network()
    card = card_of(network, splitting=SplittingConfig(smallest_cell=1000))
    path = write_weights(tmp_path / "w.safetensors", network, card)
    assert run(drawn(PAIR), path).labels.max() == 0
    assert run(drawn(PAIR), path, smallest_cell=10).labels.max() == 2


def test_wrong_setting_is_refused(wired_weights):
    with pytest.raises(ValueError, match=r"segmentation_threshold is 1\.5, but it must be "):
        run(drawn(PAIR), wired_weights, segmentation_threshold=1.5)


def test_cells_at_the_border_are_discarded_if_so_asked(wired_weights):
    truth = discs((40, 60), [(4, 20, 9), (24, 40, 8)])
    assert run(drawn(truth), wired_weights).labels.max() == 2
    inner = run(drawn(truth), wired_weights, discard_border=True).labels
    assert as_sets(inner) == as_sets(np.where(truth == 2, 1, 0))


# What is discarded, and what is left of it


def drawn_sizes():
    """A large, a middle and a tiny cell inside, and a middle one at the border."""
    truth = discs((60, 80), [(25, 25, 16), (25, 60, 8), (50, 60, 2), (56, 20, 8)])
    return truth, truth.astype(bool).astype(np.float32)


def test_each_kind_of_discarded_cell_is_where_it_belongs(wired_weights):
    truth, image = drawn_sizes()
    large, middle, tiny, border = range(1, 5)

    def cells(*kept):
        return as_sets(np.where(np.isin(truth, kept), truth, 0))

    found = run(image, wired_weights, smallest_cell=50, largest_cell=500, discard_border=True, watershed=False)
    assert as_sets(found.labels) == cells(middle)
    assert as_sets(found.small_removed_labels) == cells(large, middle, border)
    assert as_sets(found.all_labels) == cells(large, middle, border, tiny)
    for labels in (found.labels, found.small_removed_labels, found.all_labels):
        assert np.array_equal(np.unique(labels), np.arange(labels.max() + 1))
    (number,) = found.numbers
    assert np.array_equal(found.touching == number, found.labels == 1)


@pytest.mark.parametrize("contact_to_cells", [True, False])
@pytest.mark.parametrize("diameter", [8, 12, 16, 20])
def test_a_smallest_cell_leaves_all_others_as_they_are(wired_weights, contact_to_cells, diameter):
    """Cells of many sizes in contact: the pixels of a discarded one are nobody's."""
    rng = np.random.default_rng(0)
    truth = discs((90, 120), [(y, x, rng.uniform(3, 14)) for y in range(12, 90, 22) for x in range(12, 120, 16)])
    smallest = np.pi / 4 * diameter**2
    everything = run(drawn(truth), wired_weights, contact_to_cells=contact_to_cells)
    kept = run(drawn(truth), wired_weights, contact_to_cells=contact_to_cells, smallest_cell=smallest)
    areas = np.bincount(everything.labels.ravel())
    large = np.where(areas[everything.labels] >= smallest, everything.labels, 0)
    assert 0 < kept.labels.max() < everything.labels.max()
    assert as_sets(kept.labels) == as_sets(large) == as_sets(kept.small_removed_labels)
    assert as_sets(kept.all_labels) == as_sets(everything.all_labels)
    assert kept.n_cuts == everything.n_cuts and np.array_equal(kept.touching, everything.touching)
    # What is measured of a cell is what it was.
    is_kept = np.isin(np.arange(1, areas.size), large)
    for name in ("contact_share", "cut_length", "mean_probability"):
        before, after = (getattr(deepsplit_core.measure_cells(found), name) for found in (everything, kept))
        assert np.array_equal(after, before[is_kept])


def test_the_largest_and_the_smallest_cell_are_limits_that_are_still_kept(wired_weights):
    truth, image = drawn_sizes()
    _, large, middle, *_ = np.bincount(truth.ravel()).tolist()
    assert run(image, wired_weights, watershed=False, largest_cell=large).labels.max() == 4
    assert run(image, wired_weights, watershed=False, largest_cell=large - 1).labels.max() == 3
    assert run(image, wired_weights, watershed=False, smallest_cell=middle).labels.max() == 2
    assert run(image, wired_weights, watershed=False, smallest_cell=middle + 1).labels.max() == 1


def test_what_is_too_small_for_the_model_and_for_the_user_stays_apart(wired_weights):
    image = np.zeros((40, 60), np.float32)
    image[1, 5:7] = image[2, 40:42] = image[5:25, 5:25] = image[9:13, 40:44] = 1  # specks, a cell, one of 16 pixels
    image[30, 54:56] = 1  # a speck outside the mask
    mask = np.indices(image.shape)[1] < 50
    found = run(image, wired_weights, mask, smallest_cell=50)
    assert (found.labels.max(), found.small_removed_labels.max(), found.all_labels.max()) == (1, 1, 4)


def test_background_is_not_small_however_little_there_is(wired_weights):
    image = np.ones((20, 20), np.float32)
    image[:2, :2] = 0
    image[0, 0] = 1  # a speck
    assert np.argwhere(run(image, wired_weights, smallest_cell=50).small).tolist() == [[0, 0]]


def test_a_mask_may_hold_numbers(wired_weights):
    mask = np.where(PAIR == 2, 0, 255).astype(np.uint8)
    expected = run(drawn(PAIR), wired_weights, mask > 0).labels
    assert expected.max() == 1
    assert np.array_equal(run(drawn(PAIR), wired_weights, mask).labels, expected)


def test_cells_at_the_border_of_the_mask_are_discarded_if_so_asked(wired_weights):
    truth, image = drawn_sizes()
    mask = np.ones(truth.shape, bool)
    mask[:, 62:] = False  # through the middle cell, beside the tiny one
    assert run(image, wired_weights, mask, watershed=False, smallest_cell=1).labels.max() == 4
    assert run(image, wired_weights, watershed=False, smallest_cell=1, discard_mask_border=True).labels.max() == 4
    found = run(image, wired_weights, mask, watershed=False, smallest_cell=1, discard_mask_border=True)
    assert as_sets(found.labels) == as_sets(np.where(np.isin(truth, (1, 4)), truth, 0))
    found = run(image, wired_weights, mask, watershed=False, smallest_cell=1, discard_border=True)
    assert found.labels.max() == 3


def test_a_largest_cell_below_the_smallest_is_refused():
    with pytest.raises(ValueError, match=r"largest_cell is 10, but it must be at least the smallest cell \(20\)"):
        SegmentConfig(smallest_cell=20, largest_cell=10)
    assert SegmentConfig(smallest_cell=20, largest_cell=20).largest_cell == 20


# Seeds


def seeded(weights, seeds, n=None, image=None, mask=None, **settings):
    config = SegmentConfig(model=str(weights), device="cpu", **settings)
    image = drawn(PAIR) if image is None else image
    return split_prediction(predict(image, config, mask), config, Seeds(seeds, int(seeds.max()) if n is None else n))


def test_cells_have_the_numbers_of_their_seeds(wired_weights):
    seeds = np.zeros(PAIR.shape, np.int32)
    seeds[20, 40], seeds[20, 18] = 1, 2
    found = seeded(wired_weights, seeds)
    assert found.seeds.tolist() == [1, 2]
    assert (found.labels[20, 40], found.labels[20, 18]) == (1, 2)
    assert as_sets(found.labels) == as_sets(PAIR)


def test_a_discarded_cell_leaves_no_gap_in_the_numbers(wired_weights):
    truth = discs((60, 80), [(4, 12, 9), (30, 40, 9), (30, 65, 9)])  # the first at the border
    seeds = discs((60, 80), [(4, 12, 2), (30, 40, 2), (30, 65, 2)])
    found = seeded(wired_weights, seeds, image=drawn(truth), discard_border=True)
    assert found.seeds.tolist() == [2, 3]
    assert np.array_equal(found.labels, np.where(truth > 1, truth - 1, 0))
    assert np.array_equal(found.small_removed_labels, np.where(truth == 1, 3, found.labels))


def test_cells_of_discarded_seeds_keep_their_pixels_and_are_discarded(wired_weights):
    seeds = np.zeros(PAIR.shape, np.int32)
    seeds[20, 18], seeds[20, 40] = 1, 2
    found = seeded(wired_weights, seeds, n=1)
    assert found.seeds.tolist() == [1]
    assert as_sets(found.labels) == as_sets(np.where(PAIR == 1, 1, 0))
    assert as_sets(found.small_removed_labels) == as_sets(PAIR)


def test_the_models_smallest_cell_does_not_drop_a_seed_and_the_users_does(wired_weights):
    seeds = np.zeros(PAIR.shape, np.int32)
    seeds[1, 1] = 1  # one pixel, outside the foreground; the card's smallest cell has 5
    assert seeded(wired_weights, seeds).labels.sum() == 1
    found = seeded(wired_weights, seeds, smallest_cell=2)
    assert (found.labels.max(), found.small_removed_labels.max(), found.all_labels.max()) == (0, 0, 1)


def test_a_seed_outside_the_mask_has_no_cell_and_no_cut(wired_weights):
    """Three touching seeds in a row, the first one outside."""
    truth = discs((40, 80), [(20, x, 12) for x in (18, 40, 62)])
    mask = np.indices(truth.shape)[1] >= 35
    found = seeded(wired_weights, truth, image=drawn(truth), mask=mask)
    assert (found.n_cuts, found.seeds.tolist(), found.numbers.tolist()) == (1, [2, 3], [1, 2])
    assert np.array_equal(found.labels, np.where(mask & (truth > 1), truth - 1, 0))
    assert np.array_equal(found.touching, found.labels)


def test_seeds_of_another_shape_are_refused(wired_weights):
    with pytest.raises(ValueError, match=r"seeds have the shape \(3, 4\), the image \(40, 60\)"):
        seeded(wired_weights, np.zeros((3, 4), np.int32))


# Expected diameter


@pytest.mark.parametrize("diameter", [10, 20, 40, 66])
def test_diameter_rescales_for_the_network_and_back(wired_weights, diameter):
    """Cells of any diameter look to the network as those it was trained on (20 pixels)."""
    scale = diameter / 20
    circles = [(y * scale, x * scale, 5 * scale) for y, x in ((10, 10), (10, 30), (30, 12), (28, 34))]
    truth = discs((round(41 * scale), round(47 * scale)), circles)
    result = run((truth > 0).astype(np.float32), wired_weights, diameter=diameter)
    assert result.labels.shape == truth.shape
    assert result.prediction.scale == scale
    scores = evaluate(result.labels, truth)
    assert (scores.n_predicted, scores.matched_above_half) == (4, 4)
    assert scores.dsc > 0.9


def test_network_sees_the_rescaled_image(wired_weights, looks):
    for diameter in (40, 10, 0):
        run(drawn(PAIR), wired_weights, diameter=diameter)
    assert looks == [(20, 30), (80, 120), (40, 60)]


def test_sizes_of_the_card_follow_the_diameter_and_those_of_the_user_do_not(wired_weights):
    # The card's smallest cell is 5 pixels at a diameter of 20: 20 pixels at 40.
    image = np.zeros((60, 60), np.float32)
    image[4:8, 4:8] = image[20:40, 20:40] = 1  # 16 and 400 pixels
    assert run(image, wired_weights).labels.max() == 2
    assert run(image, wired_weights, diameter=40).labels.max() == 1
    assert run(image, wired_weights, diameter=40, smallest_cell=5).labels.max() == 2


@pytest.mark.parametrize("shape", [(1, 1), (3, 400)])
def test_shrinking_leaves_a_pixel_at_least(wired_weights, shape):
    image = np.random.default_rng(0).random(shape)
    assert run(image, wired_weights, diameter=200).labels.shape == shape


@pytest.mark.parametrize("diameter", [1.9, 201, float("inf"), 1e9])
def test_diameter_far_from_the_cards_is_refused(wired_weights, diameter):
    """An image is not enlarged until memory ends, nor shrunk to a single pixel."""
    with pytest.raises(ValueError, match="diameter"):
        run(drawn(PAIR), wired_weights, diameter=diameter)


# Mask


def test_no_cells_outside_the_mask(wired_weights):
    truth = discs((40, 100), [(20, 18, 12), (20, 60, 12), (20, 82, 12)])  # a pair in contact is outside
    mask = np.zeros(truth.shape, bool)
    mask[:, :40] = True
    assert run(drawn(truth), wired_weights).prediction.probabilities[1, ~mask].any()
    result = run(drawn(truth), wired_weights, mask)
    assert as_sets(result.labels) == as_sets(np.where(truth == 1, 1, 0))
    assert not result.prediction.probabilities[:, ~mask].any()


def test_threshold_that_would_make_everything_cell_is_refused(wired_weights):
    """A probability of 0 is at least 0: outside the mask, and in a constant image, there would be cells."""
    for image, mask in ((drawn(PAIR), disc(PAIR.shape, (20, 18), 14)), (np.zeros((30, 20)), None)):
        with pytest.raises(ValueError, match="segmentation_threshold"):
            run(image, wired_weights, mask, segmentation_threshold=0.0)
    mask = disc(PAIR.shape, (20, 18), 14)
    assert not run(drawn(PAIR), wired_weights, mask, segmentation_threshold=1e-6).labels[~mask].any()


def test_grey_values_outside_the_mask_do_not_count(wired_weights):
    truth = discs((40, 80), [(20, 18, 12), (20, 60, 12)])
    image = drawn(truth)
    mask = np.zeros(truth.shape, bool)
    mask[:, :40] = True
    image[:, 40:] *= 1000  # as brightest, it would make everything else black
    assert run(image, wired_weights, mask).labels.max() == 1


def test_constant_inside_the_mask_has_no_cells(wired_weights):
    assert not run(drawn(PAIR), wired_weights, mask=PAIR == 0).labels.any()
    assert not run(drawn(PAIR), wired_weights, mask=np.zeros(PAIR.shape, bool)).labels.any()


def test_mask_of_another_shape_is_refused(wired_weights):
    with pytest.raises(ValueError, match=r"mask has the shape \(40, 59\), its image \(40, 60\)"):
        run(drawn(PAIR), wired_weights, mask=np.ones((40, 59), bool))


# What is reported


def test_prediction_tells_how_it_was_made(wired_weights):
    prediction = run(drawn(PAIR), wired_weights).prediction
    assert prediction.card == read_card(wired_weights)
    assert prediction.probabilities.shape == (2, *PAIR.shape)
    assert (prediction.device, prediction.scale) == ("cpu", 1.0)
    assert prediction.dtype in ("float32", "bfloat16", "int8")
    assert len(prediction.sha256) == 64
    assert prediction.tile == 1024
    assert run(np.ones((9, 9)), wired_weights).prediction.tile == 0  # the network did not run
    assert prediction.seconds > 0


def test_splitting_again_needs_no_network(wired_weights):
    """The settings of the splitting can be tried on one prediction."""
    config = SegmentConfig(model=str(wired_weights), device="cpu")
    prediction = predict(drawn(PAIR), config)
    wired_weights.unlink()
    for smallest_cell, n in ((10, 2), (1000, 0)):
        again = SegmentConfig(model="gone", smallest_cell=smallest_cell)
        assert split_prediction(prediction, again).labels.max() == n


# The bundled model


def test_bundled_model_splits_touching_nuclei():
    circles, shape = grid_of_pairs(3, 3)
    truth = discs(shape, circles)
    labels = segment(photograph(truth), device="cpu")
    assert abs(int(labels.max()) - 18) <= 1
    assert evaluate(labels, truth).cds >= 0.9


def test_bundled_model_at_twice_the_size():
    circles, shape = grid_of_pairs(2, 2, radius=20, apart=36, spacing=96)
    truth = discs(shape, circles)
    diameter = 2 * read_card(deepsplit_core.weights.path_of("nuclei")).diameter
    labels = segment(photograph(truth, blur=2), device="cpu", diameter=diameter)
    assert evaluate(labels, truth).cds >= 0.85


@pytest.mark.parametrize("diameter", [24, 96])
def test_bundled_cells_are_seen_at_the_size_that_they_have(diameter):
    """Of five drawn sheets and clumps, four at least: one may show too little of its borders."""
    from training.simulation import simulate

    ratios = []
    for seed in range(500, 505):
        drawn_cells = simulate(seed, (400, 400), diameter)
        prediction = predict(drawn_cells.image, SegmentConfig(model="cells", device="cpu"))
        ratios.append(prediction.scale * prediction.card.diameter / typical_diameter(drawn_cells.labels))
    assert sum(0.75 < ratio < 1.33 for ratio in ratios) >= 4


@pytest.mark.parametrize("folder", ["dsb2018", "bbbc039"])
def test_bundled_model_on_real_nuclei(shared_data, folder):
    """Three annotated images of each kind: no measurement, but a model or a change that breaks them shows."""
    from training.data.annotations import find_annotations
    from training.results.evaluation import predict_all, score

    model = deepsplit_core.load_model("nuclei", "cpu")
    images = predict_all(model, find_annotations(shared_data / folder)[5:8])
    scores = score(images, model.card.splitting)
    assert scores.n_true > 30
    assert scores.dsc > 0.8
    assert scores.cds > 0.7


def test_a_model_sees_its_images_shrunk_and_its_lengths_are_those_of_the_image(tmp_path):
    """Cells in a pattern of single pixels, which halving turns into grey: only the shrunk image has cells."""
    preprocessing = PreprocessingConfig("percentile", low=0, high=100, shrink=2.0)
    path = tmp_path / "shrinking.safetensors"
    write(path, card_of(wired_network(), preprocessing=preprocessing), wired_network().state_dict())
    truth = discs((81, 93), [(20, 20, 10), (20, 60, 10), (60, 24, 10), (56, 68, 10)])
    dotted = 0.8 * (truth > 0) * (np.indices(truth.shape).sum(axis=0) % 2)
    dotted[0, 0] = 1  # what is brightest is 1 to the network
    assert not run(dotted, write_weights(tmp_path / "whole.safetensors", wired_network())).labels.any()
    result = run(dotted, path)
    assert result.prediction.scale == 1
    assert result.splitting == read_card(path).splitting  # in pixels of the image, not of what the network saw
    assert result.labels.shape == truth.shape
    scores = evaluate(result.labels, truth)
    assert (scores.n_predicted, scores.matched_above_half) == (4, 4)
    assert scores.dsc > 0.9


# A model that sees all cells at one size


@pytest.fixture
def one_size(tmp_path):
    """The wired network for cells of 12 pixels."""
    network = wired_network()
    preprocessing = PreprocessingConfig("percentile", low=0, high=100, diameter=12.0)
    card = card_of(network, preprocessing=preprocessing, diameter=12.0)
    return write_weights(tmp_path / "one.safetensors", network, card)


@pytest.fixture
def looks(monkeypatch):
    """The shapes in which the network has seen images."""
    from deepsplit_core import inference

    shapes, predict_in_memory = [], inference.predict_in_memory

    def seen(network, image, *others):
        shapes.append(image.shape)
        return predict_in_memory(network, image, *others)

    monkeypatch.setattr(inference, "predict_in_memory", seen)
    return shapes


@pytest.mark.parametrize(("radius", "scale"), [(18, 3), (6, 1), (4, 0.67)])
def test_cells_of_any_size_are_seen_at_the_models(one_size, looks, radius, scale):
    image = drawn(discs((180, 120), [(40, 40, radius), (120, 70, radius)]))
    found = run(image, one_size)
    assert found.prediction.scale == pytest.approx(scale, rel=0.05)
    assert found.splitting.longest_cut == pytest.approx(4 * found.prediction.scale)
    assert found.labels.shape == image.shape and found.labels.max() == 2
    assert looks[0] == image.shape
    assert looks[-1] == tuple(round(n / found.prediction.scale) for n in image.shape)
    assert len(looks) == (1 if scale == 1 else 2)


def test_a_given_diameter_is_not_estimated(one_size, looks):
    image = drawn(discs((180, 120), [(40, 40, 18), (120, 70, 18)]))
    assert run(image, one_size, diameter=24).prediction.scale == 2
    assert looks == [(90, 60)]


@pytest.mark.parametrize(("radius", "scale"), [(28, 2.8), (18, 1), (4, 1)])
def test_another_model_looks_again_at_what_is_more_than_twice_as_large(wired_weights, looks, radius, scale):
    """Its cells have 20 pixels."""
    image = drawn(discs((180, 120), [(40, 40, radius), (130, 70, radius)]))
    found = run(image, wired_weights)
    assert found.prediction.scale == pytest.approx(scale, rel=0.05)
    assert found.labels.max() == 2
    assert len(looks) == (1 if scale == 1 else 2)


def test_the_users_smallest_cell_holds_for_any_image(wired_weights):
    image = drawn(discs((80, 120), [(20, 20, 5), (20, 60, 5), (50, 60, 3)]))
    card = dataclasses.replace(read_card(wired_weights).splitting, smallest_cell=40)
    assert SegmentConfig().splitting(card, 1).smallest_share == 0.25
    assert run(image, wired_weights, smallest_cell=40).labels.max() == 2
    assert run(image, wired_weights, smallest_cell=20).labels.max() == 3


def test_estimates_have_an_end(one_size, looks):
    """What fills the image is no cell of 400 pixels to be seen at a thirtieth of its size."""
    image = np.zeros((500, 500), np.float32)
    image[20:480, 20:480] = 1
    assert run(image, one_size).prediction.scale == 4
    dots = drawn(discs((60, 60), [(20, 20, 1), (40, 40, 1)]))  # of 2.5 pixels, to be seen at nearly five times that
    assert run(dots, one_size).prediction.scale == 0.25


def test_an_image_is_looked_at_three_times_at_most(one_size, looks, monkeypatch):
    estimates = iter([2.0, 3.0, 3.5])
    monkeypatch.setattr(segmentation, "estimated_scale", lambda *_: next(estimates))
    assert run(drawn(PAIR), one_size).prediction.scale == 3
    assert len(looks) == 3


def test_a_large_image_is_seen_as_a_whole_once(one_size, looks, monkeypatch):
    """Its size is found out in its brightest part, and not from what lies outside the mask."""
    monkeypatch.setattr(segmentation, "brightest_window", lambda image: brightest_window(image, side=80))
    image = drawn(discs((200, 180), [(30, 30, 18), (150, 40, 6), (150, 140, 70)]))
    mask = np.ones(image.shape, bool)
    mask[:, 75:] = False
    found = run(image, one_size, mask)
    assert found.prediction.scale == pytest.approx(3, rel=0.05)
    assert looks == [(80, 80), (27, 27), (67, 60)]
    assert found.labels[30, 30] > 0 and found.labels.shape == image.shape


def test_sizes_are_those_of_the_cells_inside_the_mask(one_size):
    image = drawn(discs((180, 120), [(40, 40, 6), (120, 60, 50)]))
    mask = np.zeros(image.shape, bool)
    mask[:65] = True
    assert run(image, one_size, mask).prediction.scale == 1
