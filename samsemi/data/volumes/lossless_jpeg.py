"""A decoder of lossless JPEG (process 14, predictor 1): gdcm's ends the process on damaged streams, pylibjpeg's is under the GPL.

An eighth of a second for a slice of 512 x 512. Source: ITU-T T.81, annexes C, F and H.
"""

import struct
from dataclasses import dataclass, field

import numpy as np

START, SCAN, TABLES, RESTARTS, END = 0xC3, 0xDA, 0xC4, 0xDD, 0xD9
OTHER_FRAMES = {0xC0, 0xC1, 0xC2, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF}
"""Starts of frames that are not lossless, or arithmetic."""
WINDOW = 16
"""Longest code in bits."""
PADDING = 8


@dataclass
class Header:
    """What stands in front of the scan."""

    precision: int = 0
    rows: int = 0
    columns: int = 0
    components: int = 0
    interval: int = 0
    """Pixels between restarts; 0 for none."""
    tables: dict[int, np.ndarray] = field(default_factory=dict)
    """Table -> (65536,) of 32 * length of the code + bits that follow it, by the next 16 bits; 0 for no code."""
    chosen: tuple[int, ...] = ()
    """Table of each component."""
    shift: int = 0
    """Low bits that were left out."""


def decode_lossless(data: bytes, shape: tuple[int, ...]) -> np.ndarray:
    """(H, W) or (H, W, 3) uint16 of a stream of this shape; ValueError for any other and for one that is damaged."""
    try:
        header, start = read_headers(data)
        found = (header.rows, header.columns) + ((header.components,) if header.components > 1 else ())
        if found != shape:
            raise ValueError(f"a stream of {found} values, not {shape}")
        return decode_scan(data, start, header).reshape(shape)
    except (IndexError, struct.error) as error:
        raise ValueError(f"the stream ends too soon ({error})") from None


def decode_scan(data: bytes, start: int, header: Header) -> np.ndarray:
    """(rows, columns, components) uint16."""
    pixels = header.rows * header.columns
    step = header.interval or pixels
    if step % header.columns:
        raise ValueError("restarts within a row")
    segments = split_scan(data, start)
    if len(segments) < -(-pixels // step):
        raise ValueError("the stream ends too soon")
    parts = []
    for number, first in enumerate(range(0, pixels, step)):
        differences = decode_differences(segments[number], header, min(step, pixels - first) * header.components)
        parts.append(add_up(differences.reshape(-1, header.columns, header.components), header))
    return (np.concatenate(parts) << header.shift).astype(np.uint16)


def read_headers(data: bytes) -> tuple[Header, int]:
    """All segments up to the first scan, and where its bits begin."""
    header, position = Header(), 2
    if data[:2] != b"\xff\xd8":
        raise ValueError("no JPEG stream")
    while position + 4 <= len(data):
        if data[position] != 0xFF:
            raise ValueError("no marker where one must stand")
        marker, length = data[position + 1], struct.unpack_from(">H", data, position + 2)[0]
        body = data[position + 4 : position + 2 + length]
        position += 2 + length
        if marker == START:
            header.precision, header.rows, header.columns, header.components = struct.unpack_from(">BHHB", body)
        elif marker in OTHER_FRAMES:
            raise ValueError("a JPEG stream of another process")
        elif marker == TABLES:
            read_tables(body, header)
        elif marker == RESTARTS:
            header.interval = struct.unpack_from(">H", body)[0]
        elif marker == SCAN:
            read_scan(body, header)
            return header, position
    raise ValueError("the stream ends before its scan")


def read_tables(body: bytes, header: Header) -> None:
    """Huffman tables: 16 counts of codes by length, then the values of these in order."""
    while body:
        counts, count = body[1:17], sum(body[1:17])
        values = body[17 : 17 + count]
        table = np.zeros(1 << WINDOW, dtype=np.int32)
        code = taken = 0
        for length in range(1, len(counts) + 1):
            for value in values[taken : taken + counts[length - 1]]:
                first, width = code << (WINDOW - length), 1 << (WINDOW - length)
                if first + width > 1 << WINDOW or value > WINDOW:
                    raise ValueError("a Huffman table that cannot be")
                table[first : first + width] = 32 * length + value
                code += 1
            taken += counts[length - 1]
            code <<= 1
        header.tables[body[0] & 15] = table
        body = body[17 + count :]


def read_scan(body: bytes, header: Header) -> None:
    """Which table each component has; ValueError for another predictor than the pixel on the left."""
    count = body[0]
    if len(body) < 2 * count + 4 or not header.rows or not header.columns or count != header.components or count not in (1, 3):
        raise ValueError("a scan that does not fit its frame")
    header.chosen = tuple(body[2 + 2 * k] >> 4 for k in range(count))
    predictor, header.shift = body[2 * count + 1], body[2 * count + 3] & 15
    if predictor != 1:
        raise ValueError(f"predictor {predictor}; predictor 1 is read")
    if not set(header.chosen) <= set(header.tables) or not 2 <= header.precision <= 16 or header.shift >= header.precision:
        raise ValueError("a scan without its Huffman table, or of an unknown precision")


def split_scan(data: bytes, start: int) -> list[bytes]:
    """The bits between restarts, stuffed zeros taken out."""
    segments, first, position = [], start, start
    while (position := data.find(b"\xff", position)) >= 0 and position + 1 < len(data):
        marker = data[position + 1]
        if 0xD0 <= marker <= 0xD7 or marker == END:
            segments.append(data[first:position])
            first = position + 2
            if marker == END:
                return [segment.replace(b"\xff\x00", b"\xff") for segment in segments]
        elif marker != 0:
            raise ValueError("a marker within the pixels")
        position += 2
    raise ValueError("the stream ends too soon")


def decode_differences(bits: bytes, header: Header, count: int) -> np.ndarray:
    """(count,) int32 of what is added to each prediction, components in turn."""
    tables = [header.tables[name].tolist() for name in header.chosen]
    components, found = len(tables), [0] * count
    data, end = bits + bytes(PADDING), len(bits) + PADDING - 4
    window = held = position = 0
    for index in range(count):
        while held < 32:
            if position > end:
                raise ValueError("the stream ends too soon")
            window = window << 8 | (data[position] if position < len(data) else 0)
            position += 1
            held += 8
        entry = tables[index % components][window >> (held - 16) & 0xFFFF]
        if not entry:
            raise ValueError("bits that are no code")
        held -= entry >> 5
        size = entry & 31
        if size == 16:
            found[index] = 32768
        elif size:
            held -= size
            value = window >> held & ((1 << size) - 1)
            found[index] = value if value >> (size - 1) else value - (1 << size) + 1
        window &= (1 << held) - 1
    if 8 * position - held > 8 * len(bits):
        raise ValueError("the stream ends too soon")
    return np.array(found, dtype=np.int32)


def add_up(differences: np.ndarray, header: Header) -> np.ndarray:
    """(rows, columns, components) differences -> values: the first is predicted as half the range, the first of a row from above, others
    from the left."""
    values = differences.astype(np.int64)
    values[0, 0] += 1 << (header.precision - header.shift - 1)
    values[:, 0] = values[:, 0].cumsum(axis=0)
    return values.cumsum(axis=1) & 0xFFFF
