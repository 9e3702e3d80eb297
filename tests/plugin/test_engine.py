"""The network in another Python, and the library where nothing can be installed."""

import shutil
import subprocess
import sys

import numpy as np
import pytest
from cellprofiler_core.pipeline import Pipeline
from cellprofiler_core.setting import ValidationError
from cellprofiler_core.utilities.core.modules import instantiate_module
from drawing import discs

from deepsplit_core import engine

IMAGE = (discs((40, 90), [(20, 18, 10), (20, 45, 10), (20, 70, 10)]) > 0).astype(np.float32)
OTHER = {"where": "Another Python environment", "environment": f"Elsewhere...|{sys.prefix}"}


@pytest.fixture(scope="module")
def own_engine(tmp_path_factory):
    """No engine but the tests' own is found, and it is ended when they are over."""
    folder = tmp_path_factory.mktemp("run")
    folder.chmod(0o700)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_RUNTIME_DIR", str(folder))
        yield
        engine.stop()


def test_objects_are_those_of_this_python(own_engine, run_on):
    assert engine.status() is None
    here, there = (
        run_on(IMAGE, **where).object_set.get_objects("Nuclei").segmented for where in ({"where": "This Python"}, OTHER)
    )
    assert here.max() == 3
    assert np.array_equal(here, there)
    assert len(engine.status()["models"]) == 1


def test_the_button_tries_the_other_python(own_engine, make_module, own_file, wired_weights):
    found = make_module(**own_file(wired_weights), **OTHER, device="CPU").test_device()
    assert f"in {sys.prefix}. The model tiny runs on cpu" in found


def test_no_environment_is_not_the_current_folder(make_module):
    module = make_module(**{**OTHER, "environment": "Elsewhere...|"})
    module.environment.test_valid(Pipeline())  # what CellProfiler asks first, and would say nothing of Python in
    with pytest.raises(ValidationError, match="No Python environment is selected") as error:
        module.validate_module(Pipeline())
    assert error.value.setting is module.environment
    assert "No Python environment is selected" in module.test_device()


def test_the_environment_that_the_readme_makes_need_not_be_given(make_module, monkeypatch, tmp_path, root):
    plugin = sys.modules[instantiate_module("DeepSplitSegment").__module__]
    assert plugin.OWN_ENVIRONMENT == root / "deepsplit-env"
    monkeypatch.setattr(plugin, "OWN_ENVIRONMENT", tmp_path)
    module = make_module(**{**OTHER, "environment": "Elsewhere...|"})
    assert module.environment_path() == str(tmp_path)
    assert make_module(**OTHER).environment_path() == sys.prefix


def test_an_environment_may_be_in_the_home_folder(make_module, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert make_module(**{**OTHER, "environment": "Elsewhere...| ~/env "}).environment_path() == str(tmp_path / "env")


@pytest.mark.parametrize("folder", ["", "gone"])
def test_an_environment_without_python_is_found_at_design_time(make_module, tmp_path, folder):
    module = make_module(**{**OTHER, "environment": f"Elsewhere...|{tmp_path / folder}"})
    with pytest.raises(ValidationError, match="neither a Python nor the folder of an environment") as error:
        module.validate_module(Pipeline())
    assert error.value.setting is module.environment
    assert "neither a Python nor" in module.test_device()
    module.where.value = "This Python"
    module.validate_module(Pipeline())


def test_the_path_of_a_python_will_do_as_well(make_module):
    make_module(**{**OTHER, "environment": f"Elsewhere...|{sys.executable}"}).validate_module(Pipeline())


def test_without_torch_another_python_is_the_default_and_the_advice(make_module, run_on, monkeypatch):
    assert make_module().where.value == "This Python"
    monkeypatch.setitem(sys.modules, "torch", None)
    assert make_module().where.value == OTHER["where"]
    with pytest.raises(ImportError, match='"Another Python environment" in "Run DeepSplit in"'):
        run_on(IMAGE, where="This Python")


def test_a_python_without_torch_is_warned_of_at_design_time(make_module, monkeypatch):
    module = make_module(where="This Python")
    module.validate_module_warnings(Pipeline())
    monkeypatch.setitem(sys.modules, "torch", None)
    module.validate_module(Pipeline())  # no error: the pipeline may be meant for another computer
    with pytest.raises(ValidationError, match='has no torch.*select "Another Python environment"') as error:
        module.validate_module_warnings(Pipeline())
    assert error.value.setting is module.where
    module.where.value = OTHER["where"]
    module.validate_module_warnings(Pipeline())


def test_an_older_pipeline_stays_in_this_python(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    module = instantiate_module("DeepSplitSegment")
    stored = [setting.value_text for setting in module.settings()][:15]
    module.set_settings_from_values(stored, 1, "DeepSplitSegment")
    assert (module.where.value, module.environment.value) == ("This Python", "Elsewhere...|")


def test_a_batch_file_gets_the_other_machines_environment(make_module):
    module = make_module(**OTHER)
    module.prepare_to_create_batch(None, lambda path, **_: path.replace(sys.prefix, "/cluster/env"))
    assert module.environment.get_absolute_path() == "/cluster/env"


# The library beside the plugin, or in the folder above; this checkout, which is installed, is taken off the path.


@pytest.mark.parametrize("place", ["above", "beside"])
def test_the_library_is_found_where_nothing_is_installed(root, tmp_path, place):
    plugins = shutil.copytree(root / "plugins", tmp_path / "plugins", ignore=shutil.ignore_patterns("__pycache__"))
    library = (plugins if place == "beside" else tmp_path) / "deepsplit_core"
    shutil.copytree(root / "deepsplit_core", library, ignore=shutil.ignore_patterns("__pycache__"))
    code = (
        "import sys; sys.path[:] = [sys.argv[2], *(p for p in sys.path if p not in ('', sys.argv[1]))]\n"
        "from cellprofiler_core import preferences; preferences.set_headless()\n"
        "import deepsplitsegment; print(deepsplitsegment.deepsplit_core.__file__)"
    )
    command = [sys.executable, "-c", code, str(root), str(plugins)]
    run = subprocess.run(command, cwd=tmp_path.parent, capture_output=True, text=True, timeout=120, check=False)
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip() == str(library / "__init__.py")
