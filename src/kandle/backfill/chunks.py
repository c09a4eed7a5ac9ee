"""Bytes of a text file, plain or gzip, in chunks of bounded size that end where a record ends."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from kandle.errors import InputError

CHUNK_BYTES = 16 * 1024 * 1024
"""Bytes of text that are parsed at once: large enough to keep all cores busy, small beside any memory."""

LONGEST_RECORD = 4
"""Chunks that one record may span before an unclosed quote is assumed."""


class ByteFile:
    """A file's bytes, unpacked if its name ends with .gz; what goes wrong is an InputError that names the file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._file = path.open("rb")
        except OSError as error:
            raise InputError(f"{path}: cannot be read: {error.strerror}") from error
        self._is_packed = path.suffix.lower() == ".gz"
        self._stream: BinaryIO | gzip.GzipFile = gzip.GzipFile(fileobj=self._file) if self._is_packed else self._file

    @property
    def position(self) -> int:
        """Bytes of the file itself that have been read."""
        return self._file.tell()

    def read(self, size: int) -> bytes:
        """The next `size` unpacked bytes, or what is left."""
        try:
            return self._stream.read(size)
        except EOFError as error:
            raise InputError(f"{self._path}: the gzip data end too early; the file is truncated") from error
        except gzip.BadGzipFile as error:
            raise InputError(f"{self._path}: is not gzip data, though its name ends with .gz") from error
        except zlib.error as error:
            raise InputError(f"{self._path}: the gzip data are damaged ({error})") from error
        except OSError as error:
            raise InputError(f"{self._path}: cannot be read: {error.strerror or error}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stream.close()
        self._file.close()


def record_chunks(file: ByteFile, source: str, *, has_quotes: bool, size: int = CHUNK_BYTES) -> Iterator[bytes]:
    """The file's bytes, cut where a record ends, which with `has_quotes` is never inside of quotes."""
    rest = b""
    while data := file.read(size):
        buffer = rest + data
        end = last_record_end(buffer) if has_quotes else buffer.rfind(b"\n") + 1
        if not end and len(buffer) > LONGEST_RECORD * size:
            raise InputError(f"{source}: a record of more than {len(buffer):,} bytes; is a quote or a line not closed?")
        if end:
            yield buffer[:end]
        rest = buffer[end:]
    if rest:
        yield rest


def last_record_end(buffer: bytes) -> int:
    """Where the last whole record ends, in bytes from the start, which is outside of quotes; 0 if none ends."""
    end = buffer.rfind(b"\n") + 1
    is_inside = buffer.count(b'"', 0, end) % 2 == 1
    while is_inside and end:
        previous = buffer.rfind(b"\n", 0, end - 1) + 1
        is_inside ^= buffer.count(b'"', previous, end) % 2 == 1
        end = previous
    return end


def first_record_end(buffer: bytes) -> int:
    """Where the first record ends, its line break included; the whole buffer if nothing follows it."""
    end = buffer.find(b"\n") + 1
    while end and buffer.count(b'"', 0, end) % 2 == 1:
        end = buffer.find(b"\n", end) + 1
    return end or len(buffer)
