"""Reading pickles of NumPy arrays without pickle, so that nothing in one can run.

Pickle is a small language, whose programs may call anything that can be imported. Here only those words of it are
understood that build plain values and arrays (:mod:`pickletools` reads the words), and whatever else a file says is an
error. The few names that arrays need stand for functions of this file.
"""

from __future__ import annotations

import io
import math
import pickletools
import re
from collections.abc import Callable
from pathlib import Path
from types import MappingProxyType
from typing import Any, NoReturn

import numpy as np

from drivetrain.errors import CheckpointError, CorruptCheckpointError

__all__ = ["read_pickle"]

_MOST_BYTES = 8 << 30
_MOST_WORDS = 5_000_000
_DEEPEST = 50
_DTYPE = re.compile(r"[<>=|]?(?:b1|[iu][1248]|f[248])")


class _RefusedError(Exception):
    """The file asks for what no file of weights needs."""


class _Dtype:
    """A NumPy type on its way; only numbers and booleans."""

    def __init__(self, text: Any, *flags: Any) -> None:
        if not isinstance(text, str) or not _DTYPE.fullmatch(text):
            raise _RefusedError(f"arrays of type {text!r:.40}")
        self.value = np.dtype(text)

    def build(self, state: Any) -> None:
        if not isinstance(state, tuple) or len(state) < 2 or state[1] not in ("<", ">", "=", "|"):
            raise ValueError("the byte order of an array")
        if any(part is not None for part in state[2:5]):
            raise _RefusedError("arrays of records")
        self.value = self.value.newbyteorder(state[1])


class _Array:
    """An array on its way: made empty, then filled."""

    def __init__(self) -> None:
        self.value: np.ndarray[Any, Any] | None = None

    def build(self, state: Any) -> None:
        if not isinstance(state, tuple) or len(state) != 5:
            raise ValueError("the state of an array")
        _, shape, dtype, fortran, raw = state
        self.fill(raw, dtype, shape, "F" if fortran else "C")

    def fill(self, raw: Any, dtype: Any, shape: Any, order: Any) -> None:
        if isinstance(raw, str):
            raw = raw.encode("latin-1")  # of Python 2, whose text was bytes
        if not isinstance(dtype, _Dtype) or not isinstance(raw, (bytes, bytearray)) or order not in ("C", "F"):
            raise _RefusedError("an array of something else than bytes")
        if not isinstance(shape, tuple) or len(shape) > 32 or not all(type(n) is int and n >= 0 for n in shape):
            raise ValueError("the shape of an array")
        if math.prod(shape) * dtype.value.itemsize != len(raw):
            raise ValueError("the size of an array")
        self.value = np.frombuffer(raw, dtype.value).reshape(shape, order=order)


class _Name:
    """One of the names that are understood, and what calling it makes."""

    def __init__(self, call: Callable[..., Any]) -> None:
        self.call = call


def _empty_array(kind: Any, shape: Any, typecode: Any) -> _Array:
    if kind is not _NAMES["numpy ndarray"]:
        raise _RefusedError("an array of an unknown kind")
    return _Array()


def _array_of_bytes(raw: Any, dtype: Any, shape: Any, order: Any) -> _Array:
    array = _Array()
    array.fill(raw, dtype, shape, order)
    return array


def _scalar(dtype: Any, raw: Any) -> _Array:
    return _array_of_bytes(raw, dtype, (), "C")


def _latin_bytes(text: Any, encoding: Any) -> bytes:
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise _RefusedError("an unusual encoding")
    return text.encode("latin-1")


def _bytes(*content: Any) -> bytes:
    if content:
        raise _RefusedError("bytes made of something else")
    return b""


def _dict(*pairs: Any) -> dict[Any, Any]:
    result: dict[Any, Any] = {}
    for pair in pairs[0] if pairs else ():
        key, value = pair
        _put(result, key, value)
    return result


def _no_call(*arguments: Any) -> NoReturn:
    raise _RefusedError("an array made in an unknown way")


