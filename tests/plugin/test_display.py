"""What the module's window shows: plain data, cuts and discarded objects in their own colours, true probabilities."""

import json

import numpy as np
from cellprofiler_core.image import Image
from drawing import as_sets

SHAPE = (40, 60)


def draw():
    """Two squares in contact, one at the border, and one of four pixels."""
    image = np.zeros(SHAPE, np.float32)
    image[5:15, 5:26] = image[30:40, 45:55] = image[25:27, 5:7] = 1
    image[5:15, 15:17] = 0.6
    return image


class Figure:
    """Takes down what is drawn where."""

    def __init__(self):
        self.drawn = {}

    def set_subplots(self, subplots, dimensions):
        assert (subplots, dimensions) == ((3, 2), 2)

    def subplot_imshow_grayscale(self, x, y, image, title=None, sharexy=None, **how):
        self.drawn[x, y] = (image, title, how)
        return "axes"

    def subplot_imshow_labels(self, x, y, image, title=None, sharexy=None):
        self.drawn[x, y] = (image, title, sharexy)

    def subplot_table(self, x, y, statistics, row_labels=None):
        self.drawn[x, y] = dict(zip(row_labels, [value for (value,) in statistics]))


def shown(run_on, image, **settings):
    workspace, figure = run_on(image, show_window=True, **settings), Figure()
    workspace.module.display(workspace, figure)
    return workspace, figure.drawn


def test_data_are_plain_as_they_may_come_from_another_process(run_on):
    data = vars(run_on(draw(), show_window=True, discard_border=True, wants_clumps=True).display_data)
    arrays = {name: value for name, value in data.items() if isinstance(value, np.ndarray)}
    assert all(type(value) is np.ndarray and value.dtype != object for value in arrays.values())
    rest = {name: value for name, value in data.items() if name not in arrays}
    assert json.loads(json.dumps(rest)) == rest


def test_no_data_without_a_window(run_on):
    assert vars(run_on(draw()).display_data) == {}


def test_one_figure_shows_image_outlines_cuts_objects_and_probabilities(run_on):
    image = draw()
    workspace, drawn = shown(run_on, image, discard_border=True)
    labels = workspace.object_set.get_objects("Nuclei").segmented
    assert np.array_equal(drawn[0, 0][0], image) and drawn[0, 0][2] == {}
    outlines, discarded, cuts = drawn[1, 0][2]["cplabels"]
    assert np.array_equal(outlines["labels"][0], labels)
    assert as_sets(discarded["labels"][0]) == as_sets(draw_discarded())
    # The contact of two columns is divided between the two cells: the cut has one of each.
    assert np.argwhere(cuts["labels"][0]).tolist() == [[y, x] for y in range(5, 15) for x in (15, 16)]
    # CellProfiler's own colour of a second outline is that of the cuts.
    assert (discarded["outline_color"], cuts["outline_color"]) == ((255, 140, 0), (255, 0, 255))
    assert np.array_equal(drawn[0, 1][0], labels)
    for x, row, name in ((1, 0, "Cell probability"), (2, 1, "Contact probability")):
        probability, title, how = drawn[x, 1]
        assert title == name
        assert (how["normalize"], how["vmin"], how["vmax"]) == (False, 0, 1)
        assert probability[8, 8] == (probability.max() if row == 0 else probability[8, 20])


def draw_discarded():
    """The square at the border and the four pixels."""
    labels = np.zeros(SHAPE, int)
    labels[30:40, 45:55], labels[25:27, 5:7] = 1, 2
    return labels


def test_the_table_counts_objects_discards_and_cuts(run_on):
    table = shown(run_on, draw(), discard_border=True)[1][2, 0]
    assert (table["Objects"], table["Discarded, orange"], table["Too small, orange"]) == ("2", "1", "1")
    assert (table["Cuts, magenta"], table["By watershed"]) == ("1", "0")
    assert table["Diameter, median"] == "11.6 px"  # of 105 pixels each
    assert (table["Scale"], table["Thresholds"]) == ("1.00", "0.50, 0.50")
    assert table["Model"] == "tiny"
    assert (table["Device"], table["Number format"]) in (("cpu", "float32"), ("cpu", "bfloat16"), ("cpu", "int8"))


def test_an_image_without_objects_is_shown_too(run_on):
    table = shown(run_on, Image(np.zeros(SHAPE, np.float32)))[1][2, 0]
    assert (table["Objects"], table["Discarded, orange"], table["Diameter, median"]) == ("0", "0", "0.0 px")


def test_seeds_are_shown(run_on):
    seeds = np.zeros(SHAPE, np.int32)
    seeds[8:12, 8:12], seeds[8:12, 19:23] = 1, 2
    drawn = shown(run_on, draw(), seeds=seeds)[1]
    assert drawn[2, 0]["Seeds, blue"] == "2" and "By watershed" not in drawn[2, 0]
    shown_seeds = drawn[1, 0][2]["cplabels"][-1]
    assert shown_seeds["name"] == "Seeds" and np.array_equal(shown_seeds["labels"][0], seeds)
