"""Every version of the states of programs: saved, found, merged, migrated, restored, on any store.

StateManager                             what users call                                   _manager
    ├── saving: one conditional write    _saving, _ids, _resolvers, _merge, _sweep
    ├── finding: ids, tags, moments      _catalog, _history
    ├── names and deletion               _marking, _snapshots
    ├── schemas                          _migrations
    ├── the store as a whole             _watching, _verifying, _compaction, _syncing, _bundle
    └── contents: states as chunks       _contents, _chunks
records: what stands in a store          _records, _events, _format
"""

from dspex.versions._compaction import Compacted as Compacted
from dspex.versions._compaction import Retention as Retention
from dspex.versions._events import Event as Event
from dspex.versions._history import History as History
from dspex.versions._manager import Page as Page
from dspex.versions._manager import StateManager as StateManager
from dspex.versions._migrations import Migrations as Migrations
from dspex.versions._migrations import Step as Step
from dspex.versions._resolvers import Conflict as Conflict
from dspex.versions._snapshots import Snapshot as Snapshot
from dspex.versions._syncing import Synced as Synced
from dspex.versions._verifying import Problem as Problem
from dspex.versions._verifying import Report as Report
from dspex.versions._version import HEAD as HEAD
from dspex.versions._version import NEW as NEW
from dspex.versions._version import Version as Version

__all__ = [
    "HEAD",
    "NEW",
    "Compacted",
    "Conflict",
    "Event",
    "History",
    "Migrations",
    "Page",
    "Problem",
    "Report",
    "Retention",
    "Snapshot",
    "StateManager",
    "Step",
    "Synced",
    "Version",
]
