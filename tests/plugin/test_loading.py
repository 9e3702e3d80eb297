"""CellProfiler finds the module, and loading it is cheap."""

import shutil
import subprocess
import sys

import pytest
from cellprofiler_core.constants.modules import badmodules
from cellprofiler_core.utilities.core.modules import get_module_names, instantiate_module

# What CellProfiler itself has imported by then is taken away: an import of the plugin's own cannot hide behind it.
LOAD = """
import sys
from cellprofiler_core import preferences
preferences.set_headless()
import cellprofiler_core.module.image_segmentation, cellprofiler_core.object, cellprofiler_core.setting.text
import cellprofiler_core.setting.choice, cellprofiler_core.preferences
blocked = sys.argv[3].split(",")
for name in [*blocked, *sys.modules]:
    if name.partition(".")[0] in blocked:
        sys.modules[name] = None
sys.path.insert(0, sys.argv[1])
import deepsplitsegment
module = deepsplitsegment.DeepSplitSegment()
module.model.value = deepsplitsegment.OWN_FILE
module.weights_directory.value = "Elsewhere...|" + sys.argv[2]
module.weights_file.value = "tiny.safetensors"
module.where.value = deepsplitsegment.THIS_PYTHON  # the engine's own tests have the other one

class Pipeline:  # the real one loads much
    def get_provider_dictionary(self, group, module):
        return {}
module.validate_module(Pipeline())
print("loaded")
"""


def load_without(blocked, root, folder):
    command = [sys.executable, "-c", LOAD, str(root / "plugins"), str(folder), blocked]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_a_plugin_that_was_copied_without_its_other_file_says_so(root, tmp_path):
    shutil.copy(root / "plugins" / "deepsplitsegment.py", tmp_path)
    command = [sys.executable, "-c", LOAD, str(tmp_path), str(tmp_path), "none"]
    run = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert f"ImportError: DeepSplitSegment needs _deepsplit_measurements.py beside it in {tmp_path}" in run.stderr


def test_cellprofiler_finds_it():
    assert "DeepSplitSegment" in get_module_names()
    assert not [name for name, _ in badmodules if "deepsplit" in name]
    module = instantiate_module("DeepSplitSegment")
    assert module.category == "Object Processing"
    assert module.variable_revision_number == 2
    assert not module.volumetric()


def test_loading_and_design_time_need_neither_torch_nor_scikit_image(root, tiny_weights):
    result = load_without("torch,skimage", root, tiny_weights.parent)
    assert result.returncode == 0, result.stderr
    assert "loaded" in result.stdout


def test_a_missing_library_is_named_with_its_cure(root, tiny_weights):
    result = load_without("deepsplit_core", root, tiny_weights.parent)
    assert result.returncode == 1
    message = result.stderr.splitlines()[-1]
    assert message.startswith("ImportError: DeepSplitSegment needs the package deepsplit")
    assert f'"{sys.executable}" -m pip install' in message


def test_every_setting_has_help(make_module):
    module = make_module()
    for setting in [*module.settings(), *module.visible_settings()]:
        assert len(setting.doc) > 40, setting.text
    page = module.get_help()
    assert "Respects masks" in page  # the text on top of the plugin
    assert "System Message" not in page  # docutils' mark of broken markup


@pytest.mark.parametrize("name", ["diameter", "smallest_diameter", "largest_diameter", "longest_cut"])
def test_lengths_say_their_unit_and_default(make_module, name):
    doc = getattr(make_module(), name).doc
    assert "pixels" in doc
    assert "The default, 0" in doc
