"""Sets up DeepSplit's environments, and compiles their requirement files.

    python requirements/install.py cellprofiler4        .venv            (Python 3.11, CellProfiler 4.2.8.1)
    python requirements/install.py cellprofiler5        .venv-cp5        (Python 3.11, a nightly of CellProfiler 5)
    python requirements/install.py cellprofiler4-exact  .venv-cp4-exact  (Python 3.9, CellProfiler 4.2.8.1 with its own
                                                                         pins, without torch and without DeepSplit)
    python requirements/install.py lock [--upgrade]     compiles requirements/*.in to *.txt

Runs with any Python from 3.8 on, on Linux, macOS and Windows, and needs nothing installed beside it. A second
call does nothing as long as the requirement files are the same.
"""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ENVIRONMENTS = {"cellprofiler4": ".venv", "cellprofiler5": ".venv-cp5", "cellprofiler4-exact": ".venv-cp4-exact"}
BUILD_CONSTRAINTS = "requirements/build-constraints.txt"
TORCH = "requirements/torch.txt"
PYTHONS = {"cellprofiler4": "3.11", "cellprofiler5": "3.11", "cellprofiler4-exact": "3.9"}


def main():
    """Do what the command line says."""
    os.chdir(ROOT)
    command = sys.argv[1] if len(sys.argv) > 1 else None
    if command in ENVIRONMENTS:
        install(command)
    elif command == "lock":
        lock(sys.argv[2:])
    else:
        sys.exit(__doc__)


def install(name):
    """Create or bring up to date one environment, with the project editable in it where it is wanted."""
    folder = ROOT / ENVIRONMENTS[name]
    pins = f"requirements/{name}.txt"
    inputs = [pins, overrides(name), BUILD_CONSTRAINTS, TORCH, "pyproject.toml", __file__]
    # The project's own path is part of it: an editable install in a moved checkout points to the old place.
    digest = hashlib.sha256(str(ROOT).encode())
    for path in inputs:
        digest.update(Path(path).read_bytes())
    stamp = folder / ".deepsplit-stamp"
    if stamp.is_file() and stamp.read_text() == digest.hexdigest():
        return

    print(f"Setting up {folder.name} ({name}): some minutes the first time ...", flush=True)
    uv = find_uv()
    environment = uv_environment()
    is_built_here = name != "cellprofiler5"
    if is_built_here:
        require_jdk(environment)
        require_compiler()
    base = find_python(uv, PYTHONS[name], environment)
    run([uv, "venv", "--quiet", "--allow-existing", "--python", base, folder], environment)
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if is_built_here:
        require_headers(python, PYTHONS[name])
    into = [uv, "pip", "install", "--quiet", "--python", python, "--build-constraints", BUILD_CONSTRAINTS]
    # Compiled once here, CellProfiler and torch start in half the time, even where nothing may be written.
    has_deepsplit = name != "cellprofiler4-exact"
    torch = ["-r", TORCH] if has_deepsplit else []
    run([*into, "--compile-bytecode", "-r", pins, *torch, "--overrides", overrides(name)], environment)
    if has_deepsplit:
        run([*into, "--no-deps", "--editable", "."], environment)
    stamp.write_text(digest.hexdigest())
    print(f"{folder.name} is ready.", flush=True)


def lock(options):
    """Compile the pins of all environments, for every platform at once."""
    uv = find_uv()
    for name in ENVIRONMENTS:
        run(
            [
                *[uv, "pip", "compile", "--quiet", "--universal", "--python-version", PYTHONS[name]],
                # One version for all: only this Python is used, but --universal thinks of later ones too.
                *["--fork-strategy", "fewest"],
                # Where this machine takes packages from is nobody else's business.
                *["--no-emit-index-url", "--no-emit-find-links", "--custom-compile-command", "make lock"],
                # Overridden away, see the overrides.
                *["--no-emit-package", "wxpython", "--no-emit-package", "mysqlclient", "--no-annotate"],
                *["--build-constraints", BUILD_CONSTRAINTS, "--overrides", overrides(name)],
                *[f"requirements/{name}.in", "--output-file", f"requirements/{name}.txt", *options],
            ],
            uv_environment(),
        )


def overrides(name):
    """Return the path of an environment's overrides."""
    return f"requirements/{name}-overrides.txt"


