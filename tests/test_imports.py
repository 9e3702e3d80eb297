"""Imports point one way, plugins -> deepsplit_core <- training, and stay light."""

import ast
import subprocess
import sys

import pytest

PARTS = ("deepsplit_core", "training", "plugins")


def sources(root, part):
    return sorted((root / part).rglob("*.py"))


def imported(path):
    """The top-level packages that a file imports anywhere, relative imports left out."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names.add(node.module.split(".")[0])
    return names


def from_training(path, package):
    """What a file in a package of training imports of training: packages, or modules beside these."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            module = (node.module or "").split(".")
            if node.level == 1:
                names.add(package)
            elif node.level == 2:
                names |= {module[0]} if module[0] else {alias.name for alias in node.names}
            elif module[0] == "training":
                names |= {module[1]} if module[1:] else {alias.name for alias in node.names}
    return names


@pytest.mark.parametrize(
    ("part", "forbidden"),
    [
        ("deepsplit_core", {"training", "plugins", "cellprofiler", "cellprofiler_core", "tests"}),
        ("training", {"plugins", "cellprofiler", "cellprofiler_core", "tests"}),
        ("plugins", {"training", "tests"}),
    ],
)
def test_imports_run_one_way(root, part, forbidden):
    files = sources(root, part)
    assert files
    assert {str(path): imported(path) & forbidden for path in files if imported(path) & forbidden} == {}


def test_packages_of_training_import_those_before_them_alone(root):
    packages = ("data", "learning", "run", "results", "reproduction")
    for n_before, package in enumerate(packages):
        files = sources(root, f"training/{package}")
        assert files
        allowed = {package, *packages[:n_before]}
        assert {str(path): from_training(path, package) - allowed for path in files} == {
            str(path): set() for path in files
        }


def test_training_and_plugin_build_on_the_core(root):
    for part in ("training", "plugins"):
        assert any("deepsplit_core" in imported(path) for path in sources(root, part))


def run_python(root, code):
    return subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=False)


def test_importing_the_core_loads_neither_torch_nor_scikit_image(root):
    heavy = "{'torch', 'skimage', 'tifffile', 'imageio', 'safetensors', 'tqdm'}"
    run = run_python(root, f"import sys, deepsplit_core; print(sorted({heavy} & set(sys.modules)))")
    assert run.stdout.strip() == "[]", run.stderr


def test_loading_a_model_does_not_load_the_compiler_of_torch(root):
    code = (
        "import sys, deepsplit_core; deepsplit_core.load_model('nuclei', 'cpu'); print('torch._dynamo' in sys.modules)"
    )
    run = run_python(root, code)
    assert run.stdout.strip() == "False", run.stderr


def test_public_names_are_there_and_explained(root):
    import deepsplit_core

    assert sorted(deepsplit_core.__all__) == deepsplit_core.__all__
    for name in deepsplit_core.__all__:
        assert getattr(deepsplit_core, name).__doc__


def test_help_is_there_at_once(root):
    """Without torch: an answer within a second, not ten."""
    code = (
        "import sys; from deepsplit_core.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit as end: assert end.code == 0\n"
        "assert not {'torch', 'skimage'} & set(sys.modules), 'heavy'"
    )
    run = run_python(root, code)
    assert run.returncode == 0, run.stderr
    assert "usage:" in run.stdout
