"""What a client and the engine say to each other over a socket. Nothing is ever unpickled.

A connection opens with a proof, both ways, that the other side knows the token; the token itself never travels. A
client that cannot prove it gets not a byte. Then frames follow, in both directions:

    uint32       little-endian: bytes of the header
    header       a JSON object in UTF-8; its entry "arrays" lists [dtype, shape]
    arrays       the bytes of each, in C order and the machine's own byte order: both sides are one machine
"""

from __future__ import annotations

import hmac
import json
import math
import secrets
import socket
import struct
import time
from typing import Any, Dict, List, Sequence, Tuple

import numpy as np

VERSION = 2
LARGEST_HEADER = 1 << 22  # bytes; the largest, an answer with a card (`weights.LARGEST_HEADER`), escaped twice
LARGEST_ARRAYS = 1 << 34  # bytes of one frame; float64 pixels of 40,000 x 40,000 fit
LARGEST_COUNT = 2  # image and mask
DTYPES = frozenset(
    "bool uint8 uint16 uint32 uint64 int8 int16 int32 int64 float16 float32 float64".split()
)  # longer floats differ between machines and are no type of image

MAGIC = b"DeepSpl\n"
_NONCE, _PROOF = 16, 32  # bytes
_LENGTH = struct.Struct("<I")

Frame = Tuple[Dict[str, Any], List[np.ndarray]]


class ProtocolError(RuntimeError):
    """What came is not what client and engine say to each other."""


def send(connection: socket.socket, header: dict[str, Any], arrays: Sequence[np.ndarray] = ()) -> None:
    """Send one frame.

    Parameters
    ----------
    connection : socket
        Its time limit holds for the header, and for each array.
    header : dict
        Of what JSON knows.
    arrays : sequence of arrays
        At most two, of the types in `DTYPES`.

    Raises
    ------
    ValueError
        The frame is larger than the other side accepts.
    OSError
        The other side is gone, or does not read.
    """
    # As the other side will check it: what cannot be sent is said here, where it can be mended.
    native = [np.ascontiguousarray(array, array.dtype.newbyteorder("=")) for array in arrays]
    described = [[array.dtype.name, list(array.shape)] for array in native]
    text = json.dumps({**header, "arrays": described}, default=float).encode()  # numbers of numpy
    try:
        _check_header(text)
    except ProtocolError as error:
        raise ValueError(f"This cannot be sent to or by the engine: {error}.") from error
    connection.sendall(_LENGTH.pack(len(text)) + text)
    for array in native:
        connection.sendall(_bytes_of(array))


def receive(connection: socket.socket, seconds: float) -> Frame:
    """Receive one frame.

    Parameters
    ----------
    connection : socket
    seconds : float
        The whole frame has to be there after this time.

    Returns
    -------
    header : dict
    arrays : list of arrays

    Raises
    ------
    ProtocolError
        It is no frame, or larger than the limits.
    socket.timeout
        It was not there in time.
    ConnectionError
        The other side is gone.
    """
    deadline = time.monotonic() + seconds
    (n_header,) = _LENGTH.unpack(_read(connection, _LENGTH.size, deadline))
    if n_header > LARGEST_HEADER:
        raise ProtocolError(f"a header of {n_header} bytes was announced, at most {LARGEST_HEADER} are allowed")
    header, described = _check_header(bytes(_read(connection, n_header, deadline)))
    arrays = []
    for dtype, shape in described:
        array = np.empty(shape, dtype)
        _fill(connection, _bytes_of(array), deadline)
        arrays.append(array)
    return header, arrays


def introduce(connection: socket.socket, token: bytes, seconds: float) -> None:
    """Prove to the engine that we know the token, and have it prove the same.

    Raises
    ------
    ProtocolError, OSError
        Whoever listens there is not the engine that wrote the token.
    """
    nonce = secrets.token_bytes(_NONCE)
    connection.sendall(MAGIC + nonce + _proof(token, b"client", nonce))
    answer = _read(connection, _PROOF, time.monotonic() + seconds)
    if not hmac.compare_digest(answer, _proof(token, b"engine", nonce)):
        raise ProtocolError("the listener does not know the token")


def admit(connection: socket.socket, token: bytes, seconds: float) -> None:
    """Let a client in that proves, in time, that it knows the token. Whoever does not gets no answer.

    Raises
    ------
    ProtocolError, OSError
        It did not.
    """
    hello = bytes(_read(connection, len(MAGIC) + _NONCE + _PROOF, time.monotonic() + seconds))
    magic, nonce, proof = hello[: len(MAGIC)], hello[len(MAGIC) : -_PROOF], hello[-_PROOF:]
    if magic != MAGIC or not hmac.compare_digest(proof, _proof(token, b"client", nonce)):
        raise ProtocolError("a stranger")
    connection.sendall(_proof(token, b"engine", nonce))


def _proof(token: bytes, role: bytes, nonce: bytes) -> bytes:
    return hmac.new(token, role + nonce, "sha256").digest()


def _check_header(text: bytes) -> tuple[dict[str, Any], list[tuple[str, tuple[int, ...]]]]:
    """Return the header and the types and shapes of the arrays that follow it."""
    if len(text) > LARGEST_HEADER:
        raise ProtocolError(f"its header has {len(text)} bytes, at most {LARGEST_HEADER} are allowed")
    try:
        header = json.loads(text.decode())
    except (ValueError, RecursionError) as error:
        raise ProtocolError(f"its header is no JSON ({error})") from error
    described = header.pop("arrays", None) if isinstance(header, dict) else None
    if not isinstance(described, list) or len(described) > LARGEST_COUNT:
        raise ProtocolError(f"its header is no JSON object with a list of at most {LARGEST_COUNT} arrays")
    checked = [_check_array(array) for array in described]
    n_bytes = sum(np.dtype(dtype).itemsize * math.prod(shape) for dtype, shape in checked)
    if n_bytes > LARGEST_ARRAYS:
        raise ProtocolError(f"its arrays have {n_bytes} bytes, at most {LARGEST_ARRAYS} are allowed")
    return header, checked


def _check_array(described: Any) -> tuple[str, tuple[int, ...]]:
    if not isinstance(described, list) or len(described) != 2:
        raise ProtocolError("an array is not described by its type and shape")
    dtype, shape = described
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise ProtocolError(f"an array has the type {str(dtype)[:40]}, allowed are {', '.join(sorted(DTYPES))}")
    # A bool is an int to isinstance.
    if not isinstance(shape, list) or not 1 <= len(shape) <= 3 or not all(type(n) is int and n > 0 for n in shape):
        raise ProtocolError("an array does not have one to three axes with pixels in them")
    return dtype, tuple(shape)


def _bytes_of(array: np.ndarray) -> memoryview:
    return array.reshape(-1).view(np.uint8).data


def _read(connection: socket.socket, n_bytes: int, deadline: float) -> bytearray:
    content = bytearray(n_bytes)
    _fill(connection, memoryview(content), deadline)
    return content


def _fill(connection: socket.socket, view: memoryview, deadline: float) -> None:
    while view:
        left = deadline - time.monotonic()
        if left <= 0:
            raise socket.timeout("timed out")
        connection.settimeout(left)
        n_read = connection.recv_into(view)
        if n_read == 0:
            raise ConnectionResetError("the other side closed the connection")
        view = view[n_read:]
