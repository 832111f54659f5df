from fractions import Fraction
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dspex.errors import UsageError
from dspex.evaluation import Score, pass_at_k


def _counted(samples, correct, k):
    """By counting every choice of k samples."""
    choices = list(combinations([True] * correct + [False] * (samples - correct), k))
    return float(Fraction(sum(map(any, choices)), len(choices)))


@given(st.data())
def test_the_estimate_is_the_share_of_choices(data):
    """pass@k is exactly the share of all choices of k samples in which one is correct."""
    samples = data.draw(st.integers(1, 9))
    correct, k = data.draw(st.integers(0, samples)), data.draw(st.integers(1, samples))
    assert pass_at_k(samples, correct, k) == _counted(samples, correct, k)


@given(st.integers(1, 300), st.data())
def test_the_estimate_is_that_of_the_paper(samples, data):
    """It agrees with the product that the paper's program computes."""
    correct, k = data.draw(st.integers(0, samples)), data.draw(st.integers(1, samples))
    product = 1.0
    for i in range(samples - correct + 1, samples + 1):
        product *= 1.0 - k / i
    expected = 1.0 if samples - correct < k else 1.0 - product
    assert pass_at_k(samples, correct, k) == pytest.approx(expected, abs=1e-12)


def test_large_numbers_lose_no_digit():
    """One correct sample of very many gives k / n, to the last digit."""
    assert pass_at_k(10**12, 1, 100) == 1e-10
    assert pass_at_k(100_000, 1, 50_000) == 0.5


@pytest.mark.parametrize(("samples", "correct", "k"), [(5, 1, 6), (5, 6, 1), (5, -1, 1), (5, 1, 0), (0, 0, 1)])
def test_what_cannot_be_estimated(samples, correct, k):
    """Numbers that make no sense are refused."""
    with pytest.raises(UsageError, match="cannot be estimated"):
        pass_at_k(samples, correct, k)


def test_a_score_is_the_mean_over_tasks():
    """Tasks count alike, however many samples they have; a k beyond the fewest is left out with the reason."""
    score = Score()
    for task, result in [("a", "passed"), ("a", "failed: x"), ("a", "timed out"), ("b", "failed: "), ("b", "passed")]:
        score.add(task, result)
    estimates, left_out = score.estimates([3, 1, 2, 2])
    assert estimates == {1: pytest.approx((1 / 3 + 1 / 2) / 2), 2: pytest.approx((2 / 3 + 1) / 2)}
    assert left_out == {3: "b has 2 samples"}
    assert (score.tasks, score.samples, score.passed) == (2, 5, 2)
    assert score.results == {"passed": 2, "failed": 2, "timed out": 1}
