"""The command line, called as a function; once as a program."""

import json
import os
import re
import subprocess
import sys
import unicodedata

import numpy as np
import pytest
import tifffile
from drawing import as_sets, discs, picture
from networks import card_of, wired_network, write_weights

from deepsplit_core import cli, segmentation
from deepsplit_core.cli import draw_overlay, main
from deepsplit_core.config import PreprocessingConfig
from deepsplit_core.images import read_image, write_labels, write_png

TRUTH = discs((40, 90), [(20, 18, 10), (20, 45, 10), (20, 70, 10)])


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "cells.tif"
    tifffile.imwrite(path, (TRUTH > 0).astype(np.uint16) * 3000)
    return path


def segment(images, output, weights, *options):
    return main(["segment", *map(str, images), "--model", str(weights), "--output", str(output), *options])


def test_labels_are_written_under_the_images_name(tmp_path, image, wired_weights, capsys):
    assert segment([image], tmp_path / "new" / "folder", wired_weights, "--device", "cpu") == 0
    assert [p.name for p in (tmp_path / "new" / "folder").iterdir()] == ["cells_labels.tif"]
    assert as_sets(read_image(tmp_path / "new" / "folder" / "cells_labels.tif")) == as_sets(TRUTH)
    assert "3 cells" in capsys.readouterr().out


def test_a_diameter_that_was_estimated_is_told(tmp_path, image, capsys):
    network = wired_network()
    sizes = PreprocessingConfig("percentile", low=0, high=100, diameter=10.0)
    weights = write_weights(tmp_path / "w.safetensors", network, card_of(network, preprocessing=sizes, diameter=10.0))
    assert segment([image], tmp_path / "out", weights) == 0
    assert re.search(r"cells.tif: 3 cells, taken to be about (20|21) pixels across\n", capsys.readouterr().out)
    assert segment([image], tmp_path / "out", weights, "--diameter", "20") == 0
    assert "cells.tif: 3 cells\n" in capsys.readouterr().out


def test_a_folder_and_a_pattern_stand_for_their_images(tmp_path, image, wired_weights, capsys):
    tifffile.imwrite(tmp_path / "more.TIF", (TRUTH > 0).astype(np.uint16))
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / "folder.tif").mkdir()
    (tmp_path / "._cells.tif").write_bytes(b"what macOS leaves on other file systems")
    assert segment([tmp_path / "*.[tT][iI][fF]"], tmp_path / "out", wired_weights) == 0
    assert "2 of 2 images" in capsys.readouterr().out
    for _ in range(2):  # the results of the first time are no images
        assert segment([tmp_path], tmp_path, wired_weights, "--overlay") == 0
        assert "2 of 2 images" in capsys.readouterr().out
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"cells_labels.tif", "more_labels.tif"}


@pytest.mark.parametrize("given", [".", "*.png"])
def test_a_folder_or_pattern_without_images_is_said(tmp_path, wired_weights, capsys, given):
    assert segment([tmp_path / given], tmp_path / "out", wired_weights) == 1
    assert f"error: {tmp_path / given}: there are no images (.tif .tiff .png)" in capsys.readouterr().err


def test_images_with_results_are_left_out_if_asked_for(tmp_path, image, wired_weights, capsys):
    tifffile.imwrite(tmp_path / "more.tif", (TRUTH > 0).astype(np.uint16))
    assert segment([image], tmp_path / "out", wired_weights) == 0
    before = (tmp_path / "out" / "cells_labels.tif").stat().st_mtime_ns
    capsys.readouterr()
    images = [image, tmp_path / "more.tif"]
    assert segment(images, tmp_path / "out", wired_weights, "--skip-existing") == 0
    printed = capsys.readouterr().out
    assert "1 of 2 images have results in" in printed and "1 of 1 images written" in printed
    assert (tmp_path / "out" / "cells_labels.tif").stat().st_mtime_ns == before
    assert segment(images, tmp_path / "out", wired_weights, "--skip-existing") == 0
    assert "0 of 0 images written" in capsys.readouterr().out
    assert segment(images, tmp_path / "out", wired_weights, "--skip-existing", "--overlay") == 0  # these are not there
    assert len(list((tmp_path / "out").glob("*_overlay.png"))) == 2


