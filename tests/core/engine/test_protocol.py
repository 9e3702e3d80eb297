"""Frames come out as they went in; what is no frame is refused, and harms nothing."""

import json
import random
import socket
import struct
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from deepsplit_core.engine import protocol
from deepsplit_core.engine.protocol import ProtocolError, admit, introduce, receive, send

TOKEN = bytes(range(32))
ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
HEADERS = st.dictionaries(st.text().filter(lambda name: name != "arrays"), ANY_JSON, max_size=4)
ARRAYS = st.lists(
    st.sampled_from(sorted(protocol.DTYPES)).flatmap(lambda dtype: arrays(dtype, array_shapes(max_dims=3))), max_size=2
)


def transfer(content, seconds=5.0):
    """What `receive` makes of some bytes after which the other side closes."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.sendall(content)
        ours.shutdown(socket.SHUT_WR)
        return receive(theirs, seconds)


def frame(header, *contents):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<I", len(text)) + text + b"".join(contents)


def sent(header, images=()):
    """The bytes that `send` sends."""
    ours, theirs = socket.socketpair()
    with theirs:
        with ours:
            send(ours, header, images)
        content = b""
        while more := theirs.recv(1 << 16):
            content += more
        return content


@given(HEADERS, ARRAYS)
def test_frames_come_out_as_they_went_in(header, images):
    received, results = transfer(sent(header, images))
    assert received == header
    assert [r.dtype for r in results] == [i.dtype for i in images]
    for result, image in zip(results, images):
        assert result.shape == image.shape
        assert result.tobytes() == image.tobytes()  # the same bits, of NaN too


def test_any_layout_and_byte_order_can_be_sent():
    image = np.arange(12, dtype=">u2").reshape(3, 4)
    for view in (image, image.T, image[::-1, ::2]):
        before = view.copy()
        (result,) = transfer(sent({}, [view]))[1]
        assert np.array_equal(result, view)
        assert result.dtype == np.uint16
        assert np.array_equal(view, before)


def test_two_frames_follow_each_other():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        for n in (1, 2):
            send(ours, {"n": n}, [np.full((2, 2), n, np.uint8)])
        for n in (1, 2):
            header, (image,) = receive(theirs, 5)
            assert (header["n"], image[0, 0]) == (n, n)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ([np.zeros((2, 2), np.complex64)], "type complex64"),
        ([np.zeros((1, 1, 1, 1))], "one to three axes"),
        ([np.zeros((0, 3))], "one to three axes"),
        ([np.zeros(1)] * 3, "at most 2 arrays"),
        ([np.zeros(2, "datetime64[s]")], "type datetime64"),
    ],
)
def test_what_the_other_side_refuses_is_not_sent(images, message):
    with pytest.raises(ValueError, match=message):
        sent({}, images)


def test_a_header_that_is_too_large_is_not_sent():
    with pytest.raises(ValueError, match="header has"):
        sent({"card": "x" * protocol.LARGEST_HEADER})


def described(dtype="uint8", shape=(1,)):
    return {"arrays": [[dtype, shape]]}


WRONG = {
    "too long a header": struct.pack("<I", protocol.LARGEST_HEADER + 1),
    "no JSON": frame(b"\x80\x04K\x01."),  # a pickle
    "no object": frame(b"[]"),
    "deep nesting": frame(b"[" * 500_000),
    "no arrays": frame({}),
    "arrays of a number": frame({"arrays": 1}),
    "an array of a number": frame({"arrays": [1]}),
    "three arrays": frame({"arrays": [["uint8", [1]]] * 3}, b"abc"),
    "objects": frame(described("object"), bytes(8)),
    "a type with a layout": frame(described("u1,u1"), bytes(2)),
    "a type that is a list": frame(described(["uint8"]), bytes(1)),
    "no axis": frame(described(shape=[]), bytes(1)),
    "no pixel": frame(described(shape=[3, 0])),
    "a negative axis": frame(described(shape=[-1, -1]), bytes(1)),
    "half a pixel": frame(described(shape=[0.5]), bytes(1)),
    "a bool for a length": frame(described(shape=[True]), bytes(1)),
    "too many pixels": frame(described("float64", [1 << 20, 1 << 20])),
    "absurdly many pixels": frame(described("float64", [10**400])),
}


@pytest.mark.parametrize("content", WRONG.values(), ids=WRONG)
def test_wrong_frames_are_refused(content):
    ours, theirs = socket.socketpair()
    with ours, theirs:
        threading.Thread(target=ours.sendall, args=(content,), daemon=True).start()
        with pytest.raises(ProtocolError):
            receive(theirs, 5)


def test_a_frame_that_stops_anywhere_is_noticed():
    content = sent({"command": "predict"}, [np.ones((3, 4), np.uint16)])
    assert transfer(content)[1][0].sum() == 12
    for n in range(len(content)):
        with pytest.raises(ConnectionError):
            transfer(content[:n])


def test_a_frame_that_does_not_come_is_given_up():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.sendall(b"\x05")
        with pytest.raises(socket.timeout):
            receive(theirs, 0.05)


def test_ten_thousand_damaged_frames():
    """Each is a frame still, or refused: nothing else is ever raised."""
    rng = random.Random(0)
    valid = sent(
        {"command": "predict", "config": {"model": "nuclei"}}, [np.ones((3, 4), np.uint16), np.ones((3, 4), bool)]
    )
    refused = 0
    for _ in range(10_000):
        content = bytearray(valid)
        for _ in range(rng.randint(1, 8)):
            kind, at = rng.randrange(5), rng.randrange(len(content))
            if kind == 0:
                content[at] = rng.randrange(256)
            elif kind == 1:
                content[at] ^= 1 << rng.randrange(8)
            elif kind == 2:
                del content[at : at + rng.randint(1, 4)]
            elif kind == 3:
                content[at:at] = rng.choice([b"[", b'"', b"9" * 9, b"-1", b"null", b"\xff", rng.randbytes(5)])
            else:
                content[:4] = struct.pack("<I", rng.choice([0, 1, len(content), rng.randrange(1 << 32)]))
        try:
            transfer(bytes(content))
        except (ProtocolError, ConnectionError, MemoryError):
            refused += 1
    assert 8_000 < refused < 10_000


# The token


def meet(hello):
    """What the engine sends back to somebody who says `hello`, and whether it let him in."""
    ours, theirs = socket.socketpair()
    with ours:
        ours.sendall(hello)
        ours.shutdown(socket.SHUT_WR)
        with theirs:
            try:
                admit(theirs, TOKEN, 5)
                is_in = True
            except (ProtocolError, ConnectionError):
                is_in = False
        try:
            return is_in, ours.recv(100)
        except ConnectionResetError:  # closed with something of ours unread
            return is_in, b""


def recorded(token):
    """What a client with this token says first."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.settimeout(5)
        thread = threading.Thread(target=lambda: pytest.raises(ConnectionError, introduce, ours, token, 5))
        thread.start()
        hello = theirs.recv(200)
        theirs.close()
        thread.join(5)
        assert not thread.is_alive()
    return hello