_NAMES = MappingProxyType(
    {
        "numpy ndarray": _Name(_no_call),
        "numpy dtype": _Name(_Dtype),
        "collections OrderedDict": _Name(_dict),
        "_codecs encode": _Name(_latin_bytes),
        "__builtin__ bytes": _Name(_bytes),
        "builtins bytes": _Name(_bytes),
        **{
            f"{package}.{name}": _Name(call)
            for package in ("numpy.core", "numpy._core")
            for name, call in (
                ("multiarray _reconstruct", _empty_array),
                ("multiarray scalar", _scalar),
                ("numeric _frombuffer", _array_of_bytes),
            )
        },
    }
)


def read_pickle(path: Path) -> Any:
    """The content of a pickle of arrays and plain values: dicts, lists and tuples of numbers, text, bytes and None.

    Args:
        path: the file.

    Returns:
        The content. Arrays may not be written to; their byte order is the file's; text of Python 2 is read as Latin-1.

    Raises:
        CheckpointError: it holds anything else, is far too large, or cannot be read. Nothing of it was run.
        CorruptCheckpointError: it is no pickle, or is truncated or damaged.
    """
    try:
        size = path.stat().st_size
        if size > _MOST_BYTES:
            raise CheckpointError(f"{path} has {size} bytes, more than the {_MOST_BYTES} that weights may have")
        content = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({error.strerror or error})") from error
    try:
        return _finished(_Reader().run(content), {})
    except _RefusedError as error:
        raise CheckpointError(
            f"{path} is refused: it holds {error}, and a pickle may hold arrays of numbers and plain values only"
        ) from error
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError) as error:
        text = " ".join(str(error).split())[:120]
        raise CorruptCheckpointError(f"{path} is no pickle of weights, or is truncated or damaged ({text})") from error


class _Reader:
    """Follows the words of a pickle: a stack of values, marks in it, and a memory of values by number."""

    def __init__(self) -> None:
        self._stack: list[Any] = []
        self._marked: list[list[Any]] = []
        self._memory: dict[int, Any] = {}

    def run(self, content: bytes) -> Any:
        """The value that the words build."""
        for count, (opcode, argument, _) in enumerate(pickletools.genops(io.BytesIO(content))):
            if count > _MOST_WORDS:
                raise _RefusedError(f"more than {_MOST_WORDS} words of pickle")
            word = opcode.name
            if word in _LITERALS:
                self._stack.append(argument)
            elif word == "STOP":
                return self._stack.pop()
            elif word in _WORDS:
                _WORDS[word](self, argument)
            else:
                raise _RefusedError(f"the pickle word {word}")
        raise ValueError("it has no end")

    def mark(self, _: Any) -> None:
        self._marked.append(self._stack)
        self._stack = []

    def to_mark(self) -> list[Any]:
        """What lies above the last mark, which is taken away with it."""
        above, self._stack = self._stack, self._marked.pop()
        return above

    def pop(self, _: Any) -> None:
        if self._stack:
            self._stack.pop()
        else:
            self.to_mark()

    def drop(self, _: Any) -> None:
        self.to_mark()

    def push(self, value: Any) -> None:
        self._stack.append(value)

    def last(self, count: int) -> list[Any]:
        """The last values of the stack, taken away."""
        if count > len(self._stack):
            raise ValueError("a value is missing")
        values = self._stack[len(self._stack) - count :]
        del self._stack[len(self._stack) - count :]
        return values

    def append(self, values: list[Any]) -> None:
        if type(self._stack[-1]) is not list:
            raise _RefusedError("an addition to something that is no list")
        self._stack[-1].extend(values)

    def set_items(self, values: list[Any]) -> None:
        for key, value in zip(values[::2], values[1::2], strict=True):
            _put(self._stack[-1], key, value)

    def remember(self, number: Any) -> None:
        self._memory[len(self._memory) if number is None else number] = self._stack[-1]

    def recall(self, number: Any) -> None:
        self._stack.append(self._memory[number])

    def name(self, text: Any) -> None:
        """A global name, ``"module name"``."""
        if text is None:
            text = " ".join(str(part) for part in self.last(2))
        if text not in _NAMES:
            raise _RefusedError(f"{text.replace(' ', '.')!r:.80}")
        self._stack.append(_NAMES[text])

    def call(self, _: Any) -> None:
        function, arguments = self.last(2)
        if not isinstance(function, _Name) or not isinstance(arguments, tuple):
            raise _RefusedError("a call")
        self._stack.append(function.call(*arguments))

    def build(self, _: Any) -> None:
        state = self.last(1)[0]
        target = self._stack[-1]
        if isinstance(target, (_Array, _Dtype)):
            target.build(state)
        elif not isinstance(target, dict):  # the attributes of an OrderedDict are of no interest
            raise _RefusedError("the state of an unknown object")


