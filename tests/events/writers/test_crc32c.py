"""The checksum of event files, against known values and the library's own."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import crc32c as of_the_library

from drivetrain.events.writers.crc32c import crc32c


def test_known_values() -> None:
    assert crc32c(b"123456789") == 0xE3069283  # the usual check value
    assert crc32c(bytes(32)) == 0x8A9136AA  # RFC 3720, appendix B.4
    assert crc32c(b"\xff" * 32) == 0x62A8AB43
    assert crc32c(b"") == 0


@given(st.binary(max_size=40))
def test_short_ones(data: bytes) -> None:
    assert crc32c(data) == of_the_library(data)


@pytest.mark.parametrize("size", [1023, 1024, 1025, 1027, 1028, 2048, 5000])
def test_around_the_size_of_a_piece(size: int) -> None:
    data = bytes(i * 37 % 251 for i in range(size))
    assert crc32c(data) == of_the_library(data)
