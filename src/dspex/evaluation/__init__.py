"""Judging generated programs in HumanEval's file formats: problems and samples in, verdicts and pass@k out.

       evaluate                  one call, as `dspex eval` makes it
          ├── _problems, _samples    what to judge; read from JSON lines by _lines
          ├── _judge                 samples to verdicts, each program in a fresh sandbox
          ├── _results               the results file, which a stopped call goes on with
          └── _score                 pass@k

Formats and estimator: Chen et al., "Evaluating Large Language Models Trained on Code", 2021 (arXiv 2107.03374).
"""

from __future__ import annotations

from dspex.evaluation._evaluate import Report, evaluate
from dspex.evaluation._judge import Verdict, judge
from dspex.evaluation._problems import Problem, Problems, read_problems
from dspex.evaluation._samples import Sample, canonical_samples, read_samples
from dspex.evaluation._score import Score, pass_at_k

__all__ = [
    "Problem",
    "Problems",
    "Report",
    "Sample",
    "Score",
    "Verdict",
    "canonical_samples",
    "evaluate",
    "judge",
    "pass_at_k",
    "read_problems",
    "read_samples",
]