def test_only_the_token_lets_in():
    is_in, answer = meet(recorded(TOKEN))
    assert is_in
    assert len(answer) == 32
    assert meet(recorded(TOKEN[::-1])) == (False, b"")


def test_the_token_itself_does_not_travel():
    assert TOKEN not in recorded(TOKEN)
    assert recorded(TOKEN) != recorded(TOKEN)


def test_every_bit_of_the_greeting_counts():
    hello = recorded(TOKEN)
    for at in range(len(hello)):
        damaged = bytearray(hello)
        damaged[at] ^= 4
        assert meet(bytes(damaged)) == (False, b"")
        assert meet(hello[:at]) == (False, b"")


@pytest.mark.parametrize("hello", [b"", b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n" * 3, b"\x16\x03\x01" + bytes(200)])
def test_strangers_get_not_a_byte(hello):
    assert meet(hello) == (False, b"")


def test_a_client_trusts_only_the_engine_that_wrote_the_token():
    """Whoever took over the port of an engine that is gone cannot mirror the client's own proof either."""
    for answer in (lambda hello: hello[-32:], lambda hello: bytes(32)):
        ours, theirs = socket.socketpair()
        with ours, theirs:
            thread = threading.Thread(target=lambda: theirs.sendall(answer(theirs.recv(200))))  # noqa: B023
            thread.start()
            with pytest.raises(ProtocolError, match="does not know the token"):
                introduce(ours, TOKEN, 5)
            thread.join(5)
