"""`python -m dspex`: the same as the command `dspex`."""

from __future__ import annotations

from dspex._cli import main

if __name__ == "__main__":
    main()