def test_png_is_read_and_the_overlay_is_written(tmp_path, wired_weights):
    write_png(tmp_path / "cells.png", (TRUTH > 0).astype(np.uint8) * 255)
    assert segment([tmp_path / "cells.png"], tmp_path / "out", wired_weights, "--overlay") == 0
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["cells_labels.tif", "cells_overlay.png"]
    overlay = read_image(tmp_path / "out" / "cells_overlay.png")
    assert (overlay.shape, overlay.dtype) == ((*TRUTH.shape, 3), np.uint8)
    assert overlay[20, 8].tolist() == [255, 220, 0]  # the outermost pixel of the first cell
    assert overlay[20, 18].tolist() == [255, 255, 255]
    assert overlay[0, 0].tolist() == [0, 0, 0]


def test_one_bad_image_fails_the_run_and_the_others_are_written(tmp_path, image, wired_weights, capsys):
    tifffile.imwrite(tmp_path / "nan.tif", np.full((9, 9), np.nan, np.float32))
    (tmp_path / "text.tif").write_text("no image")
    bad = [tmp_path / "nan.tif", tmp_path / "text.tif", tmp_path / "gone.tif"]
    assert segment([bad[0], image, *bad[1:]], tmp_path / "out", wired_weights) == 1
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["cells_labels.tif"]
    output = capsys.readouterr()
    assert "1 of 4 images written" in output.out
    for path in bad:
        (line,) = [line for line in output.err.splitlines() if line.startswith(f"error: {path}: ")]
        assert len(line) > len(f"error: {path}: ")
    assert "Traceback" not in output.err


def test_diameter_is_used(tmp_path, image, wired_weights):
    # The smallest cell of the card, 5 pixels at a diameter of 20, is 20 pixels at 40: nothing of 12 pixels is left.
    small = np.zeros((40, 40), np.uint8)
    small[10:13, 10:14], small[20:35, 20:35] = 200, 200
    write_png(tmp_path / "small.png", small)
    for diameter, n_cells in (("20", 2), ("40", 1)):
        assert segment([tmp_path / "small.png"], tmp_path / "out", wired_weights, "--diameter", diameter) == 0
        assert read_image(tmp_path / "out" / "small_labels.tif").max() == n_cells


def test_images_of_one_name_are_refused_before_anything_is_written(tmp_path, image, wired_weights, capsys):
    write_png(tmp_path / "cells.png", (TRUTH > 0).astype(np.uint8))
    assert segment([image, tmp_path / "cells.png"], tmp_path / "out", wired_weights) == 1
    assert "Several images are named cells" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_names_that_differ_in_capitals_alone_are_one_file_elsewhere(tmp_path, image, wired_weights, capsys):
    (tmp_path / "other").mkdir()
    write_png(tmp_path / "other" / "CELLS.png", (TRUTH > 0).astype(np.uint8))
    assert segment([image, tmp_path / "other" / "CELLS.png"], tmp_path / "out", wired_weights) == 1
    assert "Several images are named CELLS, cells" in capsys.readouterr().err


def test_images_are_not_overwritten_by_results(tmp_path, image, wired_weights, capsys):
    annotated = tmp_path / "cells_labels.tif"
    write_labels(annotated, TRUTH)
    before = annotated.read_bytes()
    assert segment([image, annotated], tmp_path, wired_weights) == 1
    assert f"{annotated} is one of the images, and would be overwritten" in capsys.readouterr().err
    assert annotated.read_bytes() == before


def test_an_image_named_as_an_overlay_is_in_the_way_of_overlays_alone(tmp_path, image, wired_weights, capsys):
    overlay = tmp_path / "cells_overlay.png"
    overlay.write_bytes(image.read_bytes())
    assert segment([image, overlay], tmp_path, wired_weights, "--overlay") == 1
    assert f"{overlay} is one of the images, and would be overwritten" in capsys.readouterr().err
    assert segment([image, overlay], tmp_path, wired_weights) == 0


def test_results_beside_their_images_are_no_images(tmp_path, image, wired_weights, capsys):
    assert segment([image], tmp_path, wired_weights, "--overlay") == 0
    alone = tmp_path / "alone_labels.tif"
    write_labels(alone, TRUTH)
    given = [image, tmp_path / "cells_labels.tif", tmp_path / "cells_overlay.png", alone]
    assert segment(given, tmp_path / "out", wired_weights) == 0
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"cells_labels.tif", "alone_labels_labels.tif"}
    assert f"Left out, as they are results of images given here: {given[1]}, {given[2]}\n" in capsys.readouterr().err


def test_a_diameter_that_the_model_does_not_take_is_said_once(tmp_path, image, wired_weights, capsys):
    assert segment([image], tmp_path / "out", wired_weights, "--diameter", "1000") == 1
    error = capsys.readouterr().err
    assert error.count("error: ") == 1
    assert "is 1000 pixels, but this model takes 2 to 200; its own cells have 20." in error
    assert not (tmp_path / "out").exists()


