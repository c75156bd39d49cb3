"""How readers of volumes answer bad files."""

import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from samsemi.errors import DataError

LITTLE = 2**24
"""Bytes."""


def assert_named(read: Callable[[], object], path: Path, error: type[DataError], said: str) -> None:
    """Reading a file raises an error that names it, says what and what to do, and fills no memory."""
    tracemalloc.start()
    try:
        with pytest.raises(error, match=said) as caught:
            read()
        assert tracemalloc.get_traced_memory()[1] < LITTLE
    finally:
        tracemalloc.stop()
    assert str(path) in caught.value.message
    assert caught.value.hint
