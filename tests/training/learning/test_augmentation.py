"""Random views: image and targets move together, and the seed says where."""

import math

import numpy as np
import pytest
import torch
from drawing import discs
from scipy import ndimage

from training.learning.augmentation import AugmentationConfig, original_view, random_view
from training.learning.dataset import seeded
from training.learning.targets import TargetConfig, make_targets

STILL = AugmentationConfig(elastic=0)
STRONG = AugmentationConfig(zoom=1.5, elastic=3.0, gamma=1.5, contrast=0.2, noise=0.05, blur=1.0)


def view(image, targets, config, seed, size=32):
    return random_view(image, targets, size, config, torch.Generator().manual_seed(seed))


def ramps(n_y=80, n_x=90):
    """An image that grows along x, and its coordinates y, x as targets, all 0 to 1."""
    y, x = torch.meshgrid(torch.linspace(0, 1, n_y), torch.linspace(0, 1, n_x), indexing="ij")
    return x[None], torch.stack([y, x])


@pytest.mark.parametrize("config", [STILL, AugmentationConfig(zoom=1.5, elastic=3)], ids=["still", "deformed"])
@pytest.mark.parametrize("seed", range(5))
def test_image_and_targets_move_together(config, seed):
    image, targets = ramps()
    seen, moved = view(image, targets, config, seed)
    # The targets are those of the nearest pixel: at most half a pixel's difference in the ramp, and rounding.
    assert (seen[0] - moved[1]).abs().max() < 0.51 / 89


@pytest.mark.parametrize("seed", range(5))
def test_mask_seen_as_image_is_the_mask(seed):
    mask = (torch.rand((1, 60, 60), generator=torch.Generator().manual_seed(9)) > 0.5).float()
    seen, moved = view(mask, mask, AugmentationConfig(zoom=1.3), seed)
    assert (moved[seen > 0.999] == 1).all()
    assert (moved[seen < 0.001] == 0).all()
    assert 0.2 < moved.mean() < 0.8


@pytest.mark.parametrize("seed", range(3))
def test_targets_have_no_new_values(seed):
    targets = torch.randint(0, 9, (3, 40, 50), generator=torch.Generator().manual_seed(1)).float() * 1.7
    _, moved = view(torch.rand(1, 40, 50), targets, STRONG, seed)
    for before, after in zip(targets, moved):
        assert set(after.unique().tolist()) <= set(before.unique().tolist())


@pytest.mark.parametrize("shape", [(40, 50), (10, 200), (5, 7)])
def test_view_has_its_size_whatever_the_images(shape):
    seen, moved = view(torch.rand(1, *shape), torch.rand(3, *shape), STRONG, 0, size=48)
    assert (seen.shape, moved.shape) == ((1, 48, 48), (3, 48, 48))
    assert seen.isfinite().all()
    assert (seen.min() >= 0) and (seen.max() <= 1)


def test_view_depends_on_the_generator_alone():
    image, targets = ramps()
    torch.manual_seed(0)
    one = view(image, targets, STRONG, 7)
    torch.manual_seed(1)
    same = view(image, targets, STRONG, 7)
    other = view(image, targets, STRONG, 8)
    assert all(torch.equal(a, b) for a, b in zip(one, same))
    assert not torch.equal(one[1], other[1])


def test_originals_are_not_modified():
    image, targets = ramps()
    copies = image.clone(), targets.clone()
    view(image, targets, STRONG, 0)
    assert torch.equal(image, copies[0])
    assert torch.equal(targets, copies[1])


def steps(seed, config=STILL):
    """How the coordinates of the original change per pixel of the view: d(y, x) / d(row), d(y, x) / d(column)."""
    n = 200
    y, x = torch.meshgrid(torch.arange(n) * 1.0, torch.arange(n) * 1.0, indexing="ij")
    _, moved = view(y[None] / n, torch.stack([y, x]), config, seed, size=64)
    down = (moved[:, -1, 32] - moved[:, 0, 32]) / 63
    right = (moved[:, 32, -1] - moved[:, 32, 0]) / 63
    return down.tolist(), right.tolist()


def test_still_views_are_rotated_and_flipped_and_nothing_else():
    angles, hands = [], []
    for seed in range(60):
        (a, b), (c, d) = steps(seed)
        assert math.hypot(a, b) == pytest.approx(1, abs=0.03)
        assert math.hypot(c, d) == pytest.approx(1, abs=0.03)
        assert a * c + b * d == pytest.approx(0, abs=0.05)
        angles.append(math.atan2(b, a))
        hands.append(a * d - b * c > 0)
    assert 15 < sum(hands) < 45  # half of them are mirrored
    for quarter in range(4):  # all directions occur
        low = -math.pi + quarter * math.pi / 2
        assert 5 < sum(low <= angle < low + math.pi / 2 for angle in angles) < 30


def test_zoom_enlarges_and_shrinks():
    scales = [1 / math.hypot(*steps(seed, AugmentationConfig(elastic=0, zoom=2))[0]) for seed in range(40)]
    assert all(0.48 < scale < 2.1 for scale in scales)
    assert min(scales) < 0.7
    assert max(scales) > 1.4


