"""The weights file: what goes in comes out, and everything else is refused by one sentence."""

import dataclasses
import hashlib
import json
import os
import pickle
import struct
import subprocess
import sys

import pytest
import safetensors.torch
import torch
from hypothesis import given
from hypothesis import strategies as st
from networks import card_of, random_network, write_weights

from deepsplit_core import weights
from deepsplit_core.config import ModelConfig, PreprocessingConfig, SplittingConfig
from deepsplit_core.folding import fold
from deepsplit_core.weights import (
    Card,
    WeightsError,
    build_network,
    bundled_models,
    load_model,
    path_of,
    read,
    read_card,
    write,
)


@pytest.fixture
def bundle(tmp_path, monkeypatch):
    """An empty folder of bundled models, in place of the package's own."""
    folder = tmp_path / "bundled"
    folder.mkdir()
    (folder / "sha256.json").write_text("{}")
    monkeypatch.setattr(weights, "BUNDLED", folder)
    monkeypatch.setattr(weights, "_loaded", {})
    return folder


@pytest.fixture(scope="module")
def content(tmp_path_factory):
    """The bytes of a usable weights file."""
    return write_weights(tmp_path_factory.mktemp("weights") / "tiny.safetensors", random_network()).read_bytes()


def with_header(header, rest=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + rest


def with_card(content, **changes):
    """The same weights file with other values in its card; the value ... takes an entry out."""
    (n_header,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + n_header])
    card = {**json.loads(header["__metadata__"]["deepsplit"]), **changes}
    card = {name: value for name, value in card.items() if value is not ...}
    header["__metadata__"]["deepsplit"] = json.dumps(card)
    return with_header(header, content[8 + n_header :])


def refusal(path):
    """The message with which a file is refused, by every way of reading it."""
    with pytest.raises(WeightsError) as loaded:
        load_model(str(path), "cpu")
    with pytest.raises(WeightsError):
        card, tensors = read(path)
        build_network(path, card, tensors)
    assert str(path) in str(loaded.value)
    return str(loaded.value)


# There and back


def test_card_and_tensors_come_back(tmp_path):
    network = random_network("branch_net", normalisation="batch", base_width=3)
    card = Card(
        name="näme",
        description="A description\nof two lines",
        network=ModelConfig("branch_net", 3, 3, 0.0, "batch"),
        preprocessing=PreprocessingConfig("percentile", 0.5, 99),
        splitting=SplittingConfig(segmentation_threshold=0.4, watershed=False, longest_cut=3.25),
        diameter=17.5,
        data=[{"name": "drawn", "licence": "CC0"}],
        metrics={"test": {"cds": 0.5}},
        training={"seed": 3},
    )
    path = tmp_path / "weights.safetensors"
    sha256 = write(path, card, network.state_dict())
    assert sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert read_card(path) == card
    read_again, tensors = read(path)
    assert read_again == card
    assert tensors.keys() == network.state_dict().keys()
    assert all(torch.equal(tensors[name], value) for name, value in network.state_dict().items())
    image = torch.rand(1, 1, 16, 16)
    with torch.no_grad():
        assert torch.equal(build_network(path, card, tensors)(image), network(image))


def test_tensors_in_any_layout_are_written(tmp_path):
    network = random_network().to(memory_format=torch.channels_last)
    path = write_weights(tmp_path / "w.safetensors", network)
    assert all(torch.equal(tensor, network.state_dict()[name]) for name, tensor in read(path)[1].items())


@pytest.mark.parametrize("architecture", ["unet", "deepsplit", "branch_net", "double_unet"])
def test_every_architecture_is_rebuilt_from_its_file_alone(tmp_path, architecture):
    config = ModelConfig(architecture, base_width=2, n_levels=3)
    path = write_weights(tmp_path / "w.safetensors", random_network(architecture), card_of(None, config))
    model = load_model(str(path), "cpu")
    assert type(model.network).__name__.lower() == architecture.replace("_", "")
    assert not model.network.training
    assert model.card.network == config


def test_loaded_network_computes_what_was_written(tiny_weights):
    model = load_model(str(tiny_weights), "cpu")
    image = torch.rand(1, 1, 16, 16).to(model.dtype)
    with torch.no_grad():
        torch.testing.assert_close(model.network(image), fold(random_network()).to(model.dtype)(image))


