"""`dspex state`: the versions of states in a store, one file for each noun.

arguments, as Typer knows them     commands
    ├── looking                    ls, log, show, diff, watch
    ├── names                      tag, branch
    ├── going back                 restore, snapshot
    ├── schemas                    migrate
    └── the store as a whole       verify, gc, sync, bundle
what all use: the store            _opening
              moments, durations   _moments
              lines and JSON       _output
              how far it is        _progress
"""
