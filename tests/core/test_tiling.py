"""The geometry of tiles: every pixel once, one shape, one grid."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deepsplit_core.config import TilingConfig
from deepsplit_core.tiling import plan

SMALL = TilingConfig(tile=64, halo=16)


@st.composite
def plans(draw):
    multiple = draw(st.sampled_from([1, 4, 16]))
    halo = multiple * draw(st.integers(0, 3))
    tile = 2 * halo + multiple * draw(st.integers(1, 6))
    shape = (draw(st.integers(1, 300)), draw(st.integers(1, 300)))
    return shape, TilingConfig(tile=tile, halo=halo), multiple


def check(shape, config, multiple):
    tiles = plan(shape, config, multiple)
    kept = np.zeros(shape, int)
    for tile in tiles:
        kept[tile.y.keep_start : tile.y.keep_stop, tile.x.keep_start : tile.x.keep_stop] += 1
        for span, n in ((tile.y, shape[0]), (tile.x, shape[1])):
            assert span.start % multiple == 0
            assert (span.stop - span.start) % multiple == 0
            assert 0 < span.stop - span.start <= max(config.tile, multiple)
            # A full halo on both sides, but where the image ends.
            assert span.start <= max(0, span.keep_start - config.halo)
            assert span.stop >= min(n, span.keep_stop + config.halo)
    assert (kept == 1).all()
    assert len({(t.y.stop - t.y.start, t.x.stop - t.x.start) for t in tiles}) == 1


@given(plans())
def test_every_pixel_is_kept_once_with_its_surroundings(case):
    check(*case)


@pytest.mark.parametrize(
    "shape", [(1, 1), (15, 17), (5000, 37), (37, 5000), (64, 64), (65, 64), (63, 65), (128, 129), (96, 97)]
)
def test_awkward_sizes(shape):
    check(shape, SMALL, 16)


@given(plans())
def test_no_tile_reaches_beyond_the_padded_image(case):
    """Beyond it there are no pixels for the whole image either, so tiled and whole results agree there."""
    shape, config, multiple = case
    padded = [-(-n // multiple) * multiple for n in shape]
    for tile in plan(shape, config, multiple):
        assert tile.y.stop <= padded[0]
        assert tile.x.stop <= padded[1]


@given(plans())
def test_cut_and_paste_give_the_image_back(case):
    shape, config, multiple = case
    image = np.arange(shape[0] * shape[1], dtype=np.float32).reshape(shape)
    result = np.full((2, *shape), -1, np.float32)
    for tile in plan(shape, config, multiple):
        pixels = tile.cut(image)
        assert pixels.shape == (tile.y.stop - tile.y.start, tile.x.stop - tile.x.start)
        tile.paste(np.stack([pixels, -pixels]), result)
    assert np.array_equal(result, np.stack([image, -image]))


def test_an_image_that_fits_is_one_tile():
    (tile,) = plan((60, 33), SMALL, 16)
    assert (tile.y.stop, tile.x.stop) == (64, 48)


def test_number_of_tiles_is_the_least_that_covers():
    # 16 + 32 kept by the first and the last tile each, 32 by the ones between: 200 pixels need 6 (48 + 4 * 32 + 48).
    assert len(plan((200, 10), SMALL, 16)) == 6
    assert len(plan((224, 10), SMALL, 16)) == 6
    assert len(plan((225, 10), SMALL, 16)) == 7


def test_missing_pixels_are_mirrored():
    (tile,) = plan((2, 3), TilingConfig(tile=8, halo=0), 4)
    assert tile.cut(np.array([[1, 2, 3], [4, 5, 6]])).tolist() == [
        [1, 2, 3, 3],
        [4, 5, 6, 6],
        [4, 5, 6, 6],
        [1, 2, 3, 3],
    ]


@pytest.mark.parametrize("config", [TilingConfig(tile=72, halo=16), TilingConfig(tile=64, halo=8)])
def test_sides_that_the_network_cannot_halve_are_refused(config):
    with pytest.raises(ValueError, match=r"TilingConfig\.(tile|halo) is (72|8), .* multiple of 16"):
        plan((100, 100), config, 16)
