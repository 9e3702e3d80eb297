import numpy as np
import pytest
from scipy import ndimage

from deepsplit_core.preprocessing import is_constant
from training.learning.targets import TargetConfig, make_targets
from training.simulation import (
    LARGEST_GREY,
    _fading,
    _fibres,
    draw_dirt,
    draw_shapes,
    draw_stain,
    simulate,
    take_picture,
)

SEEDS = range(12)


@pytest.fixture(scope="module")
def scenes():
    return [simulate(seed, (160, 200), 30) for seed in SEEDS]


def test_a_seed_gives_the_same_image_and_another_seed_another(scenes):
    again = simulate(3, (160, 200), 30)
    assert np.array_equal(again.image, scenes[3].image) and np.array_equal(again.labels, scenes[3].labels)
    assert len({scene.image.tobytes() for scene in scenes}) == len(scenes)


def test_images_are_those_of_a_camera(scenes):
    for scene in scenes:
        assert scene.image.dtype == np.uint16 and scene.image.shape == scene.labels.shape == (160, 200)
        assert scene.image.max() <= LARGEST_GREY and not is_constant(scene.image)


def test_every_cell_has_one_piece_and_a_number(scenes):
    for scene in scenes:
        assert scene.labels.dtype == np.int32
        assert np.array_equal(np.unique(scene.labels[scene.labels > 0]), np.arange(1, scene.labels.max() + 1))
        for cell in range(1, scene.labels.max() + 1):
            assert ndimage.label(scene.labels == cell)[1] == 1


def test_cells_touch_and_have_the_size_asked_for(scenes):
    areas = np.concatenate([np.bincount(scene.labels.ravel())[1:] for scene in scenes])
    # Cells that the border cuts are among them.
    assert 0.4 * 30 < np.median(np.sqrt(4 * areas / np.pi)) < 1.3 * 30
    contact = [make_targets(scene.labels, TargetConfig()).separation_mask.any() for scene in scenes]
    assert all(contact)


def test_sheets_and_scattered_cells_are_both_drawn(scenes):
    covered = [np.mean(scene.labels > 0) for scene in scenes]
    assert min(covered) < 0.8 and max(covered) > 0.98


def test_islands_are_crowded_and_leave_much_of_the_image_empty():
    for seed in SEEDS:
        labels = draw_shapes(np.random.default_rng(seed), (300, 300), 20)
        if ndimage.distance_transform_edt(labels == 0).max() > 3 * 20:
            cells = ndimage.label(labels > 0)[0]
            largest = cells == 1 + np.bincount(cells.ravel())[1:].argmax()
            assert np.unique(labels[largest]).size >= 5
            return
    pytest.fail("no seed draws islands")


def test_flat_cells_fade_towards_their_edge_and_fibres_run_along_one_direction_in_a_cell():
    labels = np.repeat([[1] * 60 + [2] * 60], 80, axis=0)
    centres = np.array([[40, 30], [40, 90]])
    for seed in SEEDS:
        fading = _fading(np.random.default_rng(seed), labels, centres, 60)
        assert 0.9 < fading[40, 30] == fading[40, 90] <= 1 and fading[40, 2] < 0.8 * fading[40, 30]
        fibres = np.log(_fibres(np.random.default_rng(seed), labels, 60))
        for cell in (slice(2, 58), slice(62, 118)):
            y, x = (part.ravel() for part in np.gradient(fibres[2:-2, cell]))
            small, large = np.linalg.eigvalsh(np.cov(y, x))
            assert large > 2.5 * small


def test_cells_are_brighter_than_what_is_around_them():
    for seed in SEEDS:
        rng = np.random.default_rng(seed)
        labels = draw_shapes(rng, (160, 200), 30)
        density = draw_stain(rng, labels, 30)
        far = ndimage.distance_transform_edt(labels == 0) > 6
        if far.any():
            assert density[labels > 0].mean() > 5 * density[far].mean()


def test_light_is_uneven_and_every_pixel_has_noise():
    uneven = []
    for seed in SEEDS:
        picture = take_picture(np.random.default_rng(seed), np.ones((96, 96)), 20).astype(float)
        smooth = ndimage.gaussian_filter(picture, 8)
        assert (picture - smooth).std() > 0.005 * picture.mean()
        uneven.append(smooth.std() / smooth.mean())
    assert max(uneven) > 0.05


def test_empty_field_holds_light_noise_and_specks_alone():
    fields = [simulate(seed, (160, 200), 30, has_cells=False) for seed in SEEDS]
    for image, labels in fields:
        assert image.shape == labels.shape == (160, 200) and not labels.any() and not is_constant(image)
        # Light is smooth, and specks are few: no pixel but those stands out from what is around it.
        smooth = ndimage.gaussian_filter(image.astype(float), 8)
        assert np.mean(np.abs(image - smooth) > 6 * np.std(image - smooth)) < 0.02
    assert len({field.image.tobytes() for field in fields}) == len(fields)
    assert any(draw_dirt(np.random.default_rng(seed), (160, 200)).any() for seed in SEEDS)


def test_a_cell_has_no_hole_of_background(scenes):
    for scene in scenes:
        for cell in range(1, scene.labels.max() + 1):
            hole = ndimage.binary_fill_holes(scene.labels == cell) & (scene.labels != cell)
            assert (scene.labels[hole] > 0).all()


def test_what_cannot_be_drawn_is_refused():
    with pytest.raises(ValueError, match="diameter must be at least 8"):
        simulate(0, (64, 64), 4)
    with pytest.raises(ValueError, match="at least as large as a cell"):
        simulate(0, (16, 64), 20)