def test_failed_write_leaves_the_old_file_and_no_other(tmp_path, monkeypatch):
    path = write_weights(tmp_path / "w.safetensors", random_network())
    before = path.read_bytes()
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError("no space")))
    with pytest.raises(OSError, match="no space"):
        write_weights(path, random_network(seed=1))
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_card_is_read_without_torch(tiny_weights, root):
    code = (
        "import sys; from pathlib import Path; from deepsplit_core import read_card;"
        "print(read_card(Path(sys.argv[1])).name); assert not {'torch', 'skimage'} & set(sys.modules)"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, str(tiny_weights)], cwd=root, capture_output=True, text=True, check=False
    )
    assert (run.returncode, run.stdout.strip()) == (0, "tiny"), run.stderr


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="other OpenMPs than GNU's print this otherwise")
@pytest.mark.parametrize("of_the_user", [None, "ACTIVE"])
def test_waiting_threads_leave_their_core_to_others_unless_the_user_says_otherwise(tiny_weights, root, of_the_user):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OMP_")}
    environment["OMP_DISPLAY_ENV"] = "true"  # OpenMP then says, when it is loaded, what it was told
    if of_the_user:
        environment["OMP_WAIT_POLICY"] = of_the_user
    code = "import sys; from deepsplit_core import load_model; load_model(sys.argv[1])"
    run = subprocess.run(
        [sys.executable, "-c", code, str(tiny_weights)],
        cwd=root,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert f"OMP_WAIT_POLICY = '{of_the_user or 'PASSIVE'}'" in run.stderr


# Bad files


def test_missing_file():
    with pytest.raises(WeightsError, match=r"'no/such/file' is neither a bundled model \(.*nuclei.*\) nor an existing"):
        load_model("no/such/file", "cpu")
    with pytest.raises(WeightsError, match="cannot be read: No such file"):
        read_card(weights.Path("no/such/file"))


def test_folder_is_no_weights_file(tmp_path):
    with pytest.raises(WeightsError, match="neither a bundled model"):
        load_model(str(tmp_path), "cpu")


def test_empty_file(tmp_path):
    path = tmp_path / "empty.safetensors"
    path.touch()
    assert "it has 0 bytes" in refusal(path)


@given(st.data())
def test_file_cut_anywhere(tmp_path_factory, content, data):
    n_kept = data.draw(st.integers(0, len(content) - 1))
    path = tmp_path_factory.mktemp("cut") / "cut.safetensors"
    path.write_bytes(content[:n_kept])
    refusal(path)


@given(st.data())
def test_damaged_file_is_read_or_refused(tmp_path_factory, content, data):
    """No byte of the header makes it fail with another exception than WeightsError."""
    (n_header,) = struct.unpack("<Q", content[:8])
    place = data.draw(st.integers(0, 8 + n_header - 1))
    damaged = bytearray(content)
    damaged[place] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("damaged") / "damaged.safetensors"
    path.write_bytes(bytes(damaged))
    try:
        card, tensors = read(path)
        build_network(path, card, tensors)
    except WeightsError as error:
        assert str(path) in str(error)


@pytest.mark.parametrize(
    "start", [b"This is a text file, no weights file.", b"\x89PNG\r\n\x1a\n" + bytes(100), b"PK\x03\x04" + bytes(100)]
)
def test_other_kinds_of_files(tmp_path, start):
    path = tmp_path / "other.safetensors"
    path.write_bytes(start)
    assert "not a usable DeepSplit weights file" in refusal(path)


def test_header_length_beyond_reason_is_not_allocated(tmp_path):
    path = tmp_path / "huge.safetensors"
    path.write_bytes(struct.pack("<Q", 2**63 - 1) + b"{}")
    assert "does not start with a safetensors header" in refusal(path)


@pytest.mark.parametrize(
    "header",
    [b"[]", b"5", b"not json", b"\xff\xfe\x00", b"[" * 100_000],
    ids=["list", "number", "words", "no text", "endless list"],
)
def test_header_that_is_no_object(tmp_path, header):
    path = tmp_path / "header.safetensors"
    path.write_bytes(with_header(header))
    refusal(path)


def test_safetensors_of_another_program(tmp_path):
    path = tmp_path / "foreign.safetensors"
    safetensors.torch.save_file({"weight": torch.zeros(3)}, path)
    assert "without DeepSplit's card" in refusal(path)


@pytest.mark.parametrize("card", [5, None, [], {}, "", "text", "[]", "5", "[" * 100_000], ids=lambda c: repr(c)[:9])
def test_card_that_is_no_object(tmp_path, card):
    path = tmp_path / "card.safetensors"
    path.write_bytes(with_header({"__metadata__": {"deepsplit": card}}))
    refusal(path)


def test_file_of_a_later_version(tmp_path, content):
    path = tmp_path / "future.safetensors"
    path.write_bytes(with_card(content, format_version=2, novelty=True))
    message = refusal(path)
    assert "version 2" in message
    assert "update deepsplit" in message


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"name": ...}, "name"),
        ({"network": ...}, "network"),
        ({"diameter": ...}, "diameter"),
        ({"format_version": ...}, "version None"),
        ({"format_version": 0}, "version 0"),
        ({"extra": 1}, "unknown entries ['extra']"),
        ({"network": {"architecture": "resnet"}}, "architecture"),
        ({"network": {"depth": 3}}, "depth"),
        ({"network": None}, "ModelConfig is None, but it must be a table"),
        ({"network": ""}, "ModelConfig is '', but it must be a table"),
        ({"splitting": []}, "SplittingConfig is [], but it must be a table"),
        ({"metrics": 3}, "entry 'metrics' is 3, expected a JSON object"),
        ({"training": []}, "entry 'training' is [], expected a JSON object"),
        ({"network": {"base_width": "wide"}}, "base_width"),
        ({"network": {"dropout": "much"}}, "card"),
        ({"preprocessing": {"method": "magic"}}, "method"),
        ({"splitting": {"segmentation_threshold": 2}}, "segmentation_threshold"),
        ({"diameter": 0}, "diameter"),
        ({"diameter": 0.9}, "diameter is 0.9 pixels, expected 1 to 10,000"),
        ({"diameter": 10_001}, "diameter is 10001 pixels"),
        ({"preprocessing": {"diameter": 30.0}}, "it sees cells at 30.0 pixels, but its cell diameter is 20.0"),
        ({"diameter": -3}, "diameter"),
        ({"diameter": float("nan")}, "diameter"),
        ({"diameter": "20"}, "diameter"),
        ({"diameter": None}, "diameter"),
        ({"data": "CC0 images"}, "training images are no list"),
        ({"name": None}, "entry 'name' is None, expected a text"),
        ({"description": None}, "entry 'description' is None, expected a text"),
        ({"name": "a\0b"}, "entry 'name' is 'a\\x00b', expected printable characters"),
        ({"splitting": {"seed_distance": float("inf")}}, "seed_distance is inf, but it must be a finite number"),
        ({"splitting": {"watershed": "no"}}, "watershed is 'no', but it must be true or false"),
        ({"network": {"n_levels": True}}, "n_levels is True, but it must be a whole number"),
        ({"known_failures": ["none"]}, "entry 'known_failures' is ['none'], expected a text"),
        ({"data": ["CC0 images"]}, "training images are no list"),
    ],
    ids=str,
)
def test_wrong_values_in_the_card(tmp_path, content, changes, reason):
    path = tmp_path / "card.safetensors"
    path.write_bytes(with_card(content, **changes))
    assert reason in refusal(path)


