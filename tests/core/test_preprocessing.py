"""Grey values of any type and unit become the network's input."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from skimage.exposure import equalize_hist

from deepsplit_core.config import PreprocessingConfig
from deepsplit_core.preprocessing import check_image, is_constant, preprocess, to_grey

EQUALISE = PreprocessingConfig("equalise")
PERCENTILE = PreprocessingConfig("percentile")
BOTH = pytest.mark.parametrize("config", [EQUALISE, PERCENTILE], ids=["equalise", "percentile"])


def counts(shape=(40, 30), seed=0):
    """A skewed 12-bit image, as a camera gives it."""
    return (np.random.default_rng(seed).gamma(2, 300, shape)).clip(0, 4095).astype(np.uint16)


# What is accepted


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int8, np.uint16, np.int64, np.float16, np.float32, np.float64])
def test_every_grey_type_is_accepted(dtype):
    image = np.eye(4).astype(dtype)
    assert check_image(image) is image


@pytest.mark.parametrize("n_channels", [3, 4])
def test_a_grey_image_stored_as_a_colour_one_is_grey(n_channels):
    image = np.arange(20, dtype=np.uint8).reshape(4, 5)
    stored = np.repeat(image[..., None], n_channels, axis=-1)
    stored[..., 3:] = 255
    assert np.array_equal(check_image(stored), image)
    for channel in range(3):
        coloured = stored.copy()
        coloured[2, 1, channel] += 1
        with pytest.raises(ValueError, match=f"{n_channels} colour channels"):
            check_image(coloured)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((5, 4), complex), "values of type complex128, but integers, floats or bools are needed"),
        ("cells.tif", "is the text 'cells.tif': read the file first"),
        (np.array([[None]]), "values of type object"),
        (np.arange(60).reshape(5, 4, 3), r"3 colour channels \(shape \(5, 4, 3\)\).*convert it to grey"),
        (np.arange(80).reshape(5, 4, 4), "4 colour channels"),
        (np.zeros((9, 5, 2)), r"3 dimensions \(shape \(9, 5, 2\)\)"),  # two channels, not grey and opacity
        (np.zeros((9, 5, 6)), r"3 dimensions \(shape \(9, 5, 6\)\).*choose one plane or one channel"),
        (np.zeros(5), "1 dimensions"),
        (np.float32(3), "0 dimensions"),
        (np.zeros((2, 0)), r"no pixels \(shape \(2, 0\)\)"),
        (np.array([[1, np.nan], [2, 3]]), "NaN or infinity in 1 of 4 values"),
        (np.full((2, 2, 3), np.nan), "NaN or infinity in 12 of 12 values"),
        (np.array([[1, np.inf], [-np.inf, 3]]), "NaN or infinity in 2 of 4 values"),
        (np.ma.masked_equal([[1, 2], [3, 4]], 3), "is a masked array.*the argument `mask` of `deepsplit_core.predict`"),
    ],
)
def test_everything_else_is_refused_by_one_sentence(image, message):
    with pytest.raises(ValueError, match=message) as error:
        check_image(image)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("n_channels", [0, 3])
def test_nan_and_infinity_outside_of_the_mask_are_the_median_inside(n_channels):
    """As a division by an illumination of 0 leaves them beside a cropped well."""
    image = np.array([[np.nan, 1, 2], [np.inf, 5, -np.inf]], np.float32)
    mask = np.isfinite(image)
    stored = np.repeat(image[..., None], n_channels, axis=-1) if n_channels else image
    checked = check_image(stored, mask)
    assert checked.tolist() == [[2, 1, 2], [2, 5, 2]]
    assert checked.dtype == np.float32
    assert np.isnan(image[0, 0])  # the caller's own is as it was
    with pytest.raises(ValueError, match="NaN or infinity in 1 of 6 values"):
        check_image(image, mask | np.isnan(image))


@pytest.mark.parametrize(("offset", "unit"), [(0, 1), (1e9, 1e-3), (0, 1e-30), (-(10**15), 1)])
def test_a_person_sees_the_same_whatever_the_unit_and_the_offset(offset, unit):
    image = np.arange(400).reshape(20, 20)
    grey = to_grey(image * unit + offset)
    assert (grey.dtype, grey.min(), grey.max()) == (np.uint8, 0, 255)
    assert np.abs(grey.astype(int) - to_grey(image)).max() <= 1


def test_a_person_sees_grey_values_between_their_percentiles():
    grey = to_grey(np.arange(1001).reshape(7, 143)).ravel()
    assert (grey[5], grey[500], grey[995]) == (0, 127, 255) and grey[10] > 0 and grey[990] < 255


def test_a_person_sees_black_where_there_is_one_grey_value():
    assert not to_grey(np.full((3, 4), 7)).any()


def test_constant_images():
    assert is_constant(np.full((3, 4), 7))
    assert not is_constant(np.array([[0, 0], [0, 1]]))


def test_constant_inside_a_mask():
    image = np.array([[5, 5], [5, 9]])
    assert is_constant(image, image == 5)
    assert not is_constant(image, np.ones((2, 2), bool))
    assert is_constant(image, np.zeros((2, 2), bool))


# What comes out


@BOTH
@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.uint32, np.int64, np.float16, np.float32, np.float64])
def test_output_is_float32_from_0_to_1(config, dtype):
    result = preprocess(counts().astype(dtype), config)
    assert (result.dtype, result.shape) == (np.float32, (40, 30))
    assert (result.min() >= 0) and (result.max() == 1)


@BOTH
def test_callers_image_is_not_modified(config):
    for dtype in (np.uint16, np.float32):
        image = counts().astype(dtype)
        before = image.copy()
        preprocess(image, config)[:] = -1
        assert np.array_equal(image, before)


@BOTH
@pytest.mark.parametrize("dtype", [np.int32, np.uint32, np.float32, np.float64])
def test_type_does_not_matter(config, dtype):
    np.testing.assert_allclose(preprocess(counts().astype(dtype), config), preprocess(counts(), config), atol=1e-6)


@BOTH
@given(factor=st.floats(1e-6, 1e6), offset=st.floats(-10, 10))
def test_unit_does_not_matter(config, factor, offset):
    image = counts().astype(np.float64) / 4095
    expected = preprocess(image, config)
    np.testing.assert_allclose(preprocess((image + offset) * factor, config), expected, atol=2e-3)


@BOTH
@pytest.mark.parametrize(
    ("values", "dtype"),
    [*(((10**9, 10**9 + 1), dtype) for dtype in (np.int32, np.uint32, np.int64)), ((1.0, 1.0 + 1e-9), np.float64)],
)
def test_narrow_range_is_not_lost(config, values, dtype):
    """What differs in the caller's type is told apart, though float32 could not."""
    assert preprocess(np.array([values], dtype), config).tolist() in ([[0, 1]], [[0.5, 1]])


