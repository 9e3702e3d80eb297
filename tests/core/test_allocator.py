"""Whether freed memory stays with the process: in one of its own, as the setting is for good."""

import subprocess
import sys

import pytest

CODE = """
import resource, sys, threading
from deepsplit_core.allocator import keep_memory

kept = keep_memory() if sys.argv[1] == "keep" else None

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    b"x" * (100 << 20)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def report():
    faults()
    print(kept, faults() < 1000)  # of 25,600 pages

thread = threading.Thread(target=report)
thread.start()
thread.join()
report()
"""


def run(argument, code=CODE):
    return subprocess.run([sys.executable, "-c", code, argument], capture_output=True, text=True, check=True).stdout


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only glibc can be told")
def test_a_large_array_takes_the_pages_of_the_one_before_in_every_thread():
    assert run("keep").split() == ["True", "True"] * 2
    assert run("leave").split() == ["None", "False"] * 2  # what it mends is there


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only glibc can be told")
def test_kept_memory_can_be_given_back():
    code = CODE.replace("    print(", "    release_memory()\n    print(").replace(
        "import keep_", "import release_memory, keep_"
    )
    assert run("keep", code).split() == ["True", "False"] * 2


OLD = """
import ctypes
from deepsplit_core import allocator

class Old:
    library = ctypes.CDLL(None)

    def mallopt(self, option, value):
        return 0 if option == allocator._MMAP_THRESHOLD and value > 32 << 20 else self.library.mallopt(option, value)

    def malloc_trim(self, pad):
        return self.library.malloc_trim(pad)

allocator._glibc = Old
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only glibc can be told")
def test_so_it_is_with_an_old_glibc_which_refuses_a_threshold_above_32_mb():
    assert run("keep", OLD + CODE).split() == ["True", "True"] * 2
    code = CODE.replace("    print(", "    release_memory()\n    print(").replace(
        "import keep_", "import release_memory, keep_"
    )
    assert run("keep", OLD + code).split() == ["True", "False"] * 2


def test_other_systems_are_left_alone(monkeypatch):
    from deepsplit_core import allocator

    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setattr(allocator.ctypes, "CDLL", None)  # not even looked at
    assert allocator.keep_memory() is False
