"""NumPy arrays in a state: dtype, shape and one raw buffer, little-endian and in C order on every machine.

NumPy is optional: no value can be an array where it was never imported, and it is imported only to read one.
"""

from __future__ import annotations

import math
import re
import sys
from typing import Any

from dspex.errors import StateError, StateFormatError

# bool, integers, floats, complex, and moments with their unit: nothing whose bytes are pointers or differ by platform.
_DTYPE = re.compile(
    r"\|b1|\|[iu]1|<[iu][248]|<f[248]|<c(8|16)|<[mM]8(\[([1-9]\d{0,8})?(Y|M|W|D|h|m|s|ms|us|ns|ps|fs|as)\])?", re.ASCII
)
_MAX_DIMENSIONS = 32  # of NumPy 1


def is_array(value: Any) -> bool:
    """Whether a value is exactly a `numpy.ndarray`; subclasses (matrices, masked arrays) hold more than a buffer."""
    numpy = sys.modules.get("numpy")
    return numpy is not None and type(value) is numpy.ndarray


def packed(array: Any) -> dict[str, Any]:
    """dtype, shape and buffer of an array. Raises StateError for a dtype without a fixed layout (object, text)."""
    dtype = array.dtype.newbyteorder("<")
    if not _DTYPE.fullmatch(dtype.str) or array.ndim > _MAX_DIMENSIONS:
        raise StateError(
            f"an array of {array.dtype} and {array.ndim} dimensions has no fixed layout; keep it as a list"
        )
    data = array.astype(dtype, copy=False).tobytes()
    return {"dtype": dtype.str, "shape": list(array.shape), "data": {"$bytes": data}}


def unpacked(content: Any) -> Any:
    """The array of such content, writable. Raises StateFormatError when dtype, shape and buffer disagree."""
    if type(content) is not dict or content.keys() != {"dtype", "shape", "data"}:
        raise StateFormatError("an array has dtype, shape and data")
    dtype, shape, data = content["dtype"], content["shape"], content["data"]
    _check(dtype, shape, data)
    numpy = _numpy()
    kind = numpy.dtype(dtype)
    if math.prod(shape) * kind.itemsize != len(data):
        raise StateFormatError(f"{len(data)} bytes are no array of shape {shape} and dtype {dtype}")
    return numpy.ndarray(shape, kind, buffer=data).astype(kind.newbyteorder("="))


def _check(dtype: Any, shape: Any, data: Any) -> None:
    if type(dtype) is not str or not _DTYPE.fullmatch(dtype):
        raise StateFormatError(f"{str(dtype)[:80]!r} is no dtype of a state")
    sizes = type(shape) is list and len(shape) <= _MAX_DIMENSIONS
    if not sizes or not all(type(size) is int and 0 <= size < 2**63 for size in shape):
        raise StateFormatError("the shape of an array must be a list of sizes")
    if type(data) is not bytes:
        raise StateFormatError("the data of an array must be bytes")
    if dtype == "|b1" and data.strip(b"\0\1"):
        raise StateFormatError("a bool of an array must be 0 or 1")


def _numpy() -> Any:
    try:
        import numpy
    except ImportError as error:
        raise StateError("the state holds a NumPy array: pip install 'dspex[numpy]'") from error
    return numpy
