"""Join the tables of several batch jobs into one folder, as one single run would have written them.

    python example_pipelines/batch/join.py results/job1 results/job2 ... --output results/all

CellProfiler numbers the images of a batch throughout (ImageNumber), but every job writes files of the same names. Only
Group_Index and Group_Length of images count within a job, and stay so.
"""

import argparse
import csv
import sys
from pathlib import Path
from typing import Dict, List, Tuple

Table = Tuple[List[str], List[List[str]]]


def read_table(path: Path) -> Table:
    """Read the columns and the rows of a CSV file, whose texts CellProfiler wrote in the encoding of its machine."""
    with open(path, newline="", encoding="utf-8", errors="surrogateescape") as file:
        columns, *rows = list(csv.reader(file)) or [[]]
    if columns.count("ImageNumber") != 1:
        raise ValueError(
            f"{path} has no column ImageNumber, or several: it tells of pairs of objects, of several kinds of objects "
            "in one table, or of none. Have ExportToSpreadsheet write one file for each kind, or move this one away."
        )
    if any(len(row) != len(columns) for row in rows):
        raise ValueError(f"{path} has rows that are not complete: its job is not done, or was ended. Run it again.")
    return columns, rows


def read_job(job: Path) -> Dict[str, Table]:
    """Read the tables with a row for each image or object; Experiment.csv tells of the run, not of images."""
    tables = {path.name: read_table(path) for path in sorted(job.glob("*.csv")) if path.name != "Experiment.csv"}
    if "Image.csv" not in tables:
        others = f" (only {', '.join(tables)}; names with a prefix are not known)" if tables else ""
        raise ValueError(
            f"{job} holds no Image.csv{others}: that job has failed or is not done. Run it again, or leave it out."
        )
    return tables


def join(jobs: List[Path]) -> Dict[str, Table]:
    """Return the tables of all jobs by file name, their rows by ImageNumber.

    Raises
    ------
    ValueError
        A job has no tables or others than the first one, or two jobs have the same image.
    """
    tables: Dict[str, Table] = {}
    seen: Dict[str, Path] = {}
    for job in jobs:
        found = read_job(job)
        columns, rows = found["Image.csv"]
        for row in rows:
            number = row[columns.index("ImageNumber")]
            if number in seen:
                raise ValueError(f"Image {number} is in {seen[number]} and in {job}: give each image once.")
            seen[number] = job
        tables = tables or {name: (columns, []) for name, (columns, _) in found.items()}
        if {name: columns for name, (columns, _) in found.items()} != {
            name: table[0] for name, table in tables.items()
        }:
            raise ValueError(f"{job} has other tables or columns than {jobs[0]}: join jobs of one pipeline only.")
        for name, (_, rows) in found.items():
            tables[name][1].extend(rows)
    for columns, rows in tables.values():
        # The sort is stable: the objects of an image keep their order.
        rows.sort(key=lambda row: int(row[columns.index("ImageNumber")]))
    return tables


def main(arguments: List[str]) -> int:
    """Join the jobs that the command line names, and return the exit code."""
    parser = argparse.ArgumentParser(description="Join the tables of several batch jobs.")
    parser.add_argument("jobs", nargs="+", type=Path, metavar="JOB", help="the output folder of a job")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder for the joined tables")
    options = parser.parse_args(arguments)
    try:
        tables = join(options.jobs)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    columns, rows = tables["Image.csv"]
    numbers = {int(row[columns.index("ImageNumber")]) for row in rows}
    if missing := sorted(set(range(1, max(numbers, default=0))) - numbers):
        print(f"warning: no job has the images {', '.join(map(str, missing))}", file=sys.stderr)
    options.output.mkdir(parents=True, exist_ok=True)
    for name, (columns, rows) in tables.items():
        with open(options.output / name, "w", newline="", encoding="utf-8", errors="surrogateescape") as file:
            csv.writer(file, lineterminator="\n").writerows([columns, *rows])
        print(f"{options.output / name}: {len(rows)} rows")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
