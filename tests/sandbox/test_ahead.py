"""A zygote that is started before the host has loaded what it needs to speak with it."""

from __future__ import annotations

import os

import leftovers
from dspex import CodeExecutor
from dspex._sandbox import ahead

COMMAND = ahead.command("dspex.languages.guests.python")


def test_the_one_that_was_started_ahead_serves():
    """No other is started, and nothing of it is left."""
    before = set(leftovers.descendants())
    ahead.start(COMMAND)
    _, process = ahead._waiting[COMMAND]
    with CodeExecutor(max_concurrency=1) as executor:
        assert executor.execute("6 * 7").unwrap() == 42
        assert process in leftovers.descendants()
        assert ahead.take(COMMAND) is None
    assert leftovers.becomes_true(lambda: set(leftovers.descendants()) <= before)


def test_one_that_nobody_takes_ends_in_silence(capfd):
    """At the end of its socket, which is that of the host at the latest."""
    ahead.start(COMMAND)
    control, process = ahead.take(COMMAND)
    os.close(control)
    assert os.waitpid(process, 0)[1] == 0
    assert capfd.readouterr() == ("", "")


def test_one_that_has_died_is_told_or_replaced():
    """The executor works, or says what happened: it does not wait."""
    ahead.start(COMMAND)
    _, process = ahead._waiting[COMMAND]
    os.kill(process, 9)
    with CodeExecutor(max_concurrency=1) as executor:
        assert executor.execute("6 * 7").unwrap() == 42