def test_an_image_for_which_memory_ends_is_named_and_the_others_are_written(
    tmp_path, image, wired_weights, capsys, monkeypatch
):
    predict = segmentation.predict

    def ends(pixels, config):
        if pixels.max() == 1:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        return predict(pixels, config)

    monkeypatch.setattr(segmentation, "predict", ends)
    write_png(tmp_path / "large.png", (TRUTH > 0).astype(np.uint8))
    assert segment([tmp_path / "large.png", image], tmp_path / "out", wired_weights) == 1
    output = capsys.readouterr()
    assert f"error: {tmp_path / 'large.png'}: DefaultCPUAllocator" in output.err
    assert "1 of 2 images written" in output.out


@pytest.mark.parametrize("model", ["no/such/model", __file__])
def test_wrong_model_is_said_once(tmp_path, image, model, capsys):
    assert segment([image, image.with_name("b.tif")], tmp_path / "out", model) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert model in line
    assert not (tmp_path / "out").exists()


def test_output_that_is_a_file_is_refused(tmp_path, image, wired_weights, capsys):
    assert segment([image], image, wired_weights) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert str(image) in line


@pytest.mark.parametrize("arguments", [[], ["segment"], ["segment", "a.tif"], ["novelty"], ["evaluate", "a.tif"]])
def test_wrong_arguments_exit_with_2(arguments, capsys):
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 2
    assert "usage:" in capsys.readouterr().err


def test_program_passes_the_exit_code_on(root, tmp_path):
    command = [sys.executable, "-m", "deepsplit_core", "evaluate", str(tmp_path / "a"), str(tmp_path / "b")]
    run = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert run.returncode == 1
    assert run.stderr.startswith("error: ")
    assert "Traceback" not in run.stderr


def test_ctrl_c_ends_the_program_at_once(monkeypatch, capsys):
    """And without a traceback."""

    def stopped():
        raise KeyboardInterrupt

    def ended(code):
        raise SystemExit(code)

    monkeypatch.setattr(cli, "main", stopped)
    monkeypatch.setattr(os, "_exit", ended)
    with pytest.raises(SystemExit) as end:
        cli.program()
    assert end.value.code == 130
    assert capsys.readouterr().err == "Stopped.\n"


