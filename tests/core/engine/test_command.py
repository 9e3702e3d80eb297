"""`deepsplit engine --status` and `--stop`."""

import json
import os

import pytest

from deepsplit_core.cli import main


def test_status_is_json(serve, capsys):
    assert main(["engine", "--status"]) == 0
    assert json.loads(capsys.readouterr().out) is None
    serve()
    assert main(["engine", "--status"]) == 0
    assert json.loads(capsys.readouterr().out)["pid"] == os.getpid()


def test_stop_says_whether_there_was_one(serve, capsys):
    assert main(["engine", "--stop"]) == 0
    assert "No engine is running" in capsys.readouterr().out
    served = serve()
    assert main(["engine", "--stop"]) == 0
    assert "has ended" in capsys.readouterr().out
    served.thread.join(10)
    assert not served.thread.is_alive()


@pytest.mark.parametrize("options", [["--stop"], ["--status"], []])
def test_a_missing_python_is_an_error(place, tmp_path, capsys, options):
    assert main(["engine", "--python", str(tmp_path), *options]) == 1
    assert "neither a Python nor" in capsys.readouterr().err


def test_an_engine_runs_in_its_own_python_only(place, tmp_path, capsys):
    (tmp_path / "python").write_text("")
    assert main(["engine", "--python", str(tmp_path / "python")]) == 1
    assert "--stop and --status" in capsys.readouterr().err
    assert not place.folder.exists()
