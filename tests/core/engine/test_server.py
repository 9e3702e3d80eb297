"""The engine against strangers, garbage and clients that vanish. It runs in a thread of this process."""

import os
import random
import socket
import sys
import threading
import time
import types

import numpy as np
import pytest
import torch

import deepsplit_core
from deepsplit_core import SegmentConfig, WeightsError, engine
from deepsplit_core.engine import client, protocol, server
from deepsplit_core.engine.client import _reach

IMAGE = np.random.default_rng(0).random((60, 70)).astype(np.float32)


def predict(weights, image=IMAGE, mask=None, **settings):
    config = SegmentConfig(model=str(weights), device="cpu", **settings)
    return engine.predict(image, config, mask, python=sys.executable)


def connect(place):
    """A connection that says nothing of itself."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(10)
    connection.connect(str(place.socket_file))
    return connection


def everything(connection):
    """All that comes until the engine closes."""
    content = b""
    try:
        while more := connection.recv(1000):
            content += more
    except ConnectionResetError:  # closed with something of ours unread
        pass
    return content


@pytest.mark.parametrize("dtype", ["bool", "uint8", "uint16", "int32", "float32", "float64", ">u2", ">f4"])
@pytest.mark.parametrize("mask", [None, IMAGE > 0.3, (IMAGE > 0.3).astype(np.uint8)], ids=["all", "bool", "numbers"])
def test_a_prediction_is_that_of_this_process(serve, tiny_weights, dtype, mask):
    serve()
    image = (IMAGE * 200 > 100 if dtype == "bool" else IMAGE * 200).astype(dtype)
    config = SegmentConfig(model=str(tiny_weights), device="cpu", diameter=13)
    remote, local = predict(tiny_weights, image, mask, diameter=13), deepsplit_core.predict(image, config, mask)
    assert remote.probabilities.tobytes() == local.probabilities.tobytes()
    assert remote.probabilities.dtype == np.float16
    assert (remote.mask is None) if mask is None else np.array_equal(remote.mask, local.mask)
    for name in ("card", "scale", "sha256", "device", "dtype", "tile"):
        assert getattr(remote, name) == getattr(local, name)
    assert remote.seconds > 0


def test_a_relative_path_is_the_clients(serve, tiny_weights, monkeypatch):
    serve()
    monkeypatch.chdir(tiny_weights.parent)
    assert predict(tiny_weights.name).card.name == "tiny"


@pytest.mark.parametrize(
    ("image", "settings", "error", "message"),
    [
        (np.arange(36).reshape(3, 4, 3), {}, ValueError, "3 colour channels"),
        (IMAGE, {"model": "no_such_model"}, WeightsError, "no_such_model' is neither"),
        (IMAGE, {"device": "cuda:99"}, RuntimeError, "'cuda:99' was asked for"),
        (IMAGE, {"diameter": 2000.0}, ValueError, "expected cell diameter"),
    ],
)
def test_errors_are_those_of_this_process(serve, tiny_weights, image, settings, error, message):
    serve()
    config = SegmentConfig(**{"model": str(tiny_weights), **settings})
    for run in (deepsplit_core.predict, lambda *given: engine.predict(*given, python=sys.executable)):
        with pytest.raises(error, match=message) as raised:
            run(image, config)
        assert raised.type is error


@pytest.mark.parametrize(
    ("cause", "message"),
    [(MemoryError(), "ran out of memory .MemoryError.: run fewer"), (KeyError("x"), "KeyError: 'x'")],
)
def test_what_goes_wrong_inside_is_said(serve, tiny_weights, monkeypatch, cause, message):
    def fail(*_):
        raise cause

    monkeypatch.setattr(server, "predict", fail)
    serve()
    with pytest.raises(RuntimeError, match=message):
        predict(tiny_weights)


def test_an_answer_that_is_too_large_is_said(serve, tiny_weights, monkeypatch):
    """An image of 1 byte a pixel may be small enough, and its probabilities, of 4, too large."""
    monkeypatch.setattr(protocol, "LARGEST_ARRAYS", 3 * IMAGE.size)
    serve()
    with pytest.raises(ValueError, match="cannot be sent to or by the engine"):
        predict(tiny_weights, (200 * IMAGE).astype(np.uint8))


def test_a_missing_torch_is_named_with_its_cure(serve, tiny_weights, monkeypatch):
    serve()
    monkeypatch.setitem(sys.modules, "torch", None)
    for ask in (predict, lambda weights: engine.try_device(str(weights), "cpu", python=sys.executable)):
        with pytest.raises(RuntimeError, match="-m pip install torch"):
            ask(tiny_weights)


def test_a_try_says_versions_device_and_time(serve, tiny_weights):
    serve()
    found = engine.try_device(str(tiny_weights), "cpu", python=sys.executable)
    for part in (
        f"DeepSplit {deepsplit_core.__version__}",
        f"torch {torch.__version__}",
        sys.prefix,
        "runs on cpu",
        " s ",
    ):
        assert part in found


def test_status_and_stop(serve, place, tiny_weights):
    assert engine.status() is None
    assert not engine.stop()
    served = serve()
    for _ in range(2):
        predict(tiny_weights)
    found = engine.status()
    assert found == {
        "pid": os.getpid(),
        "protocol": protocol.VERSION,
        "version": deepsplit_core.__version__,
        "models": [f"{tiny_weights} on cpu"],
        "working": 0,
    }
    assert engine.stop()
    served.thread.join(10)
    assert not place.folder.exists()


def test_an_engine_that_nobody_asks_ends(serve, place, tiny_weights):
    served = serve(idle_seconds=1.5)
    predict(tiny_weights)
    asked = time.monotonic()
    served.thread.join(30)
    assert not served.thread.is_alive()
    assert time.monotonic() - asked > 1.0
    assert not place.folder.exists()


def test_whoever_was_let_in_is_waited_for(serve, place):
    served = serve(idle_seconds=2)
    time.sleep(1.2)
    with _reach(place)[0]:
        time.sleep(1.2)
        assert served.thread.is_alive()


def test_strangers_get_nothing_and_harm_nothing(serve, place, tiny_weights):
    serve()
    rng = random.Random(0)
    for _ in range(300):
        with connect(place) as stranger:
            start = protocol.MAGIC if rng.random() < 0.5 else b""
            try:
                stranger.sendall(start + rng.randbytes(rng.randrange(200)))
                stranger.shutdown(socket.SHUT_WR)
            except (BrokenPipeError, ConnectionResetError):
                continue
            assert everything(stranger) == b""
    assert predict(tiny_weights).probabilities.any()


def test_garbage_after_the_greeting_gets_no_answer(serve, place, tiny_weights):
    """The greeting is read by `_reach`; nothing comes after it."""
    serve()
    rng = random.Random(0)
    known = [{"command": "predict", "config": {}}, {"command": "try"}, {"command": 1}, {}, {"command": "delete"}]
    for n in range(300):
        connection, _ = _reach(place)
        with connection:
            try:
                if n % 3:
                    connection.sendall(rng.randbytes(rng.randrange(1, 300)))
                else:
                    protocol.send(connection, rng.choice(known))
                connection.shutdown(socket.SHUT_WR)
            except (BrokenPipeError, ConnectionResetError):
                continue
            assert everything(connection) == b""
    assert engine.status()["working"] == 0
    assert predict(tiny_weights).probabilities.any()


def test_silent_strangers_are_sent_away_and_nobody_waits_for_them(serve, place, tiny_weights, monkeypatch):
    monkeypatch.setattr(server, "HANDSHAKE_SECONDS", 1.0)
    serve()
    silent = [connect(place) for _ in range(server.LARGEST_CROWD // 2)]
    assert predict(tiny_weights).probabilities.any()  # while they are there
    assert [everything(stranger) for stranger in silent] == [b""] * len(silent)
    for stranger in silent:
        stranger.close()


def test_a_crowd_is_outlasted(serve, place, tiny_weights, monkeypatch):
    monkeypatch.setattr(server, "HANDSHAKE_SECONDS", 1.0)
    serve()
    silent = [connect(place) for _ in range(server.LARGEST_CROWD)]
    with monkeypatch.context() as patch:
        patch.setattr(client, "HANDSHAKE_SECONDS", 0.3)
        with pytest.raises(client._Unreachable, match="timed out"):  # even who knows the token has to wait
            _reach(place)
    assert predict(tiny_weights).probabilities.any()  # as soon as there is room
    for stranger in silent:
        stranger.close()


def test_as_many_clients_as_there_are_workers_are_let_in(serve, place, tiny_weights, monkeypatch):
    """They are no crowd: each waits for its turn, and none is sent away to try again."""
    monkeypatch.setattr(server, "LARGEST_CROWD", 2)
    serve()
    waiting = [_reach(place)[0] for _ in range(4)]
    assert predict(tiny_weights).probabilities.any()
    for connection in waiting:
        connection.close()


def test_a_wrong_token_keeps_out(serve, place, monkeypatch):
    monkeypatch.setattr(client, "HANDSHAKE_SECONDS", 0.1)
    serve()
    assert engine.status() is not None
    right = place.address.read_text()
    token = place.read_address().token.hex()
    place.address.write_text(right.replace(token, token[::-1]))
    with pytest.raises(RuntimeError, match=f"(?s)did not answer.*end the process {os.getpid()} and"):
        engine.status()
    place.address.write_text(right)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no modes of this kind")
def test_an_address_that_others_may_have_written_is_not_trusted(serve, place):
    serve()
    place.folder.chmod(0o777)
    try:
        with pytest.raises(PermissionError, match="only you can enter"):
            engine.status()
    finally:
        place.folder.chmod(0o700)


@pytest.mark.parametrize(("what", "other"), [("__version__", "9.9.9"), ("protocol", "protocol 10")])
def test_versions_that_do_not_fit_are_named(serve, tiny_weights, monkeypatch, what, other):
    served = serve()
    theirs = {"__version__": "9.9.9", "protocol": types.SimpleNamespace(**{**vars(protocol), "VERSION": 10})}
    monkeypatch.setattr(client, what, theirs[what])
    with pytest.raises(RuntimeError, match="install the same version in both.*--stop") as raised:
        predict(tiny_weights)
    assert f"DeepSplit {deepsplit_core.__version__} (protocol {protocol.VERSION})" in str(raised.value)
    assert other in str(raised.value)
    assert served.thread.is_alive()


def test_a_client_that_vanishes_leaves_the_others(serve, place, tiny_weights, monkeypatch):
    """Its image is not run if it has not begun."""
    monkeypatch.setattr(server, "HEARTBEAT_SECONDS", 0.05)
    monkeypatch.setattr(server, "IN_FLIGHT", 1)
    go, seen, real = threading.Event(), [], server.predict

    def wait_first(image, *rest):
        assert go.wait(30)
        seen.append(image.shape)
        return real(image, *rest)

    monkeypatch.setattr(server, "predict", wait_first)
    serve()
    for side in (31, 32):  # one that is begun, and one that waits
        connection, _ = _reach(place)
        with connection:
            config = SegmentConfig(model=str(tiny_weights), device="cpu").to_dict()
            protocol.send(connection, {"command": "predict", "config": config}, [np.zeros((side, side))])
            assert protocol.receive(connection, 10)[0] == {"state": "working"}
    deadline = time.monotonic() + 30
    while engine.status()["working"] and time.monotonic() < deadline:
        time.sleep(0.05)
    go.set()
    assert predict(tiny_weights).probabilities.any()
    assert seen == [(31, 31), IMAGE.shape]


def test_an_engine_whose_network_hangs_ends(serve, place, tiny_weights, monkeypatch):
    monkeypatch.setattr(server, "TILE_SECONDS", 0.2)
    served = serve()
    go = threading.Event()
    hang = (lambda pixels: pixels if go.wait(30) else None, torch.zeros(1))
    threading.Thread(target=served._networks.call, args=hang, daemon=True).start()
    served.thread.join(10)
    go.set()
    assert "it hangs" in str(served.failures[0])
    assert not place.folder.exists()


def test_who_looks_for_an_engine_keeps_none_from_starting(place):
    """Asking for its state takes the lock for a moment."""
    lock = place.try_lock()
    threading.Timer(0.1, place.unlock, [lock]).start()
    taken = server.lock_for_good(place)
    assert taken is not None
    assert server.lock_for_good(place) is None  # another engine
    place.unlock(taken)


def test_an_engine_waits_for_the_lock_before_it_ends(place, monkeypatch):
    asked = []
    monkeypatch.setattr(server, "lock_for_good", asked.append)  # which returns None: another engine has it
    assert server.main(place, 1, has_log=True) == 0
    assert asked == [place]