@BOTH
def test_order_of_grey_values_is_kept(config):
    image, result = counts(), preprocess(counts(), config)
    assert (np.diff(result.ravel()[np.argsort(image, axis=None)]) >= 0).all()


@BOTH
def test_two_values_stay_apart(config):
    image = np.zeros((64, 64), np.uint8)
    image[3, 4] = 1  # less than one in a thousand: both percentiles are 0
    image[5, 6] = 200  # outside the mask
    result = preprocess(image, config, image < 200)
    assert result[3, 4] == 1
    assert result[0, 0] < 1


# Equalisation


def test_equalised_values_are_spread_evenly():
    result = preprocess(counts((200, 200)), EQUALISE)
    shares, _ = np.histogram(result, bins=10, range=(0, 1))
    np.testing.assert_allclose(shares / result.size, 0.1, atol=0.01)


def test_equalisation_gives_the_share_of_pixels_not_brighter():
    image = np.array([[0, 0, 1, 5]], np.uint8)
    np.testing.assert_allclose(preprocess(image, EQUALISE), [[0.5, 0.5, 0.75, 1]], atol=1e-4)


def test_equalisation_is_scikit_images():
    image = np.random.default_rng(0).normal(0, 1, (100, 100)).astype(np.float32)
    np.testing.assert_allclose(preprocess(image, EQUALISE), equalize_hist(image, nbins=65536), atol=1e-3)


