"""Programs as trees of modules with parameters, that can be found, copied, dumped and loaded.

Module · Predictor · Sequence · Parallel · Ensemble · Fallback    _module, _predictor, _composition
    ├── what is in it, and where       _walk, _paths
    ├── deep copies                    _copy
    ├── state: checked, then all or nothing    _state, _values
    ├── files, whole programs          _files (on dspex.state)
    ├── calls that somebody watches; batches   _calls, _batch
    └── trees and differences to look at       _tree, _diff
Parameter                              a leaf                 _parameter
"""

from dspex.modules._composition import Ensemble as Ensemble
from dspex.modules._composition import Fallback as Fallback
from dspex.modules._composition import Parallel as Parallel
from dspex.modules._composition import Sequence as Sequence
from dspex.modules._diff import Difference as Difference
from dspex.modules._diff import diff as diff
from dspex.modules._files import load as load
from dspex.modules._module import Module as Module
from dspex.modules._parameter import Parameter as Parameter
from dspex.modules._predictor import Predictor as Predictor
from dspex.modules._signature import Field as Field
from dspex.modules._signature import Signature as Signature
from dspex.modules._tree import Tree as Tree
from dspex.modules._tree import described as described

__all__ = [
    "Difference",
    "Ensemble",
    "Fallback",
    "Field",
    "Module",
    "Parallel",
    "Parameter",
    "Predictor",
    "Sequence",
    "Signature",
    "Tree",
    "described",
    "diff",
    "load",
]