@pytest.mark.skipif(os.name == "nt", reason="a pipe without a reader is another error on Windows")
def test_output_that_nobody_reads_is_no_error(root):
    reader, writer = os.pipe()
    os.close(reader)
    run = subprocess.run(
        [sys.executable, "-m", "deepsplit_core", "models"],
        cwd=root,
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(writer)
    assert (run.returncode, run.stderr) == (1, "")


def test_overlay_of_a_constant_image_is_drawn():
    overlay = draw_overlay(np.full((4, 5), 7, np.uint16), np.zeros((4, 5), np.int32))
    assert (overlay.shape, overlay.dtype) == ((4, 5, 3), np.uint8)


# evaluate


def evaluate_as_json(capsys, *paths):
    assert main(["evaluate", *map(str, paths), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_evaluate_two_files(tmp_path, capsys):
    write_labels(tmp_path / "truth.tif", picture("1122 1122"))
    write_labels(tmp_path / "merged.tif", picture("1111 1111"))
    scores = evaluate_as_json(capsys, tmp_path / "merged.tif", tmp_path / "truth.tif")
    assert (scores["images"], scores["n_true"], scores["n_predicted"], scores["merges"]) == (1, 2, 1, 1)
    assert (scores["dsc"], scores["cds"]) == (1, 0)


def test_evaluate_two_folders_joined_by_name(tmp_path, capsys):
    predicted, truth = tmp_path / "predicted", tmp_path / "truth"
    for folder in (predicted, truth):
        folder.mkdir()
    write_labels(truth / "a.tif", picture("11.22"))
    write_labels(truth / "b.tif", picture("1111"))
    write_labels(predicted / "a_labels.tif", picture("11.22"))
    write_labels(predicted / "b_labels.tif", picture("...."))
    write_png(predicted / "b_overlay.png", np.zeros((1, 4, 3), np.uint8))  # left beside the labels by --overlay
    (predicted / "notes.txt").write_text("not an image")
    (predicted / ".c_labels.tif.7.part.tif").write_bytes(b"what a power cut left of a file")
    scores = evaluate_as_json(capsys, predicted, truth)
    assert (scores["images"], scores["n_true"], scores["n_predicted"]) == (2, 3, 2)
    assert scores["cds"] == pytest.approx(2 * 2 / 5)


def test_evaluate_knows_an_umlaut_that_macos_took_apart(tmp_path, capsys):
    predicted, truth = tmp_path / "predicted", tmp_path / "truth"
    for folder, form in ((predicted, "NFD"), (truth, "NFC")):
        folder.mkdir()
        write_labels(folder / unicodedata.normalize(form, "Gr\u00f6\u00dfe.tif"), picture("11.22"))
    assert evaluate_as_json(capsys, predicted, truth)["cds"] == 1


def test_evaluate_prints_a_table(tmp_path, capsys):
    write_labels(tmp_path / "a.tif", picture("11.22"))
    assert main(["evaluate", str(tmp_path / "a.tif"), str(tmp_path / "a.tif")]) == 0
    rows = dict(line.split() for line in capsys.readouterr().out.splitlines())
    assert (rows["images"], rows["n_true"], float(rows["cds"]), float(rows["ap_0.9"])) == ("1", "2", 1, 1)


def test_evaluate_refuses_lonely_files(tmp_path, capsys):
    for folder, name in (("predicted", "a.tif"), ("predicted", "b.tif"), ("truth", "a.tif"), ("truth", "c.tif")):
        (tmp_path / folder).mkdir(exist_ok=True)
        write_labels(tmp_path / folder / name, picture("11"))
    assert main(["evaluate", str(tmp_path / "predicted"), str(tmp_path / "truth")]) == 1
    assert f"{tmp_path / 'truth'} lacks 1: b." in capsys.readouterr().err


@pytest.mark.parametrize("other", ["gone.tif", "folder"])
def test_evaluate_refuses_what_is_no_pair(tmp_path, other, capsys):
    (tmp_path / "folder").mkdir()
    write_labels(tmp_path / "a.tif", picture("11"))
    assert main(["evaluate", str(tmp_path / "a.tif"), str(tmp_path / other)]) == 1
    assert capsys.readouterr().err.startswith("error: ")


def test_evaluate_says_which_of_the_two_is_missing(tmp_path, capsys):
    write_labels(tmp_path / "a.tif", TRUTH)
    assert main(["evaluate", str(tmp_path / "a.tif"), str(tmp_path / "gone")]) == 1
    assert f"There is no {tmp_path / 'gone'}" in capsys.readouterr().err


def test_evaluate_refuses_grey_values_and_doubts_masks(tmp_path, capsys):
    write_labels(tmp_path / "truth.tif", TRUTH)
    tifffile.imwrite(tmp_path / "image.tif", TRUTH * np.float32(0.1))
    assert main(["evaluate", str(tmp_path / "image.tif"), str(tmp_path / "truth.tif")]) == 1
    assert "no whole numbers" in capsys.readouterr().err
    tifffile.imwrite(tmp_path / "floats.tif", TRUTH.astype(np.float32))
    assert evaluate_as_json(capsys, tmp_path / "floats.tif", tmp_path / "truth.tif")["cds"] == 1
    tifffile.imwrite(tmp_path / "mask.tif", (TRUTH > 0).astype(np.uint8) * 255)
    assert main(["evaluate", str(tmp_path / "truth.tif"), str(tmp_path / "mask.tif")]) == 0
    assert "mask.tif has one number, 255, for all its pieces" in capsys.readouterr().err
    photograph = np.random.default_rng(0).integers(0, 256, TRUTH.shape, np.uint8)
    tifffile.imwrite(tmp_path / "grey.tif", photograph)
    assert main(["evaluate", str(tmp_path / "grey.tif"), str(tmp_path / "truth.tif")]) == 0
    assert re.search(r"grey.tif has 255 numbers for \d+ pieces, as a grey image has", capsys.readouterr().err)
    tifffile.imwrite(tmp_path / "negative.tif", -TRUTH.astype(np.int32))  # any number but 0 is a cell's
    assert main(["evaluate", str(tmp_path / "negative.tif"), str(tmp_path / "truth.tif"), "--json"]) == 0
    said = capsys.readouterr()
    assert json.loads(said.out)["cds"] == 1 and said.err == ""
    write_labels(tmp_path / "one.tif", np.where(TRUTH == 2, 2, 0))  # a single cell is none
    assert main(["evaluate", str(tmp_path / "one.tif"), str(tmp_path / "truth.tif")]) == 0
    assert capsys.readouterr().err == ""


def test_evaluate_refuses_images_of_two_sizes(tmp_path, capsys):
    write_labels(tmp_path / "a.tif", picture("11"))
    write_labels(tmp_path / "b.tif", picture("111"))
    assert main(["evaluate", str(tmp_path / "a.tif"), str(tmp_path / "b.tif")]) == 1
    message = capsys.readouterr().err
    assert "(1, 2), the truth (1, 3)" in message
    assert f"{tmp_path / 'a.tif'} and {tmp_path / 'b.tif'} cannot be compared" in message


def test_evaluate_refuses_two_files_of_one_image(tmp_path, capsys):
    for path in (tmp_path / "one" / "a.tif", tmp_path / "one" / "a_labels.tif", tmp_path / "two" / "a.tif"):
        path.parent.mkdir(exist_ok=True)
        write_labels(path, picture("11"))
    assert main(["evaluate", str(tmp_path / "one"), str(tmp_path / "two")]) == 1
    assert "both belong to the image a: move one away" in capsys.readouterr().err


def test_evaluate_refuses_colour_pictures_of_labels(tmp_path, capsys):
    write_png(tmp_path / "a.png", np.zeros((4, 5, 3), np.uint8) + 1)
    assert main(["evaluate", str(tmp_path / "a.png"), str(tmp_path / "a.png")]) == 1
    assert "(4, 5, 3)" in capsys.readouterr().err


@pytest.fixture
def half_annotated(tmp_path):
    """Folders of two images with two cells each; in one of them, one of the cells is not annotated."""
    for folder, rows in {"predicted": "11.22", "truth": "11...", "ignore": "...11"}.items():
        (tmp_path / folder).mkdir()
        write_labels(tmp_path / folder / "a.tif", picture(rows))
    for folder in ("predicted", "truth"):
        write_labels(tmp_path / folder / "b.tif", picture("11.22"))
    return tmp_path


def test_evaluate_leaves_ignored_pixels_out(half_annotated, capsys):
    folders = half_annotated / "predicted", half_annotated / "truth"
    assert evaluate_as_json(capsys, *folders)["n_predicted"] == 4
    scores = evaluate_as_json(capsys, *folders, "--ignore", half_annotated / "ignore")
    assert (scores["n_predicted"], scores["cds"], scores["ignore_masks"]) == (3, 1, 1)
    files = [half_annotated / folder / "a.tif" for folder in ("predicted", "truth", "ignore")]
    assert evaluate_as_json(capsys, *files[:2], "--ignore", files[2])["n_predicted"] == 1


def test_evaluate_refuses_two_masks_of_one_image(half_annotated, capsys):
    write_png(half_annotated / "ignore" / "a.png", np.zeros((1, 5), np.uint8))
    folders = [str(half_annotated / name) for name in ("predicted", "truth", "ignore")]
    assert main(["evaluate", *folders[:2], "--ignore", folders[2]]) == 1
    assert "both belong to the image a" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("ignore", "message"),
    [("gone", "There is no"), ("ignore/a.tif", "2 images are compared"), ("empty", "empty"), ("other", "['c']")],
)
def test_evaluate_refuses_masks_that_do_not_fit(half_annotated, capsys, ignore, message):
    for folder in ("empty", "other"):
        (half_annotated / folder).mkdir()
    write_labels(half_annotated / "other" / "c.tif", picture("11.22"))
    folders = [str(half_annotated / name) for name in ("predicted", "truth", ignore)]
    assert main(["evaluate", *folders[:2], "--ignore", folders[2]]) == 1
    assert message in capsys.readouterr().err


# models


def test_models_lists_the_bundled_ones(capsys):
    assert main(["models"]) == 0
    output = capsys.readouterr().out
    assert re.findall(r"^(\S+): ", output, re.MULTILINE) == ["cells", "cells-phase", "nuclei"]
    assert output.count("cell diameter") == output.count("known failures:") == 3


def test_an_image_whose_name_the_log_cannot_write_is_segmented_all_the_same(tmp_path, tiny_weights):
    """As where the output is redirected to a file on Windows."""
    tifffile.imwrite(tmp_path / "細胞.tif", np.eye(40, dtype=np.uint8))
    command = [sys.executable, "-c", "from deepsplit_core.cli import program; program()", "segment"]
    command += [str(tmp_path / "細胞.tif"), "--model", str(tiny_weights), "--output", str(tmp_path / "out")]
    environment = {**os.environ, "PYTHONIOENCODING": "cp1252"}
    run = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert run.returncode == 0, run.stderr
    assert r"\u7d30\u80de.tif: " in run.stdout
    assert (tmp_path / "out" / "細胞_labels.tif").exists()