def find_python(uv, version, environment):
    """Return what uv is to make an environment of: pyenv's Python where uv itself finds none, else the version.

    uv downloads a version that the machine does not have. pyenv keeps its versions off PATH.
    """
    found = subprocess.run([uv, "python", "find", version], env=environment, capture_output=True)
    if found.returncode == 0:
        return version
    pyenv = Path(environment.get("PYENV_ROOT") or Path.home() / ".pyenv")
    return next((str(path) for path in sorted(pyenv.glob(f"versions/{version}.*/bin/python"), reverse=True)), version)


def find_uv():
    """Return uv's path: the one on PATH, else one that is fetched into .uv."""
    on_path = shutil.which("uv")
    if on_path:
        return on_path
    folder = ROOT / ".uv"
    scripts, suffix = ("Scripts", ".exe") if os.name == "nt" else ("bin", "")
    uv = folder / scripts / f"uv{suffix}"
    if not uv.is_file():
        made = subprocess.run([sys.executable, "-m", "venv", str(folder)], stdout=subprocess.DEVNULL)
        if made.returncode:
            shutil.rmtree(folder, ignore_errors=True)
            sys.exit("No virtual environment could be made. Debian and Ubuntu: apt-get install python3-venv")
        pip = [folder / scripts / f"python{suffix}", "-m", "pip"]
        run([*pip, "install", "--quiet", "uv>=0.5"], dict(os.environ))
    return str(uv)


def uv_environment():
    """Return the process environment for uv, with what it does not take over from pip and from the system."""
    environment = dict(os.environ)
    certificates = Path("/etc/ssl/certs/ca-certificates.crt")
    if "SSL_CERT_FILE" not in environment and certificates.is_file():
        environment["SSL_CERT_FILE"] = str(certificates)
    if "UV_FIND_LINKS" not in environment and environment.get("PIP_FIND_LINKS"):
        # pip separates by spaces, uv by commas.
        environment["UV_FIND_LINKS"] = ",".join(environment["PIP_FIND_LINKS"].split())
    return environment


def require_jdk(environment):
    """Make sure of a JDK (python-javabridge is built with it), and set JAVA_HOME where it is unset."""
    if environment.get("JAVA_HOME"):
        home = Path(environment["JAVA_HOME"])
    else:
        javac = shutil.which("javac")
        finder = Path("/usr/libexec/java_home")
        if finder.is_file():  # macOS: its /usr/bin/javac is no link into the JDK
            found = subprocess.run([str(finder)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
            home = Path(found.stdout.decode().strip() or "missing")
        else:
            home = Path(javac).resolve().parent.parent if javac else Path("missing")
    if not (home / "include" / "jni.h").is_file():
        sys.exit(
            "CellProfiler 4 needs a JDK, version 11 to 17, and none was found "
            f"(JAVA_HOME: {environment.get('JAVA_HOME', 'unset')}, javac: {shutil.which('javac')}).\n"
            "Debian and Ubuntu: apt-get install openjdk-17-jdk-headless; macOS: brew install openjdk@17; "
            "elsewhere: set JAVA_HOME to an installed JDK."
        )
    environment["JAVA_HOME"] = str(home)


def require_compiler():
    """Make sure of a C compiler: python-javabridge and centrosome are built from source."""
    # Windows' compiler is never on PATH: there the build itself says what is missing.
    if os.name != "nt" and not any(shutil.which(name) for name in ("cc", "gcc", "clang")):
        sys.exit(
            "CellProfiler 4 needs a C compiler. "
            "Debian and Ubuntu: apt-get install gcc libc6-dev; macOS: xcode-select --install"
        )


def require_headers(python, version):
    """Make sure of Python's headers, which Debian packages separately."""
    code = "import os, sysconfig; print(os.path.join(sysconfig.get_path('include'), 'Python.h'))"
    header = subprocess.check_output([str(python), "-c", code]).decode().strip()
    if not Path(header).is_file():
        sys.exit(f"{header} is missing. Debian and Ubuntu: apt-get install python{version}-dev")


def run(arguments, environment):
    """Run a command, or end with its exit code."""
    code = subprocess.run([str(argument) for argument in arguments], env=environment).returncode
    if code:
        sys.exit(code)


if __name__ == "__main__":
    main()