def _put(target: Any, key: Any, value: Any) -> None:
    if type(target) is not dict:
        raise _RefusedError("an item of something that is no dict")
    if type(key) not in (str, int, float, bool, type(None)):
        raise _RefusedError("a dict with keys that are not words")
    target[key] = value


def _finished(value: Any, done: dict[int, Any], depth: int = 0) -> Any:
    """The value with arrays where they were on their way; ``done`` has what was met, by identity."""
    if depth > _DEEPEST:
        raise _RefusedError(f"values nested more than {_DEEPEST} deep, or in themselves")
    if isinstance(value, _Array):
        if value.value is None:
            raise ValueError("an array without content")
        return value.value
    if isinstance(value, (_Dtype, _Name)):
        raise _RefusedError("a name in place of a value")
    if not isinstance(value, (dict, list, tuple)):
        return value
    if id(value) not in done:
        if isinstance(value, dict):
            done[id(value)] = {key: _finished(item, done, depth + 1) for key, item in value.items()}
        else:
            done[id(value)] = type(value)(_finished(item, done, depth + 1) for item in value)
    return done[id(value)]


_LITERALS = (
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
    *("STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
    *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
)
_WORDS: MappingProxyType[str, Callable[[_Reader, Any], None]] = MappingProxyType(
    {
        "PROTO": lambda reader, _: None,
        "FRAME": lambda reader, _: None,
        "MARK": _Reader.mark,
        "POP": _Reader.pop,
        "POP_MARK": _Reader.drop,
        "NONE": lambda reader, _: reader.push(None),
        "NEWTRUE": lambda reader, _: reader.push(True),
        "NEWFALSE": lambda reader, _: reader.push(False),
        "EMPTY_LIST": lambda reader, _: reader.push([]),
        "EMPTY_DICT": lambda reader, _: reader.push({}),
        "EMPTY_TUPLE": lambda reader, _: reader.push(()),
        "LIST": lambda reader, _: reader.push(reader.to_mark()),
        "TUPLE": lambda reader, _: reader.push(tuple(reader.to_mark())),
        "DICT": lambda reader, _: reader.push(_dict(_pairs(reader.to_mark()))),
        "TUPLE1": lambda reader, _: reader.push(tuple(reader.last(1))),
        "TUPLE2": lambda reader, _: reader.push(tuple(reader.last(2))),
        "TUPLE3": lambda reader, _: reader.push(tuple(reader.last(3))),
        "APPEND": lambda reader, _: reader.append(reader.last(1)),
        "APPENDS": lambda reader, _: reader.append(reader.to_mark()),
        "SETITEM": lambda reader, _: reader.set_items(reader.last(2)),
        "SETITEMS": lambda reader, _: reader.set_items(reader.to_mark()),
        "GET": _Reader.recall,
        "BINGET": _Reader.recall,
        "LONG_BINGET": _Reader.recall,
        "PUT": _Reader.remember,
        "BINPUT": _Reader.remember,
        "LONG_BINPUT": _Reader.remember,
        "MEMOIZE": _Reader.remember,
        "GLOBAL": _Reader.name,
        "STACK_GLOBAL": _Reader.name,
        "REDUCE": _Reader.call,
        "BUILD": _Reader.build,
    }
)


def _pairs(flat: list[Any]) -> list[tuple[Any, Any]]:
    return list(zip(flat[::2], flat[1::2], strict=True))