def test_views_are_shifted_and_stay_inside():
    n = 200
    y, x = torch.meshgrid(torch.arange(n) * 1.0, torch.arange(n) * 1.0, indexing="ij")
    centres = torch.stack([view(y[None] / n, torch.stack([y, x]), STILL, seed)[1][:, 16, 16] for seed in range(60)])
    assert (centres.min() >= 15) and (centres.max() <= n - 15)
    assert (centres.min(dim=0).values < 50).all()
    assert (centres.max(dim=0).values > 150).all()
    assert torch.corrcoef(centres.T)[0, 1].abs() < 0.5  # shifts along y and x are independent


def test_intensity_settings_leave_the_targets_alone():
    image, targets = torch.rand(1, 64, 64), torch.rand(3, 64, 64)
    plain = view(image, targets, STILL, 3)
    varied = view(image, targets, AugmentationConfig(elastic=0, gamma=2, contrast=0.3, noise=0.1, blur=1.5), 3)
    assert torch.equal(plain[1], varied[1])
    assert not torch.equal(plain[0], varied[0])


def test_blur_keeps_a_plain_image_plain():
    seen, _ = view(torch.full((1, 64, 64), 0.5), torch.zeros(1, 64, 64), AugmentationConfig(elastic=0, blur=2), 0)
    torch.testing.assert_close(seen, torch.full((1, 32, 32), 0.5))


def test_dimmed_views_lose_as_much_noise_as_signal():
    """One in five is divided by up to 10, the middle one of these by the root of 10."""
    image = torch.rand((1, 64, 64), generator=torch.Generator().manual_seed(3))
    config = AugmentationConfig(undeformed=1.0, dimmed=0.2)
    views = [view(image, torch.zeros(1, 64, 64), config, seed, size=64)[0] for seed in range(400)]
    brightest = torch.stack([seen.max() for seen in views])
    dim = brightest[brightest < image.max()]
    assert len(dim) == pytest.approx(80, abs=20)
    assert 0.099 < dim.min() < 0.15
    assert dim.median() == pytest.approx(10**-0.5, abs=0.06)
    for seen in views:  # but for its size, the image is as it was
        torch.testing.assert_close(seen.sum() / seen.max(), image.sum() / image.max())


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("fixed_copies", -1),
        ("zoom", 0.9),
        ("gamma", 0),
        ("elastic", -1),
        ("contrast", -1),
        ("contrast", 1.1),
        ("noise", -1),
        ("elastic_period", 1),
        ("dimmed", 1.1),
    ],
)
def test_wrong_settings(field, value):
    with pytest.raises(ValueError, match=f"AugmentationConfig.{field} is"):
        AugmentationConfig(**{field: value})


def test_labels_stay_labels_and_contact_stays_between_two_cells():
    """Wherever a view says contact, two cells are as near as in the original, but for the zoom."""
    labels = discs((90, 90), [(30, 30, 14), (30, 57, 14), (57, 44, 14)])
    zone = make_targets(labels, TargetConfig()).separation_mask
    planes = torch.from_numpy(np.stack([labels, zone]).astype(np.float32))
    for seed in range(8):
        _, (seen, contact) = view(planes[:1] / 3, planes, STRONG, seed, size=64)
        assert set(seen.unique().tolist()) <= {0, 1, 2, 3}
        near = [ndimage.distance_transform_edt(seen.numpy() != cell) for cell in (1, 2, 3) if (seen == cell).any()]
        second = np.sort(near, axis=0)[1]
        inside = np.zeros(second.shape, bool)
        inside[8:-8, 8:-8] = True  # a neighbour may be out of sight
        assert second[(contact.numpy() > 0) & inside].max(initial=0) < 1.5 * 4 + 3


@pytest.mark.parametrize("shape", [(40, 50), (64, 64), (33, 80), (7, 200)])
def test_original_is_the_middle_of_the_image_as_it_is(shape):
    image, targets = torch.rand(1, *shape), torch.rand(3, *shape)
    seen, moved = original_view(image, targets, 64)
    assert (seen.shape, moved.shape) == ((1, 64, 64), (3, 64, 64))
    rows, columns = ((max(0, 64 - n) // 2, max(0, n - 64) // 2, min(64, n)) for n in shape)  # in view, in image, length
    for view_of, whole in ((seen, image), (moved, targets)):
        shown = view_of[:, rows[0] :, columns[0] :][:, : rows[2], : columns[2]]
        assert torch.equal(shown, whole[:, rows[1] :, columns[1] :][:, : rows[2], : columns[2]])


def test_undeformed_views_reach_every_border():
    image = torch.arange(144.0).reshape(1, 12, 12)
    config = AugmentationConfig(undeformed=1.0)
    views = [random_view(image, image, 8, config, seeded(number))[1] for number in range(200)]
    assert set(torch.cat(views).ravel().tolist()) == set(range(144))