@pytest.mark.parametrize(("kind", "offset"), [("uint64", 2**63), ("int64", -(2**63)), ("int64", 2**62), ("uint64", 0)])
@pytest.mark.parametrize("method", ["percentile", "equalise"])
def test_a_large_offset_changes_nothing(kind, offset, method):
    image = np.random.default_rng(0).integers(0, 1000, (30, 40))
    config = PreprocessingConfig(method)
    moved = (image.astype(np.uint64) + np.uint64(offset % 2**64)).astype(kind)
    assert np.array_equal(preprocess(moved, config), preprocess(image, config))


@pytest.mark.parametrize(("method", "middle"), [("percentile", 0.5), ("equalise", 2 / 3)])
def test_the_whole_range_of_int64_is_told_apart(method, middle):
    image = np.array([[-(2**63), 0, 2**63 - 1]])
    result = preprocess(image, PreprocessingConfig(method, low=0, high=100))
    assert result[0, 1:] == pytest.approx([middle, 1])


@pytest.mark.parametrize(("kind", "extreme"), [(np.float64, 1.5e308), (np.float32, 3e38)])
def test_values_further_apart_than_floats_reach_are_refused(kind, extreme):
    image = np.full((20, 20), -extreme, kind)
    image[5:] = extreme
    with pytest.raises(ValueError, match="everyday size"):
        preprocess(image, PreprocessingConfig("percentile"))


def test_values_that_floats_cannot_tell_apart_are_refused():
    """The offset inside the mask leaves float64 no digits for what differs there; beside it lie zeros."""
    image = 2**60 + np.arange(400).reshape(20, 20) % 7
    mask = np.ones(image.shape, bool)
    image[:5], mask[:5] = 0, False
    with pytest.raises(ValueError, match="subtracting what all have in common"):
        preprocess(image, PreprocessingConfig("percentile"), mask)


@pytest.mark.parametrize("dtype", ["f4", "f8", "u2", "i4"])
def test_the_order_of_bytes_does_not_matter(dtype):
    image = (1000 * np.random.default_rng(0).random((20, 30))).astype(f"<{dtype}")
    for config in (PreprocessingConfig("percentile"), EQUALISE):
        given = (preprocess(check_image(image.astype(f"{order}{dtype}")), config) for order in "<>")
        assert np.array_equal(*given)


@pytest.mark.parametrize("brightest", range(200, 220))
def test_equalised_background_does_not_depend_on_the_brightest_pixel(brightest):
    """Half of the pixels have one value, as the background of an 8-bit image: it stays in one place."""
    image = np.full((10, 20), 10, np.uint8)
    image[:5] = np.arange(100).reshape(5, 20) + 50
    image[0, 0] = 0
    image[4, 19] = brightest
    assert preprocess(image, EQUALISE)[9, 9] == pytest.approx(101 / 200, abs=1e-3)


def test_equalisation_tells_all_16_bit_values_apart():
    image = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    assert np.unique(preprocess(image, EQUALISE)).size > 65000


# Percentiles


def test_percentiles_become_0_and_1():
    image = np.arange(1001, dtype=np.uint16).reshape(7, 143)
    result = preprocess(image, PreprocessingConfig("percentile", low=10, high=90))
    for value, expected in ((0, 0), (100, 0), (500, 0.5), (900, 1), (1000, 1)):
        assert result.ravel()[value] == pytest.approx(expected)


def test_percentiles_between_two_neighbouring_numbers():
    """Between 2^24 and the next number that float32 knows; rounded, the two are one."""
    image = np.full(360_000, 2**24, np.float32)
    image[int(0.998 * (image.size - 1)) + 1 :] = 2**24 + 2
    result = preprocess(image.reshape(600, 600), PreprocessingConfig("percentile", low=1, high=99.8))
    assert np.unique(result).tolist() == [0, 1]


# Mask


@BOTH
def test_values_are_judged_inside_the_mask_alone(config):
    image = counts()
    mask = np.zeros(image.shape, bool)
    mask[:, :20] = True
    other = image.copy()
    other[~mask] = 65535
    alone = preprocess(image[:, :20], config)
    np.testing.assert_allclose(preprocess(other, config, mask)[:, :20], alone, atol=1e-6)
    assert 0 <= preprocess(other, config, mask).max() <= 1
