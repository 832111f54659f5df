"""The script that the host execs: a few lines, for a script is compiled anew each time, what it imports is not."""

import os
import sys

# The directory that holds the dspex package; the zygote takes it away again before any program runs.
sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))

from dspex._sandbox.zygote import main

main(int(sys.argv[1]), sys.argv[2])
