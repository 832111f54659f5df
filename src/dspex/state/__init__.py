"""States of programs: what they may hold, their canonical form, and their files. Nothing here runs code from a file.

    write_file · read_file                   a state in a file, replaced as a whole, durable          _files
        └── encode · decode                  bytes, in any format and compression, found by content   _codec
              ├── envelope: version, checksum, migrations                                             _envelope
              ├── formats: JSON, MessagePack, Protocol Buffers, Erlang terms, DSPy's own              formats/
              └── packed form: what every format can carry                                            _packed, _arrays
    canonical · from_canonical · content_id  the same bytes for equal states, everywhere              _canonical
    Stateful · as_stateful                   what has a state, and the adapter to it                  _stateful
    to_plain                                 values of programs to what a state may hold              _plain
"""

from dspex.state._canonical import canonical as canonical
from dspex.state._canonical import content_id as content_id
from dspex.state._canonical import from_canonical as from_canonical
from dspex.state._codec import MAX_SIZE as MAX_SIZE
from dspex.state._codec import decode as decode
from dspex.state._codec import encode as encode
from dspex.state._files import read_file as read_file
from dspex.state._files import replace_file as replace_file
from dspex.state._files import write_file as write_file
from dspex.state._packed import MAX_DEPTH as MAX_DEPTH
from dspex.state._plain import to_plain as to_plain
from dspex.state._stateful import Stateful as Stateful
from dspex.state._stateful import as_stateful as as_stateful

__all__ = [
    "MAX_DEPTH",
    "MAX_SIZE",
    "Stateful",
    "as_stateful",
    "canonical",
    "content_id",
    "decode",
    "encode",
    "from_canonical",
    "read_file",
    "replace_file",
    "to_plain",
    "write_file",
]
