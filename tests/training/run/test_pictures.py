"""Pictures of what the network makes of a validation image."""

import dataclasses

import numpy as np
import torch
from drawing import picture

from deepsplit_core.images import read_image
from training.learning.schedule import stages_of
from training.learning.validation import Found
from training.run.loop import is_picture_due, train
from training.run.pictures import GAP, colour, draw_cuts, write_picture

LABELS = picture("""
    11122.
    11122.
    .....3
""")


def test_panels_stand_beside_each_other(tmp_path):
    image, contact = np.linspace(0, 1, 18, dtype=np.float32).reshape(3, 6), np.zeros((3, 6), np.float32)
    contact[0, 5] = 1
    everywhere = np.full((3, 6), 0.8, np.float32)
    everywhere[0, 5] = 1  # of the separation, only what lies in the segmentation is shown
    truth = np.where(LABELS == 2, 1, LABELS)
    found = Found(image, truth, LABELS, truth < 0, np.stack([contact, everywhere]), 0.5)
    write_picture(tmp_path / "new" / "p.png", found)
    found = read_image(tmp_path / "new" / "p.png")
    assert found.shape == (3, 4 * 6 + 3 * GAP, 3)
    panels = [found[:, i * (6 + GAP) :][:, :6] for i in range(4)]
    assert np.array_equal(panels[0][..., 0], (255 * image).astype(np.uint8))
    assert np.array_equal(panels[1], colour(truth))
    assert np.array_equal(panels[2], colour(LABELS))
    assert np.array_equal(panels[3], draw_cuts(panels[0], LABELS, contact))
    assert (found[:, 6 : 6 + GAP] == 255).all()


def test_every_cell_has_a_colour_of_its_own_and_the_background_none():
    found = colour(LABELS)
    assert not found[LABELS == 0].any()
    assert len({tuple(found[LABELS == value][0]) for value in (1, 2, 3)}) == 3
    assert all(found[LABELS == value].max() > 150 for value in (1, 2, 3))


def test_cuts_are_where_two_cells_meet_and_where_the_network_sees_contact():
    grey, separation = np.full((3, 6, 3), 100, np.uint8), np.zeros((3, 6), np.float32)
    separation[2, 0] = 0.5
    found = draw_cuts(grey, LABELS, separation)
    is_cut = (found == (255, 40, 40)).all(axis=-1)
    assert np.array_equal(is_cut, picture("..11.. ..11.. ......") > 0)
    assert tuple(found[2, 0]) == (177, 70, 70)
    assert (found[2, 1:] == 100).all()
    assert not separation[0].any()  # the caller's array stays


def test_every_few_epochs_and_after_the_last(config):
    stage = stages_of(dataclasses.replace(config, segmentation_epochs=7))[0]
    every_third = dataclasses.replace(config, picture_epochs=3)
    assert [epoch + 1 for epoch in range(7) if is_picture_due(epoch, stage, every_third)] == [3, 6, 7]
    assert not any(is_picture_due(epoch, stage, config) for epoch in range(7))


def test_run_writes_them(config, samples, tmp_path):
    train(samples[:4], samples[4:], dataclasses.replace(config, picture_epochs=2), tmp_path, False, torch.device("cpu"))
    paths = sorted((tmp_path / "pictures").iterdir())
    assert [path.name for path in paths] == ["segmentation_0002.png", "separation_0002.png"]
    assert read_image(paths[0]).shape == (48, 4 * 52 + 3 * GAP, 3)
