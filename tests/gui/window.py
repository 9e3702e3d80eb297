"""A screen without a monitor, and CellProfiler's real window on it, driven by keys and looked at by pictures."""

import importlib.util
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

from imageio import v2 as imageio

START = Path(__file__).with_name("start_cellprofiler.py")
WIDTH, HEIGHT = 1500, 1300  # of the main window: all settings of DeepSplitSegment fit in
PROGRAMS = ("Xvfb", "openbox", "xdotool", "import", "setpriv")
IS_5 = importlib.util.find_spec("cellprofiler_library") is not None
# What the log says when something went wrong.
TROUBLE = re.compile("^Traceback|Could not load|Failed to load pipeline|Error detected during run of module", re.M)
HARMLESS = (
    # MySQL is not installed, see requirements/README.md.
    r"^Traceback .*\n.*exporttodatabase\.py.*\n.*import MySQLdb\nModuleNotFoundError.*\n",
    # CellProfiler 5, at the end of an analysis: a worker asks for work when the answering socket is closed already.
    r"^Exception in thread AnalysisRunner\.jobserver.*\nTraceback.*\n"
    r"(?: .*\n)+zmq\.error\.ZMQError: Socket operation on non-socket\n",
)

# Without these, dialogs wait for an answer at start. Both versions read such a file, in different folders.
PREFERENCES = r"""
PreferencesVersion=1
Telemetry=0
Telemetry\ prompt=0
StartupBlurb=0
CheckForUpdates={no_updates}
MaxWorkers=2
PluginDirectoryCP4={plugins}
Reader.Bio-Formats.enabled=0
Reader.ImageIO.read_tif=1
"""


def wait_for(what, find, seconds):
    """Return the first true answer of `find()`; TimeoutError says what did not come."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = find()
        if found:
            return found
        time.sleep(0.2)
    raise TimeoutError(f"{what}: not there after {seconds} s")


def members(group):
    """The command lines of the living processes of a process group, by process id."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            state, _, own_group = (folder / "stat").read_text().rpartition(")")[2].split()[:3]
            if int(own_group) == group and state != "Z":
                found[int(folder.name)] = (folder / "cmdline").read_bytes().decode().split("\0")
        except (FileNotFoundError, ProcessLookupError):  # it ended meanwhile
            continue
    return found


@contextmanager
def running(command, log, **options):
    """A program in a process group of its own that ends with the block, and so does whatever it started."""
    # setpriv: it ends with this process too, even where that is killed and runs no `finally`.
    command = ["setpriv", "--pdeathsig", "KILL", *command]
    with open(log, "wb") as file:
        process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, start_new_session=True, **options)
    try:
        yield process
    finally:
        for number in (signal.SIGTERM, signal.SIGKILL):
            if members(process.pid):
                os.killpg(process.pid, number)
            end = time.monotonic() + 3
            while members(process.pid) and time.monotonic() < end:
                time.sleep(0.1)
        process.wait()


@contextmanager
def screen(folder):
    """A display of its own with a window manager; gives its name, for instance ":1"."""
    read, write = os.pipe()
    # Without -noreset it ends with its first client.
    command = ["Xvfb", "-displayfd", str(write), "-screen", "0", "1600x1400x24", "-nolisten", "tcp", "-noreset"]
    with running(command, folder / "xvfb.log", pass_fds=[write]):
        os.close(write)
        with open(read) as pipe:
            display = f":{pipe.readline().strip()}"
        environment = {**os.environ, "DISPLAY": display}
        with running(["openbox", "--sm-disable"], folder / "openbox.log", env=environment):
            yield display


class CellProfiler:
    """A CellProfiler that runs on a screen."""

    def __init__(self, process, environment, log, pictures):
        self.process, self.environment, self.log, self.pictures = process, environment, log, pictures
        self.main = self.wait_for_window("^CellProfiler [0-9]", 60)
        self.fit()

    def fit(self):
        """Bring the main window to the front in its full size; CellProfiler 5 sets its own for a while."""

        def fits():
            geometry = self.xdotool("getwindowgeometry", "--shell", self.main)
            if {f"WIDTH={WIDTH}", f"HEIGHT={HEIGHT}"} <= set(geometry):
                return True
            self.xdotool("windowsize", self.main, WIDTH, HEIGHT, "windowmove", self.main, 10, 40)
            return False

        wait_for("the full size of the main window", fits, 20)
        self.xdotool("windowactivate", "--sync", self.main)

    def xdotool(self, *arguments):
        run = subprocess.run(
            ["xdotool", *map(str, arguments)], env=self.environment, capture_output=True, text=True, timeout=20
        )
        return run.stdout.split()

    def find_window(self, title):
        """Return the newest visible window whose title fits a regular expression, or None."""
        found = self.xdotool("search", "--onlyvisible", "--name", title)
        return found[-1] if found else None

    def windows(self):
        """Return all visible windows; some of CellProfiler's dialogs have no title to be found by."""
        return set(self.xdotool("search", "--onlyvisible", "--pid", self.process.pid))

    def wait_for_window(self, title, seconds=30):
        """Return the window, or raise; what the screen shows instead is kept as a picture."""

        def find():
            if self.process.poll() is not None:
                raise RuntimeError(f"CellProfiler has ended. Its log:\n{self.log.read_text()[-3000:]}")
            return self.find_window(title)

        try:
            return wait_for(f"window {title!r}", find, seconds)
        except TimeoutError:
            self.picture("root", "missing")
            raise

    def press(self, *keys):
        """Press keys in the main window."""
        self.fit()
        for key in keys:
            self.xdotool("key", key)

    def click(self, window, x, y):
        self.xdotool("mousemove", "--sync", "--window", window, x, y, "click", 1)

    def picture(self, window, name):
        """Take a picture of a window: (Y, X, 3) uint8. It is kept in the folder of pictures."""
        if window != "root":  # what lies above a window would be in its picture
            self.xdotool("windowraise", window)
            time.sleep(0.3)
        path = self.pictures / f"{name}.png"
        subprocess.run(["import", "-window", window, str(path)], env=self.environment, check=True, timeout=20)
        return imageio.imread(path)[..., :3]

    def trouble(self):
        """Return what the log tells of something that went wrong, from there to its end."""
        log = re.sub("|".join(HARMLESS), "", self.log.read_text(errors="replace"), flags=re.M)
        found = TROUBLE.search(log)
        return [log[found.start() :]] if found else []

    def workers(self):
        """Return the process ids of the analysis workers."""
        return [pid for pid, command in members(self.process.pid).items() if any("worker" in word for word in command)]


@contextmanager
def cellprofiler(display, folder, pictures, plugins, *options):
    """CellProfiler's window with the options of its command line; `folder` gets its home and its log."""
    settings = folder / "home" / ".config" / ("CellProfiler" if IS_5 else "") / "CellProfilerLocal.cfg"
    settings.parent.mkdir(parents=True)
    settings.write_text(PREFERENCES.format(no_updates="Disabled" if IS_5 else 0, plugins=plugins))
    environment = {**os.environ, "DISPLAY": display, "HOME": str(folder / "home")}
    log = folder / "cellprofiler.log"
    command = [sys.executable, START, *options]
    with running(list(map(str, command)), log, env=environment) as process:
        yield CellProfiler(process, environment, log, pictures)
