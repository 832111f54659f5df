"""Rows of other forms, as dicts of fields: JSON, files of JSON lines, CSV, data frames of pandas and Polars."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from dspex.errors import UsageError

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator

    from dspex.examples._example import Example

Library = Literal["pandas", "polars"]
Fields = dict[str, Any]


def fields_of_json(text: str | bytes, place: str) -> Fields:
    """The fields of one JSON object. Raises UsageError that begins with `place`."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{place} is not JSON: {error}") from error
    if not isinstance(found, dict):
        raise UsageError(f"{place} is not a JSON object but {type(found).__name__}")
    return found


def read_jsonl(path: str | os.PathLike[str]) -> Iterator[Fields]:
    """The object of each line that is not blank."""
    # By bytes: only \n ends a line of JSON, and a line that is no UTF-8 is named like any other fault.
    with Path(path).open("rb") as file:
        for number, line in enumerate(file, 1):
            text = line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
            if text.strip():
                yield fields_of_json(text, f"{path}, line {number}")


def read_csv(path: str | os.PathLike[str], delimiter: str) -> Iterator[Fields]:
    """The cells of each row that is not empty, by the names in the first."""
    with Path(path).open(encoding="utf-8-sig", newline="") as file:
        rows = csv.reader(file, delimiter=delimiter, strict=True)
        try:
            names = _distinct(next(rows, []), f"{path}, line 1")
            for row in filter(None, rows):
                if len(row) != len(names):
                    raise UsageError(f"{path}, line {rows.line_num}: {len(row)} cells, but {len(names)} fields")
                yield dict(zip(names, row, strict=True))
        except (csv.Error, UnicodeDecodeError) as error:
            raise UsageError(f"{path}, line {rows.line_num}: {error}") from error


def _distinct(names: list[Any], place: str) -> list[str]:
    for name in names:
        if not isinstance(name, str) or not name:
            raise UsageError(f"{place}: a field must be named by a str that is not empty, not {name!r}")
        if names.count(name) > 1:
            raise UsageError(f"{place}: the name {name!r} occurs twice")
    return names


# --- frames ---


def frame_of(examples: list[Example], library: str) -> Any:
    """A frame with a column for each field that occurs, in the order of first occurrence."""
    names = list(dict.fromkeys(name for example in examples for name in example.keys()))  # noqa: SIM118
    columns = {name: [example.get(name) for example in examples] for name in names}
    if library == "pandas":
        return _pandas_frame(columns)
    if library == "polars":
        import polars

        return polars.DataFrame(columns, strict=False)
    raise UsageError(f"library must be 'pandas' or 'polars', not {library!r}")


def _pandas_frame(columns: dict[str, list[Any]]) -> Any:
    import pandas

    # pandas would turn None into NaN, and with it every int of the column into a float.
    return pandas.DataFrame(
        {
            name: pandas.Series(values, dtype=object if any(v is None for v in values) else None)
            for name, values in columns.items()
        }
    )


def rows_of(frame: Any) -> list[Fields]:
    """The rows of a pandas or Polars frame. Nobody can hand in a frame of a library that is not imported."""
    pandas, polars = sys.modules.get("pandas"), sys.modules.get("polars")
    if pandas is not None and isinstance(frame, pandas.DataFrame):
        _distinct(list(frame.columns), "the columns of the frame")
        return cast(list[Fields], frame.to_dict("records"))
    if polars is not None and isinstance(frame, polars.DataFrame):
        return cast(list[Fields], frame.to_dicts())
    raise UsageError(f"from_frame takes a data frame of pandas or Polars, not {type(frame).__name__}")
