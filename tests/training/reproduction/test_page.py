"""The page of the paper's tables, from results that were made up so that every number can be worked out by hand."""

import dataclasses
import json

import pytest

from deepsplit_core.metrics import Scores
from training.learning.config import TrainConfig
from training.reproduction.page import BEGIN, END, write_page


def scores(n_matched, common):
    """10 true and 10 found cells on 100 pixels each: CDS = matched / 10, DSC = common / 100, AP .5 = m / (20 - m).

    One match fewer by position.
    """
    return Scores(10, 10, (n_matched, n_matched, 0, 0, 0), n_matched, n_matched - 1, 2, 1, common, 100, 100)


def write(folder, name, system, seed, fold=0, n_folds=1, intersected=(5, 50), cleaned=6, final=(8, 80), seconds=60.0):
    counts = {"intersected": scores(*intersected), "cleaned": scores(cleaned, 60), "post-processed": scores(*final)}
    result = {
        **{"set": name, "system": system, "seed": seed, "fold": fold, "n_folds": n_folds, "seconds": seconds},
        "counts": {step: dataclasses.asdict(value) for step, value in counts.items()},
        "steps": {"segmentation": 400, "separation": 300},
        "images": {"train": ["a", "b", "c"], "validation": ["d"], "test": ["e"]},
        "config": TrainConfig().to_dict(),
        "data": {"side": 512, "sha256": ""},
        "device": ["cpu", "float32"],
    }
    folder.mkdir(exist_ok=True)
    (folder / f"{name}-{seed}-{fold}-{system}.json").write_text(json.dumps(result))


def rows(page, title):
    """The cells of all rows that begin with a title, in the order of the page."""
    lines = [line.strip("| ").split(" | ") for line in page.read_text().splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line[1:]] for line in lines if line[0] == title]


@pytest.fixture
def page(tmp_path):
    return tmp_path / "page.md"


def test_means_and_deviations_over_seeds_beside_the_papers_figures(tmp_path, page):
    """CDS .5 and .7: mean .6, standard deviation .141; the same of DSC .5 and .52: .51 and .014."""
    write(tmp_path / "results", "usiigaci", "unet", 0, intersected=(5, 50), final=(8, 80), seconds=60)
    write(tmp_path / "results", "usiigaci", "unet", 1, intersected=(7, 52), final=(8, 80), seconds=180)
    write_page(page, tmp_path / "results", 3)
    paper, more = rows(page, "U-Net")
    assert paper == [
        *("2 of 3", ".510 ± .014", ".841", ".600 ± .141", ".699"),
        *(".800 ± .000", ".842", ".800 ± .000", ".704"),
    ]
    # AP .5 = 8 / 12; 2 merges, 1 split, 10 cells; 2 minutes on average.
    assert more == [
        *(".600 ± .000", ".500 ± .000", ".700 ± .000"),
        *(".667 ± .000", ".667 ± .000", ".000 ± .000", ".000 ± .000", ".000 ± .000"),
        *("2.0", "1.0", "10.0", "400 + 300", "2.0"),
    ]
    assert rows(page, "Cumulative DeepSplit")[0][0] == "missing"
    assert "## endothelium\n\nNo system is finished yet." in page.read_text()


def test_folds_are_added_before_anything_is_divided(tmp_path, page):
    """CDS of 8 and of 2 cells of 10: 10 of 20. DSC: 80 and 40 of 100 pixels: 120 of 200."""
    for fold, final in enumerate([(8, 80), (2, 40)]):
        write(tmp_path / "results", "endothelium", "two-unets", 0, fold, 2, final=final)
    write_page(page, tmp_path / "results", 3)
    paper, more = rows(page, "Two independent U-Nets")
    assert paper == ["2 of 6", ".500", "-", ".500", "-", ".600", "-", ".500", "-"]
    assert more[3] == ".333"  # 10 / (40 - 10)
    assert more[8:11] == ["4.0", "2.0", "20.0"]


