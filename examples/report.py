"""A program such as a model writes: it reads nothing of the host, prints a report, and its last expression is the result."""

import statistics
from collections import Counter
from datetime import date, timedelta

words = [
    "the",
    "quick",
    "brown",
    "fox",
    "jumps",
    "over",
    "the",
    "lazy",
    "dog",
    "while",
    "the",
    "cat",
    "watches",
    "the",
    "dog",
]
counts = Counter(words)
for word, count in counts.most_common(3):
    print(f"{word:>6} {'#' * count}")

start = date(2026, 1, 1)
paydays = [start + timedelta(days=30 * n) for n in range(1, 4)]
print("paydays:", ", ".join(day.isoformat() for day in paydays))

{
    "words": len(words),
    "mean length": round(statistics.mean(map(len, words)), 2),
    "most common": counts.most_common(1)[0],
}