def test_a_diameter_may_be_rounded_in_the_card(tmp_path, content):
    path = tmp_path / "card.safetensors"
    path.write_bytes(with_card(content, preprocessing={"diameter": 20.04}))
    assert read_card(path).diameter == 20


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_refused(tmp_path, value):
    network = random_network()
    next(network.parameters()).data.view(-1)[3] = value
    path = write_weights(tmp_path / "w.safetensors", network)
    with pytest.raises(WeightsError, match=r"1 tensors hold NaN, infinity .* such as 'encoder"):
        load_model(str(path), "cpu")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("encoder.blocks.0.1.running_var", torch.tensor(-1.0)),
        ("encoder.blocks.0.1.bias", torch.tensor(1e300, dtype=torch.float64)),  # infinity in float32
        ("encoder.blocks.0.1.bias", torch.tensor(1j)),
    ],
    ids=["variance", "float64", "complex"],
)
def test_weights_that_would_give_no_numbers_are_refused(tmp_path, name, value):
    config = ModelConfig("branch_net", 2, 3, 0.0, "batch")
    tensors = random_network("branch_net", normalisation="batch").state_dict()
    tensors[name] = value.expand(tensors[name].shape)
    path = tmp_path / "w.safetensors"
    write(path, card_of(None, config), tensors)
    assert f"such as {name!r}" in refusal(path)


def test_file_that_is_replaced_while_it_is_read_is_refused(bundle, tmp_path, monkeypatch):
    """Else the weights of one file would bear the sha256 of another."""
    path = write_weights(tmp_path / "w.safetensors", random_network())

    def read_another(path):
        write_weights(path, random_network(seed=1))
        os.utime(path, (1, 1))  # as the clock may not have gone on
        return read(path)

    monkeypatch.setattr(weights, "read", read_another)
    with pytest.raises(WeightsError, match=r"w\.safetensors was replaced while it was read: try again"):
        load_model(str(path), "cpu")
    monkeypatch.undo()
    assert load_model(str(path), "cpu").sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("architecture", ["unet", "branch_net", "double_unet"])
