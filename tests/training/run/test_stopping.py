"""Real processes that are killed, told to end, or run out of room, and what becomes of their runs."""

import os
import signal
import threading
import time

import pytest
import torch
from child_runs import KILLED_AT_FILE, assert_same_run, command, lengthened, rows, wait_for

from training.cli import main
from training.data import prepare
from training.learning import inspection
from training.run.checkpoint import read_checkpoint
from training.run.stopping import Stopped, stoppable, unstoppable

POSIX = pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals")

# No file may grow beyond n bytes: a disk that fills up.
FULL_DISK = """
import resource, sys
from training.cli import main
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]),) * 2)
sys.exit(main(sys.argv[2:]))
"""


@pytest.fixture(autouse=True)
def heard():
    """SIGINT is heard here even where the tests run in the background of a shell, which lets its programs ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def whole(data, preset, tmp_path):
    """The folder of an uninterrupted run; the tiny preset has dropout and batch normalisation."""
    assert main(command(data, tmp_path / "whole", preset)) == 0
    return tmp_path / "whole"


# Files of a run: split.json, config.json, an empty metrics.csv, then checkpoint.pt and metrics.csv for 2 + 2 epochs.
@POSIX
@pytest.mark.parametrize(
    ("n", "moment", "n_epochs"),
    [(6, "before", 1), (6, "after", 2), (7, "after", 2), (9, "before", 3)],
    ids=["while the checkpoint is written", "between checkpoint and row", "between stages", "while a row is written"],
)
def test_killed_run_goes_on_to_the_same_result(start, data, preset, tmp_path, whole, n, moment, n_epochs):
    run = tmp_path / "run"
    process = start("-c", KILLED_AT_FILE, str(n), moment, *command(data, run, preset))
    assert process.wait() == -signal.SIGKILL
    assert len(read_checkpoint(run / "checkpoint.pt")["history"]) == n_epochs
    assert len(list(run.glob(".*.part*"))) == (moment == "before")
    torch.manual_seed(99)
    assert main(command(data, run, preset, "--resume")) == 0
    assert_same_run(run, whole)
    assert list(run.glob(".*.part*")) == []


@POSIX
@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_signal_ends_with_a_sentence_that_says_how_to_go_on(start, data, preset, tmp_path, name):
    """The whole group gets it, as from a terminal or a cluster: the worker process too."""
    run, number = tmp_path / "run", getattr(signal, name)
    process = start("-m", "training", *command(data, run, lengthened(preset)))
    wait_for(run / "checkpoint.pt", process)
    os.killpg(process.pid, number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    stopped, *rest = errors.strip().splitlines()
    assert (rest, stopped.split(" (")[0]) == ([], "Stopped")
    assert name in stopped
    assert stopped.endswith("holds the last complete epoch. Go on with the same command and --resume.")
    assert read_checkpoint(run / "checkpoint.pt")["history"]
    assert list(run.glob(".*.part*")) == []


@POSIX
def test_signal_while_a_checkpoint_is_written_waits_for_it(data, preset, tmp_path, monkeypatch, capsys):
    """Out of torch's C++ code it would come as "unexpected pos", and the epoch would be lost."""
    save = torch.save

    def interrupted(state, file):
        os.kill(os.getpid(), signal.SIGTERM)
        save(state, file)

    monkeypatch.setattr(torch, "save", interrupted)
    assert main(command(data, tmp_path / "run", preset)) == 143
    assert "holds the last complete epoch. Go on with " in capsys.readouterr().err
    assert len(read_checkpoint(tmp_path / "run" / "checkpoint.pt")["history"]) == 1


@POSIX
def test_stop_before_the_first_epoch_says_to_start_again(start, data, preset, tmp_path):
    run = tmp_path / "run"
    preset.write_text(preset.read_text().replace("epoch_steps = 2", "epoch_steps = 1000"))
    process = start("-m", "training", *command(data, run, preset))
    wait_for(run / "metrics.csv", process)
    process.terminate()
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 143
    assert errors.strip().splitlines()[-1].endswith("No epoch was complete yet: start again with the same command.")
    assert "Traceback" not in errors
    preset.write_text(preset.read_text().replace("epoch_steps = 1000", "epoch_steps = 1"))
    assert main(command(data, run, preset, "--resume")) == 0  # which a cluster's script adds in any case


