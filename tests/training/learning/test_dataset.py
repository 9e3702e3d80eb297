"""Samples and the random batches made of them."""

import dataclasses

import numpy as np
import pytest
import tifffile
import torch

from deepsplit_core.preprocessing import preprocess
from deepsplit_core.sizes import typical_diameter
from training.data.annotations import find_annotations
from training.learning.augmentation import original_view
from training.learning.dataset import RandomBatches, Sample, load_samples, nearest, pixels_for_one
from training.learning.targets import make_targets


def test_samples_are_preprocessed_images_and_targets(data, config):
    annotations = find_annotations(data)
    image, labels, _ = annotations[3].read()
    sample = load_samples(annotations, config)[3]
    assert np.array_equal(sample.image[0].numpy(), preprocess(image, config.preprocessing))
    assert np.array_equal(sample.labels, labels)
    for found, expected in zip(sample.targets.numpy(), make_targets(labels, config.targets)):
        assert np.array_equal(found, expected.astype(np.float32))


def test_ignored_pixels_weigh_nothing_in_samples_and_views(ignoring, config):
    """The left half of the first image is ignored: in every view, the weights are 0 where, and only where, it shows."""
    still = dataclasses.replace(config, augmentation=type(config.augmentation)(elastic=0), batch=20)
    sample = load_samples(find_annotations(ignoring)[:1], still)[0]
    assert (sample.targets[2:, :, :26] == 0).all()
    assert (sample.targets[2, :, 26:] > 0).all()
    # The image tells which half a pixel of a view is of.
    half = sample._replace(image=(sample.targets[2:3] > 0).float())
    images, targets = RandomBatches([half], still, 0)[0]
    assert 0.2 < images.mean() < 0.8
    assert (targets[:, 2:3][images == 0] == 0).all()
    assert (targets[:, 2:3][images == 1] > 0).all()


def test_most_views_of_a_large_image_show_what_was_annotated(config):
    """A corner of 100 x 100 pixels of 2000 x 2000: views of all of it would hardly ever show a part of that."""
    targets = torch.zeros((4, 2000, 2000))
    targets[:, :100, :100] = 1
    sample = Sample(torch.zeros((1, 2000, 2000)), targets, np.zeros((2000, 2000), np.int32))
    _, seen = RandomBatches([sample], dataclasses.replace(config, batch=50, view=64), 0)[0]
    assert (seen[:, 2] > 0).any(dim=2).any(dim=1).float().mean() > 0.8


