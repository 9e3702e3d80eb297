"""One cell for each seed, connected, holding its seed, cut where the separation probability is highest."""

import numpy as np
import pytest
from drawing import contact, discs, picture
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from deepsplit_core.config import SplittingConfig
from deepsplit_core.seeding import combine_seeds, grow_seeds
from deepsplit_core.splitting import label_segments, split

FLAT = SplittingConfig(smallest_cell=0, largest_hole=0)


def grown(seeds, foreground, separation=None):
    return grow_seeds(seeds, foreground, np.zeros(seeds.shape, np.float32) if separation is None else separation)


def test_each_seed_gets_one_cell_of_its_number():
    foreground = picture("1111.11 1111.11 ....... 11111..") > 0
    seeds = picture("5...... ......2 ....... .......")
    # The piece at the bottom has no seed: it is no cell.
    assert grown(seeds, foreground).tolist() == picture("5555.22 5555.22 ....... .......").tolist()


def test_without_a_ridge_the_nearer_seed_gets_the_pixel():
    seeds = picture("1.......2")
    assert grown(seeds, seeds >= 0)[0, [3, 5]].tolist() == [1, 2]


@pytest.mark.parametrize("height", [0.3, 0.06])
def test_the_cut_follows_the_separation_probability(height):
    seeds = picture("1.......2")
    separation = np.zeros((1, 9), np.float32)
    separation[0, 6] = height  # below any threshold, but the only ridge between two seeds
    assert grown(seeds, seeds >= 0, separation)[0, :6].tolist() == [1] * 6
    assert grown(seeds, seeds >= 0, separation)[0, 7:].tolist() == [2, 2]


def test_noise_in_the_separation_probability_is_no_ridge():
    seeds = picture("1.......2")
    separation = np.linspace(0.04, 0.0, 9, dtype=np.float32)[None]
    assert grown(seeds, seeds >= 0, separation)[0, [3, 5]].tolist() == [1, 2]


def test_a_seed_outside_the_foreground_is_a_cell_of_its_own_pixels():
    seeds = picture("11..... 11..... ....22.")
    foreground = picture("1111... ....... .......") > 0
    assert grown(seeds, foreground).tolist() == picture("1111... 11..... ....22.").tolist()


def test_no_seed_no_cell():
    assert not grown(np.zeros((3, 4), np.int32), np.ones((3, 4), bool)).any()


def test_split_with_seeds_cuts_at_the_contact():
    truth = discs((40, 60), [(20, 18, 12), (20, 40, 12)])
    seeds = discs((40, 60), [(20, 14, 3), (20, 38, 3)])  # not in the middle of their cells
    probabilities = np.stack([truth > 0, contact(truth)]).astype(np.float32)
    labels, n_cuts, touching, small = split(probabilities, FLAT, seeds)
    assert n_cuts == 1
    assert np.array_equal(touching, labels)
    assert not small.any()
    assert np.array_equal(labels > 0, truth > 0)
    # Off the drawn border by no more than its own pixels.
    assert not (labels != truth)[~contact(truth)].any()


def test_split_with_seeds_keeps_numbers_and_fills_holes():
    probabilities = np.zeros((2, 5, 11), np.float32)
    probabilities[0, :, :5] = probabilities[0, 1:4, 7:10] = 1
    probabilities[0, 2, 3] = 0  # a hole
    seeds = np.zeros((5, 11), np.int32)
    seeds[2, 1], seeds[2, 8] = 7, 3
    assert np.unique(split(probabilities, FLAT, seeds).labels).tolist() == [0, 3, 7]
    assert split(probabilities, FLAT, seeds).labels[2, 3] == 0
    filled = split(probabilities, SplittingConfig(smallest_cell=0, largest_hole=1), seeds)
    assert filled.labels[2, 3] == 7
    dropped = split(probabilities, SplittingConfig(smallest_cell=10, smallest_share=1, largest_hole=0), seeds)
    assert np.unique(dropped.labels).tolist() == [0, 7]
    assert np.unique(dropped.small).tolist() == [0, 3]


@given(
    arrays(np.float32, st.tuples(st.just(2), st.just(9), st.just(11)), elements=st.sampled_from([0, 0.25, 0.75, 1])),
    st.sets(st.tuples(st.integers(0, 8), st.integers(0, 10)), max_size=6),
)
def test_properties_of_any_seeds(probabilities, places):
    seeds = np.zeros((9, 11), np.int32)
    for number, place in enumerate(sorted(places), start=1):
        seeds[place] = number
    labels = split(probabilities, FLAT, seeds).labels
    assert np.array_equal(labels[seeds > 0], seeds[seeds > 0])
    assert not labels[(probabilities[0] < 0.5) & (seeds == 0)].any()
    for number in range(1, len(places) + 1):
        assert label_segments(labels == number).max() == 1
    # No foreground beside a cell is left over.
    left = (probabilities[0] >= 0.5) & (labels == 0)
    grown_labels = label_segments((labels > 0) | left)
    assert not np.isin(grown_labels[left], grown_labels[labels > 0]).any()


# Seeds that were discarded


def test_seeds_discarded_at_the_border_compete_and_others_do_not():
    all_seeds = picture("11..2.. ....... .33..44 ....... .......")
    kept = picture("....1.. ....... ....... ....... .......")
    labels, n = combine_seeds(kept, all_seeds)
    assert n == 1
    # Seed 1 and 4 touch the border of the image, 3 was discarded for another reason.
    assert labels.tolist() == picture("22..1.. ....... .....55 ....... .......").tolist()


def test_seeds_discarded_at_the_border_of_the_mask_compete_too():
    all_seeds = picture("....... .1.2.3. ....... .......")
    kept = picture("....... ...1... ....... .......")
    mask = np.ones(kept.shape, bool)
    mask[:, 0] = mask[:, 6] = False
    assert combine_seeds(kept, all_seeds)[0].tolist() == kept.tolist()
    # Beside the mask's border lie seeds 1 and 3, whose pixels are inside.
    assert combine_seeds(kept, all_seeds, mask)[0].tolist() == picture("....... .2.1.4. ....... .......").tolist()


def test_a_kept_seed_is_no_competitor_of_itself_where_it_was_shrunk():
    labels, n = combine_seeds(picture("...... .1...."), picture("111... 111..."))
    assert (n, labels.tolist()) == (1, picture("...... .1....").tolist())


@pytest.mark.parametrize(("kept", "found"), [(2**16 + 1, 0), (0, 2**16 + 1), (2**30, 0), (2**32 + 5, 2**32 + 5)])
def test_numbers_far_beyond_those_of_pixels_are_refused(kept, found):
    """They would run into each other, and memory grows with the largest."""
    with pytest.raises(ValueError, match=f"The largest number of a seed is {max(kept, found)}"):
        combine_seeds(np.array([[5, 0, kept]]), np.array([[5, 0, found]]))


def test_a_mask_may_be_of_numbers():
    labels = picture("1..2..")
    mask = np.array([[1, 1, 1, 255, 0, 0]], np.uint8)
    found, _ = combine_seeds(labels * (labels == 9), labels, mask)
    assert np.array_equal(found > 0, combine_seeds(labels * 0, labels, mask > 0).labels > 0)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16, np.int64])
def test_labels_of_any_type_become_int32(dtype):
    kept = np.arange(101)[None].astype(dtype)
    all_seeds = np.concatenate([kept, kept])[:, ::-1]
    labels, n = combine_seeds(np.concatenate([kept * 0, kept]), all_seeds)
    assert (n, labels.dtype) == (100, np.int32)
    assert labels.min() == 0  # narrow types do not overflow
