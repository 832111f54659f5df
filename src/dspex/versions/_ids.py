"""How versions are called: the strategies of `StateManager(versioning=...)`.

incremental    "1", "2", "3": the number of the save in its module
timestamp      "2026-11-23T17:21:42.123456Z": its time, which no two versions of a module share
semantic       "1.4.2": the first parent's with one part raised (`bump`: major, minor, patch), the first that is free
content        "sha256:...": of module, parents, schema, content and metadata: the same save is the same everywhere
"""

from __future__ import annotations

import hashlib
import re
from datetime import UTC, datetime
from typing import Any, Literal

from dspex.errors import UsageError
from dspex.state import canonical

Versioning = Literal["incremental", "timestamp", "semantic", "content"]
Bump = Literal["major", "minor", "patch"]
VERSIONINGS = ("incremental", "timestamp", "semantic", "content")
BUMPS = ("major", "minor", "patch")
_SEMANTIC = re.compile(r"(\d+)\.(\d+)\.(\d+)")
_ID = re.compile(
    r"\d+(@\w+)?|\d+\.\d+\.\d+(@\w+)?|\d{4}-\d\d-\d\dT[\d:.]+Z(@\w+)?|sha256:[0-9a-f]{64}(@\w+)?|latest", re.ASCII
)


def check_tag(tag: str) -> None:
    """Raise UsageError for a tag that could be taken for an id."""
    if _ID.fullmatch(tag):
        raise UsageError(f"the tag {tag!r} looks like an id of a version; name it otherwise, as 'v{tag}'")


def timestamp(time: int) -> str:
    """A time (microseconds since the epoch) as an id."""
    return datetime_of(time).isoformat(timespec="microseconds").replace("+00:00", "Z")


def datetime_of(time: int) -> datetime:
    """A time in microseconds since the epoch as a datetime, UTC."""
    return datetime.fromtimestamp(time // 1_000_000, UTC).replace(microsecond=time % 1_000_000)


def microseconds(moment: datetime) -> int:
    """The inverse. Raises UsageError for a moment without a zone."""
    if moment.tzinfo is None:
        raise UsageError(f"the moment {moment.isoformat()} has no zone; give one, as datetime.now(UTC) does")
    delta = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return (delta.days * 86_400 + delta.seconds) * 1_000_000 + delta.microseconds


def raised(parent: str | None, bump: Bump) -> str:
    """The semantic id after a parent's; the first is 1.0.0, also after a parent that has none."""
    match = _SEMANTIC.fullmatch(parent.partition("@")[0]) if parent else None
    if match is None:
        return "1.0.0"
    major, minor, patch = map(int, match.groups())
    if bump == "major":
        return f"{major + 1}.0.0"
    return f"{major}.{minor + 1}.0" if bump == "minor" else f"{major}.{minor}.{patch + 1}"


def uid_of_content(name: str) -> str:
    """The uid of a version that is called by its content: the same save is the same version wherever it was made."""
    return name.removeprefix("sha256:")[:16]


def content_name(module_id: str, parents: tuple[str, ...], schema: str, content: str, metadata: dict[str, Any]) -> str:
    """The id of a save by all that it says."""
    whole = canonical([module_id, list(parents), schema, content, metadata])
    return f"sha256:{hashlib.sha256(whole).hexdigest()}"
