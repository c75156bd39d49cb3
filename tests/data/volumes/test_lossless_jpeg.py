"""The decoder of lossless JPEG against a plain encoder; what is damaged is an error, whatever the damage."""

import struct
from contextlib import suppress

import numpy as np
import pytest

from samsemi.data.volumes.lossless_jpeg import decode_lossless

GRAY = np.random.default_rng(0).integers(0, 4096, (6, 5), dtype=np.uint16)
COLORS = np.random.default_rng(1).integers(0, 256, (6, 5, 3), dtype=np.uint16)


def encode(values: np.ndarray, precision: int, interval: int = 0, shift: int = 0, predictor: int = 1) -> bytes:
    """A stream of (H, W) or (H, W, 3) values whose Huffman table gives every size a code of 5 bits."""
    rows, columns, components = (*values.shape, 1)[:3]
    planes = (values.reshape(rows, columns, components) >> shift).astype(int)
    bits, scan, restarts = "", b"", 0
    for index in range(rows * columns):
        y, x = divmod(index, columns)
        first = index % interval == 0 if interval else index == 0
        if first and index:
            scan += pack(bits) + bytes([0xFF, 0xD0 + restarts % 8])
            bits, restarts = "", restarts + 1
        for k in range(components):
            guess = 1 << (precision - shift - 1) if first else planes[y, x - 1, k] if x else planes[y - 1, x, k]
            difference = int(planes[y, x, k] - guess) & 0xFFFF
            difference = difference - 65536 if difference > 32768 else difference
            size = abs(difference).bit_length()
            bits += f"{size:05b}"
            if 0 < size < 16:
                bits += f"{difference if difference > 0 else difference + (1 << size) - 1:0{size}b}"
    table = bytes([0, 0, 0, 0, 0, 17, *[0] * 11, *range(17)])
    parts = [(0xC4, table), (0xC3, struct.pack(">BHHB", precision, rows, columns, components) + bytes(3 * components))]
    parts += [(0xDD, struct.pack(">H", interval))] if interval else []
    parts += [(0xDA, bytes([components, *[0, 0] * components, predictor, 0, shift]))]
    segments = b"".join(bytes([0xFF, marker]) + struct.pack(">H", len(body) + 2) + body for marker, body in parts)
    return b"\xff\xd8" + segments + scan + pack(bits) + b"\xff\xd9"


def pack(bits: str) -> bytes:
    """Bits filled up with ones, a zero after each byte of ones."""
    bits += "1" * (-len(bits) % 8)
    return bytes(int(bits[k : k + 8], 2) for k in range(0, len(bits), 8)).replace(b"\xff", b"\xff\x00")


@pytest.mark.parametrize(("values", "precision"), [(GRAY, 12), (GRAY << 4, 16), (COLORS, 8)], ids=["gray", "16 bits", "colors"])
@pytest.mark.parametrize("interval", [0, 10], ids=["one scan", "restarts"])
def test_values_are_those_that_were_encoded(values, precision, interval):
    assert (decode_lossless(encode(values, precision, interval), values.shape) == values).all()


def test_left_out_bits_are_zero():
    assert (decode_lossless(encode(GRAY, 12, shift=2), GRAY.shape) == GRAY >> 2 << 2).all()


@pytest.mark.parametrize(
    ("stream", "said"),
    [
        (encode(GRAY, 12, predictor=4), "predictor 4"),
        (encode(GRAY[:5], 12), "a stream of"),
        (encode(GRAY, 12)[:-20], "too soon"),
        (encode(GRAY, 12).replace(b"\xff\xc3", b"\xff\xc0"), "another process"),
        (encode(GRAY, 12).replace(b"\xff\xc4", b"\xff\xe0"), "Huffman table"),
        (b"\xff\xd8\xff", "before its scan"),
        (b"JPEG", "no JPEG"),
    ],
)
def test_other_streams_are_named(stream, said):
    with pytest.raises(ValueError, match=said):
        decode_lossless(stream, GRAY.shape)


def test_damage_is_an_error_or_other_values():
    rng, stream = np.random.default_rng(2), encode(GRAY, 12, interval=10)
    for _ in range(300):
        damaged = bytearray(stream)
        for place in rng.integers(0, len(stream), rng.integers(1, 5)):
            damaged[place] = rng.integers(0, 256)
        with suppress(ValueError):
            assert decode_lossless(bytes(damaged[: rng.integers(1, len(stream) + 1)]), GRAY.shape).shape == GRAY.shape