def test_claims_are_of_the_folds_that_both_have(tmp_path, page):
    """Seed 0: 8 + 4 of 20 against 6 + 2, and not the fold that one of them lacks; seed 1: none."""
    for fold, matched in enumerate([8, 4, 1]):
        write(tmp_path / "results", "endothelium", "cumulative-deepsplit", 0, fold, 3, final=(matched, 80))
    for seed, fold, matched in [(0, 0, 6), (0, 1, 2), (1, 0, 1)]:
        write(tmp_path / "results", "endothelium", "unet", seed, fold, 3, final=(matched, 80))
    write(tmp_path / "results", "endothelium", "cumulative-deepsplit", 1, 2, 3)
    write_page(page, tmp_path / "results", 2)
    (claim,) = rows(page, "Cumulative DeepSplit minus U-Net")
    assert claim == ["2", "+.000", "+.069", "+.000", "+.200", "+.199"]


def test_claims_are_differences_within_a_seed(tmp_path, page):
    """+.2 and +.4, of the seeds that both have, .6 - .5 before; the paper's: .903 - .770 and .911 - .812."""
    for seed, cumulative, simultaneous in [(0, 8, 6), (1, 9, 5), (2, 1, None)]:
        write(tmp_path / "results", "usiigaci", "cumulative-deepsplit", seed, final=(cumulative, 80))
        if simultaneous:
            write(tmp_path / "results", "usiigaci", "simultaneous-deepsplit", seed, cleaned=5, final=(simultaneous, 90))
    write_page(page, tmp_path / "results", 3)
    (claim,) = rows(page, "Cumulative DeepSplit minus Simultaneous DeepSplit")
    assert claim == ["2", "-.100 ± .000", "+.099", "+.100 ± .000", "+.300 ± .141", "+.133"]
    (claim,) = rows(page, "Cumulative DeepSplit minus Cumulative Branch-Net")
    assert claim == ["missing", "", "+.030", "", "", "+.013"]


def test_only_the_deepsplit_has_cross_connections(tmp_path, page):
    """4.1: "DeepSplit outperforming Branch-Net and Double-U-Net highlights the value of cross connections"."""
    write(tmp_path / "results", "usiigaci", "unet", 0)
    write_page(page, tmp_path / "results", 1)
    text = page.read_text()
    claims = text[text.index("**Cross connections") : text.index("**Simultaneous learning")].splitlines()[1:]
    names = [line.strip("| ").split(" | ")[0].strip() for line in claims if " minus " in line]
    pairs = [
        (schedule, other) for schedule in ("Cumulative", "Simultaneous") for other in ("Branch-Net", "Double-U-Net")
    ]
    assert names == [f"{schedule} DeepSplit minus {schedule} {other}" for schedule, other in pairs]


def test_what_a_person_wrote_around_the_tables_is_kept(tmp_path, page):
    page.write_text(f"# Mine\n\nBefore.\n\n{BEGIN}\nOf last week.\n{END}\n\nWhat agrees.\n")
    write(tmp_path / "results", "usiigaci", "unet", 0)
    write_page(page, tmp_path / "results", 1)
    once = page.read_text()
    assert once.startswith(f"# Mine\n\nBefore.\n\n{BEGIN}\n")
    assert once.endswith(f"{END}\n\nWhat agrees.\n")
    assert "last week" not in once
    write_page(page, tmp_path / "results", 1)
    assert page.read_text() == once


@pytest.mark.parametrize("text", ["# Mine\n", f"{END}\n{BEGIN}\n", f"{BEGIN}\n"])
def test_page_without_the_marks_is_left_alone(tmp_path, page, text):
    page.write_text(text)
    with pytest.raises(ValueError, match="the tables go between them"):
        write_page(page, tmp_path / "results", 1)
    assert page.read_text() == text


def test_every_row_has_as_many_cells_as_its_header(tmp_path, page):
    write(tmp_path / "results", "usiigaci", "cumulative-deepsplit", 0)
    write_page(page, tmp_path / "results", 1)
    tables = [part.splitlines() for part in page.read_text().split("\n\n") if part.startswith("|")]
    assert len(tables) == 3
    assert all(len({line.count("|") for line in table}) == 1 for table in tables)