@POSIX
@pytest.mark.parametrize("command", ["simulate", "prepare", "inspect", "look"])
def test_stop_says_what_may_be_incomplete(data, tmp_path, monkeypatch, capsys, command):
    """Each is stopped after its first file; `prepare` without an output writes none."""
    images, output = ["--data", str(data)], ["--output", str(tmp_path / "out")]
    arguments = {
        "simulate": ["simulate", "--number", "2", "--size", "64", "--diameter", "12", *output],
        "prepare": ["prepare", *images, *output],
        "inspect": ["inspect", *images, *output],
        "look": ["prepare", *images],
    }[command]

    def stopping(*_, **__):
        signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(prepare, "write_labels", stopping)
    monkeypatch.setattr(inspection, "print", stopping, raising=False)
    monkeypatch.setattr(prepare, "as_table", stopping if command == "look" else prepare.as_table)
    assert main(arguments) == 143
    says = "It is not finished: start again." if command == "look" else f"{tmp_path / 'out'} may be incomplete"
    assert f"Stopped (SIGTERM). {says}" in capsys.readouterr().err
    assert len([path for path in (tmp_path / "out").rglob("*") if path.is_file()]) == (command != "look")


@POSIX
def test_full_disk_keeps_the_last_epoch(start, data, preset, tmp_path):
    """In stage 2 the checkpoint grows by the optimiser's state of more parameters: there the room ends."""
    run = tmp_path / "run"
    preset_two = tmp_path / "free.toml"
    preset_two.write_text("freeze_trunk = false\n" + preset.read_text())
    assert main(command(data, tmp_path / "free", preset_two)) == 0
    room = (tmp_path / "free" / "checkpoint.pt").stat().st_size - 1000
    process = start("-c", FULL_DISK, str(room), *command(data, run, preset_two))
    _, errors = process.communicate()
    assert process.returncode == 1, errors
    (line,) = errors.strip().splitlines()
    assert line.startswith("error: ")
    assert "checkpoint.pt could not be written (File too large)" in line
    assert "go on with --resume" in line
    assert [row["stage"] for row in rows(run)] == ["segmentation"] * 2
    assert list(run.glob(".*.part*")) == []
    assert main(command(data, run, preset_two, "--resume")) == 0
    assert_same_run(run, tmp_path / "free")


# The piece itself


@POSIX
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signal_becomes_an_exception_that_no_handler_of_errors_takes(number, code):
    with pytest.raises(Stopped) as stopped, stoppable():
        try:
            os.kill(os.getpid(), number)
            time.sleep(5)
        except Exception:
            pytest.fail("taken for an error")
    assert stopped.value.exit_code == code


@POSIX
def test_what_fails_because_the_program_ends_is_no_error():
    """The worker process was ended by the same signal, say, and torch says so in the midst of it."""
    with pytest.raises(Stopped) as stopped, stoppable():
        try:
            signal.raise_signal(signal.SIGTERM)
        finally:
            raise RuntimeError("DataLoader worker exited unexpectedly")
    assert isinstance(stopped.value.__cause__, RuntimeError)
    with pytest.raises(RuntimeError, match="an error of its own"), stoppable():
        raise RuntimeError("an error of its own")


@POSIX
def test_signal_waits_for_the_end_of_a_block_and_the_second_one_for_nothing():
    done = []
    with pytest.raises(Stopped, match="SIGINT"), stoppable():
        with unstoppable():
            signal.raise_signal(signal.SIGINT)
            done.append(signal.getsignal(signal.SIGINT))
        pytest.fail("the signal was lost")
    assert done == [signal.SIG_DFL]


@pytest.mark.parametrize("block", [stoppable, unstoppable])
def test_signals_are_as_before_afterwards(block):
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with block():
        assert signal.getsignal(signal.SIGTERM) is not before[1]
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


@POSIX
@pytest.mark.parametrize("block", [stoppable, unstoppable])
def test_ignored_ctrl_c_stays_ignored(block):
    """A program in the background of a shell script, say."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with block():
            os.kill(os.getpid(), signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("block", [stoppable, unstoppable])
def test_other_threads_run_without_it(block):
    seen = []

    def run():
        with block():
            seen.append(True)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert seen == [True]