def test_shrunk_samples_have_half_the_side_and_all_their_labels(data, config):
    half = dataclasses.replace(config.preprocessing, shrink=2.0)
    annotations = find_annotations(data)
    whole = load_samples(annotations, config)[3]
    shrunk = load_samples(annotations, dataclasses.replace(config, preprocessing=half))[3]
    n_y, n_x = whole.labels.shape
    assert shrunk.labels.shape == shrunk.image.shape[1:] == shrunk.targets.shape[1:] == (n_y // 2, n_x // 2)
    assert np.array_equal(shrunk.labels, whole.labels[1::2, 1::2])
    assert np.array_equal(shrunk.targets[0].numpy() > 0, shrunk.labels > 0)


def test_samples_are_brought_to_one_size_of_cell(data, config):
    annotations = find_annotations(data)
    as_is = load_samples(annotations, config)[3]
    sizes = dataclasses.replace(config.preprocessing, diameter=8.0)
    sample = load_samples(annotations, dataclasses.replace(config, preprocessing=sizes))[3]
    assert typical_diameter(sample.labels) == pytest.approx(8, rel=0.1)
    assert sample.labels.shape == sample.image.shape[1:] == sample.targets.shape[1:]
    assert sample.labels.shape[0] / as_is.labels.shape[0] == pytest.approx(8 / typical_diameter(as_is.labels), rel=0.05)


@pytest.mark.parametrize(("side", "to"), [(3, 36.0), (90, 8.0)], ids=["speck", "everything"])
def test_labels_that_are_no_cells_are_refused_by_name(data, config, side, to):
    """An image whose only label is a speck would be enlarged until the memory is full."""
    labels = np.zeros((99, 99), np.uint16)
    labels[:side, :side] = 1
    tifffile.imwrite(data / "images" / "field1.tif", np.eye(99, dtype=np.uint16))
    tifffile.imwrite(data / "labels" / "field1.tif", labels)
    sizes = dataclasses.replace(config.preprocessing, diameter=to)
    found = f"{typical_diameter(labels):.3g}"
    with pytest.raises(
        ValueError, match=rf"field1\.tif has cells of {found} pixels, which are to be brought to {to:g}"
    ):
        load_samples(find_annotations(data)[1:2], dataclasses.replace(config, preprocessing=sizes))


def test_an_image_without_cells_keeps_its_size(config):
    sizes = dataclasses.replace(config.preprocessing, diameter=8.0)
    assert pixels_for_one(np.zeros((20, 20), np.int32), sizes) == 1


def test_empty_fields_are_learned_at_several_sizes_but_fill_no_more_memory(data, config):
    """Nobody knows the size of what is not there: `segment` may enlarge such an image."""
    for number in range(4):
        image = np.random.default_rng(number).integers(0, 99, (60, 80)).astype(np.uint16)
        tifffile.imwrite(data / "images" / f"empty{number}.tif", image)
        tifffile.imwrite(data / "labels" / f"empty{number}.tif", np.zeros((60, 80), np.uint16))
    sizes = dataclasses.replace(config, preprocessing=dataclasses.replace(config.preprocessing, diameter=8.0))
    empty = [a for a in find_annotations(data) if "empty" in a.name]
    samples = load_samples(empty, sizes)
    for sample in samples:
        assert (
            sample.image.shape[1:] == sample.targets.shape[1:] == sample.labels.shape == pytest.approx((60, 80), abs=2)
        )
    roughness = [float(sample.image.diff(dim=2).abs().mean()) for sample in samples]
    assert min(roughness) < 0.7 * max(roughness)  # enlarged noise is smooth
    as_is = load_samples(empty, config)
    assert all(
        np.array_equal(s.image[0], preprocess(a.read().image, config.preprocessing)) for s, a in zip(as_is, empty)
    )


def test_labels_take_the_value_at_the_middle_of_a_pixel():
    labels = np.arange(25).reshape(5, 5)
    assert nearest(labels, (5, 5)).tolist() == labels.tolist()
    assert nearest(labels, (1, 2)).tolist() == [[11, 13]]


def test_folders_are_seen_equally_often_if_asked(config):
    """One image of a folder beside nine of another."""
    folders = ["few", *["many"] * 9]
    plain = [
        Sample(torch.full((1, 40, 40), float(folder == "few")), torch.zeros(4, 40, 40), np.zeros((40, 40)), folder)
        for folder in folders
    ]
    still = dataclasses.replace(config, augmentation=type(config.augmentation)(elastic=0), batch=50)
    for balance, share in ((False, 0.1), (True, 0.5)):
        chosen = dataclasses.replace(still, balance_folders=balance)
        images = torch.cat([RandomBatches(plain, chosen, 0)[step][0] for step in range(4)])
        assert float(images.mean()) == pytest.approx(share, abs=0.1)


def test_empty_fields_are_seen_as_often_as_asked(config):
    """Nine images with a cell in two folders, beside six without."""
    samples = []
    for number in range(15):
        labels = np.full((40, 40), number < 9, np.int32)
        folder = "one" if number == 0 else "two"
        samples.append(Sample(torch.full((1, 40, 40), float(number >= 9)), torch.zeros(4, 40, 40), labels, folder))
    still = dataclasses.replace(config, augmentation=type(config.augmentation)(elastic=0), batch=50)
    for balanced in (False, True):
        for share, seen in ((0.0, 3 / 14 if balanced else 0.4), (0.1, 0.1), (0.7, 0.7)):
            chosen = dataclasses.replace(still, empty_share=share, balance_folders=balanced)
            images = torch.cat([RandomBatches(samples, chosen, 0)[step][0] for step in range(8)])
            assert float(images.mean()) == pytest.approx(seen, abs=0.07), (balanced, share)
    alone = dataclasses.replace(still, empty_share=0.1)
    assert RandomBatches(samples[:9], alone, 0)[0][0].max() == 0  # none to be seen


def test_constant_image_is_refused(data, config):
    tifffile.imwrite(data / "images" / "field1.tif", np.full((48, 52), 9, np.uint16))
    with pytest.raises(ValueError, match=r"field1\.tif has one grey value everywhere"):
        load_samples(find_annotations(data), config)


def test_batches_have_the_configs_shape(samples, config):
    images, targets = RandomBatches(samples, config, 0)[0]
    assert images.shape == (2, 1, 32, 32)
    assert targets.shape == (2, 4, 32, 32)
    assert images.dtype == targets.dtype == torch.float32


def test_same_step_gives_the_same_batch_in_every_run(samples, config):
    torch.manual_seed(0)
    one = RandomBatches(samples, config, 0)[5]
    torch.manual_seed(1)
    batches = RandomBatches(samples, config, 0)
    batches[4]
    assert all(torch.equal(a, b) for a, b in zip(one, batches[5]))


def test_steps_stages_and_seeds_see_different_views(samples, config):
    seen = [
        RandomBatches(samples, config, 0)[0][0],
        RandomBatches(samples, config, 0)[1][0],
        RandomBatches(samples, config, 1)[0][0],
        RandomBatches(samples, dataclasses.replace(config, seed=2), 0)[0][0],
    ]
    for i, one in enumerate(seen):
        assert not torch.equal(one[0], one[1])  # nor do the views of one batch agree
        assert not any(torch.equal(one, other) for other in seen[i + 1 :])


def test_fixed_copies_are_19_and_the_original_the_same_in_every_epoch_and_stage(samples, config):
    """As the paper has it (3.2): nothing else is ever seen of an image."""
    copies = dataclasses.replace(config.augmentation, fixed_copies=19)
    config = dataclasses.replace(config, augmentation=copies, batch=25)
    seen = {view.numpy().tobytes() for step in range(8) for view in RandomBatches(samples[:1], config, 0)[step][0]}
    later = {view.numpy().tobytes() for step in range(8, 16) for view in RandomBatches(samples[:1], config, 1)[step][0]}
    assert len(seen) == 20
    assert later == seen
    assert original_view(*samples[0][:2], config.view)[0].numpy().tobytes() in seen
    assert seen.isdisjoint(v.numpy().tobytes() for v in RandomBatches(samples[1:2], config, 0)[0][0])


def test_fixed_copies_show_image_and_targets_alike(samples, config):
    copies = dataclasses.replace(config.augmentation, fixed_copies=3, noise=0.0)
    config = dataclasses.replace(config, augmentation=copies, batch=20)
    half = samples[0]._replace(image=(samples[0].targets[:1] > 0).float())
    images, targets = RandomBatches([half], config, 0)[0]
    assert (targets[:, :1][images > 0.999] == 1).all()
    assert (targets[:, :1][images < 0.001] == 0).all()


def test_every_image_is_used(config):
    """Samples of one grey value each: it tells which image a view is of."""
    plain = [Sample(torch.full((1, 40, 40), i / 10), torch.zeros(4, 40, 40), np.zeros((40, 40))) for i in range(6)]
    still = dataclasses.replace(config, augmentation=type(config.augmentation)(elastic=0), batch=10)
    images = torch.cat([RandomBatches(plain, still, 0)[step][0] for step in range(6)])
    assert {round(10 * value) for value in images.mean(dim=(1, 2, 3)).tolist()} == set(range(6))


def test_length_is_that_of_all_stages(samples, config):
    longer = dataclasses.replace(config, segmentation_epochs=3, separation_epochs=7, epoch_steps=5)
    assert len(RandomBatches(samples, longer, 0)) == 50
