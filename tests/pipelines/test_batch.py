"""The pipeline `batch`: two jobs, joined, give what one single run gives."""

import csv

import numpy as np
import pytest
import tifffile


@pytest.fixture(scope="module")
def batch_file(run_example, small_images, tmp_path_factory):
    """The batch file of two fields. CellProfiler ends with 1 after writing it: what counts is the file."""
    output = run_example("batch", small_images, tmp_path_factory.mktemp("batch"), exit_code=1)
    return output / "Batch_data.h5"


@pytest.fixture(scope="module")
def jobs(run_example, batch_file, small_images):
    """The output folders of one job for each field, the last one first."""
    folders = [batch_file.parent / f"job{number}" for number in (2, 1)]
    for folder, number in zip(folders, "21"):
        run_example("batch", small_images, folder, "-f", number, "-l", number, pipeline=batch_file)
    return folders


@pytest.fixture(scope="module")
def single(run_example, batch_file, small_images):
    return run_example("batch", small_images, batch_file.parent / "single", pipeline=batch_file)


# What depends on the clock, and what CellProfiler counts within a job.
OF_THE_JOB = ("ExecutionTime_", "DeepSplit_Seconds", "Group_")


def rows_of(path):
    """The rows of a table, without the columns that differ between a job and a single run."""
    with open(path, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return [{key: value for key, value in row.items() if not key.startswith(OF_THE_JOB)} for row in rows]


def test_joined_jobs_are_a_single_run(join, jobs, single, tmp_path):
    assert join.main([*map(str, jobs), "--output", str(tmp_path)]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["Image.csv", "Nuclei.csv"]
    for name in ("Image.csv", "Nuclei.csv"):
        joined = rows_of(tmp_path / name)
        assert joined == rows_of(single / name)
        assert {row["ImageNumber"] for row in joined} == {"1", "2"}


def test_each_job_segments_its_own_field(demo, jobs, single):
    for folder, field in zip(jobs, ("01_POS076", "01_POS002")):
        (labels,) = folder.glob("*_labels.tiff")
        assert labels.name == f"{field}_nuclei_labels.tiff"
        assert tifffile.imread(labels).max() == len(demo.read_rows(folder / "Nuclei.csv")) > 0
        assert np.array_equal(tifffile.imread(labels), tifffile.imread(single / labels.name))


@pytest.fixture
def small_jobs(tmp_path):
    """Two jobs of one image each, drawn: Image.csv and Cells.csv."""
    for number in (1, 2):
        folder = tmp_path / f"job{number}"
        folder.mkdir()
        (folder / "Image.csv").write_text(f"ImageNumber,Count_Cells\n{number},2\n")
        (folder / "Cells.csv").write_text(f"ImageNumber,ObjectNumber\n{number},1\n{number},2\n")
    return tmp_path / "job1", tmp_path / "job2"


def test_rows_are_in_order_of_images_and_objects(join, small_jobs):
    tables = join.join([small_jobs[1], small_jobs[0]])
    assert tables["Cells.csv"] == (
        ["ImageNumber", "ObjectNumber"],
        [["1", "1"], ["1", "2"], ["2", "1"], ["2", "2"]],
    )


def test_paths_keep_the_encoding_of_the_machine_that_wrote_them(join, small_jobs, tmp_path):
    """CellProfiler writes tables in that of its system: cp1252 on a German Windows."""
    for job in small_jobs:
        table = (job / "Image.csv").read_text().replace("_Cells\n", "_Cells,PathName\n").rstrip() + ",C:\\J\u00fcrgen\n"
        (job / "Image.csv").write_bytes(table.encode("cp1252"))
    assert join.main([*map(str, small_jobs), "--output", str(tmp_path / "all")]) == 0
    assert (tmp_path / "all" / "Image.csv").read_bytes().count("C:\\J\u00fcrgen\n".encode("cp1252")) == 2


def test_a_job_that_failed_is_named(join, small_jobs, tmp_path, capsys):
    (small_jobs[1] / "Image.csv").unlink()
    output = tmp_path / "all"
    assert join.main([*map(str, small_jobs), "--output", str(output)]) == 1
    assert f"{small_jobs[1]} holds no Image.csv" in capsys.readouterr().err
    assert not output.exists()


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("", "Cells.csv has no column ImageNumber"),
        ("First Image Number,Second Image Number\n1,1\n", "Cells.csv has no column ImageNumber"),
        ("ImageNumber,ObjectNumber\n2,1\n2\n", "Cells.csv has rows that are not complete"),
    ],
)
def test_a_table_of_another_kind_or_cut_short_is_named(join, small_jobs, tmp_path, capsys, table, message):
    (small_jobs[1] / "Cells.csv").write_text(table)
    assert join.main([*map(str, small_jobs), "--output", str(tmp_path / "all")]) == 1
    assert message in capsys.readouterr().err


def test_images_that_no_job_has_are_named(join, small_jobs, tmp_path, capsys):
    path = small_jobs[1] / "Image.csv"
    columns, rows = join.read_table(path)
    for row in rows:
        row[columns.index("ImageNumber")] = "7"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([columns, *rows])
    assert join.main([*map(str, small_jobs), "--output", str(tmp_path / "all")]) == 0
    assert capsys.readouterr().err.endswith("5, 6\n")


def test_an_image_in_two_jobs_is_refused(join, small_jobs):
    with pytest.raises(ValueError, match="Image 1 is in .*job1 and in .*job1"):
        join.join([small_jobs[0], small_jobs[0]])


@pytest.mark.parametrize("change", ["missing", "other columns"])
def test_jobs_of_two_pipelines_are_refused(join, small_jobs, change):
    if change == "missing":
        (small_jobs[1] / "Cells.csv").unlink()
    else:
        (small_jobs[1] / "Cells.csv").write_text("ImageNumber,ObjectNumber,Area\n2,1,5\n")
    with pytest.raises(ValueError, match="job2 has other tables or columns than .*job1"):
        join.join(list(small_jobs))