def test_tensors_of_another_architecture(tmp_path, architecture):
    path = write_weights(tmp_path / "w.safetensors", random_network(architecture), card_of(None))
    assert "do not fit the network of its card (deepsplit, width 2)" in refusal(path)


@pytest.mark.parametrize("shape", [(1, 5, 1, 1), (2, 1, 1, 1)])
def test_tensors_of_another_shape_are_named(tmp_path, shape):
    network = random_network()
    tensors = {**network.state_dict(), "segmentation_head.weight": torch.zeros(shape)}
    write(tmp_path / "w.safetensors", card_of(network), tensors)
    assert "1 tensors do not fit" in refusal(tmp_path / "w.safetensors")
    assert "'segmentation_head.weight'" in refusal(tmp_path / "w.safetensors")


class Trap:
    """Unpickling it writes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


@pytest.mark.parametrize("suffix", [".safetensors", ".pt", ".pth"])
@pytest.mark.parametrize("save", [lambda o, p: p.write_bytes(pickle.dumps(o)), torch.save], ids=["pickle", "torch"])
def test_pickle_is_never_executed(tmp_path, suffix, save):
    path = tmp_path / f"trap{suffix}"
    save({"network": Trap(tmp_path / "sprung")}, path)
    is_checkpoint = "it is a checkpoint; `python -m training export` makes a weights file" in refusal(path)
    assert is_checkpoint == (suffix != ".safetensors")
    assert not (tmp_path / "sprung").exists()


# Bundled models


def test_bundled_file_is_what_was_published():
    assert "nuclei" in bundled_models()
    for name, sha256 in bundled_models().items():
        assert hashlib.sha256(path_of(name).read_bytes()).hexdigest() == sha256
        assert path_of(name).stat().st_size <= 25e6
        assert read_card(path_of(name)).name == name


def test_bundled_model_is_found_by_name(bundle):
    path = write_weights(bundle / "mine.safetensors", random_network())
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    (bundle / "sha256.json").write_text(json.dumps({"mine": sha256}))
    assert load_model("mine", "cpu").sha256 == sha256


def test_bundled_file_that_was_changed_is_refused(bundle):
    path = write_weights(bundle / "mine.safetensors", random_network())
    (bundle / "sha256.json").write_text(json.dumps({"mine": "0" * 64}))
    with pytest.raises(WeightsError, match=r"mine\.safetensors is damaged: its sha256 is [0-9a-f]{64}, expected 0{64}"):
        load_model("mine", "cpu")
    assert load_model(str(path), "cpu").card.name == "tiny"  # as one's own file it is as good as any


def test_bundled_file_that_is_gone_is_refused(bundle):
    (bundle / "sha256.json").write_text(json.dumps({"mine": "0" * 64}))
    with pytest.raises(WeightsError, match=r"mine\.safetensors cannot be read"):
        load_model("mine", "cpu")


# One in memory


def test_one_model_for_each_content(bundle, tmp_path):
    one = write_weights(tmp_path / "one.safetensors", random_network())
    copy = tmp_path / "copy.safetensors"
    copy.write_bytes(one.read_bytes())
    other = write_weights(tmp_path / "other.safetensors", random_network(seed=1))
    assert load_model(str(one), "cpu").network is load_model(str(copy), "cpu").network
    assert load_model(str(one), "cpu").network is not load_model(str(other), "cpu").network


def test_file_that_was_replaced_is_read_again(bundle, tmp_path):
    path = write_weights(tmp_path / "w.safetensors", random_network(), card_of(None, name="one"))
    os.utime(path, (1, 1))
    before = load_model(str(path), "cpu")
    assert read_card(str(path)).name == "one"
    write_weights(path, random_network(seed=1), card_of(None, name="two"))  # of the same size
    assert read_card(str(path)).name == "two"
    assert load_model(str(path), "cpu").sha256 != before.sha256
    assert load_model(str(path), "cpu").network is not before.network


def test_missing_device_is_refused(tiny_weights, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(RuntimeError, match="'cuda' was asked for"):
        load_model(str(tiny_weights), "cuda")


def test_every_field_of_the_card_is_plain_json():
    card = card_of(None)
    assert Card.from_json(card.to_json()) == card
    assert set(json.loads(card.to_json())) == {field.name for field in dataclasses.fields(Card)}
