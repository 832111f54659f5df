import json

from command import dspex
from dspex._kernel.probe import probe


def test_the_table_names_every_feature():
    """`dspex doctor` shows each finding, the proof that a program ran, and the level."""
    done = dspex("doctor")
    features = probe()
    assert done.returncode == 0
    assert all(finding.name in done.stdout for finding in features.findings())
    assert f"ran at level {features.level()}" in done.stdout
    assert f"Programs run at isolation level {features.level()}." in done.stdout


def test_what_is_missing_comes_with_its_mend():
    """A feature that is missing has a line of its own with the command that brings it, uncut."""
    lines = dspex("doctor").stdout.splitlines()
    for finding in probe().findings():
        assert finding.ok or f"to mend {finding.name}: {finding.mend}" in lines


def test_json():
    """--json gives the same as data."""
    found = json.loads(dspex("doctor", "--json").stdout)
    assert found["ok"] is True
    assert found["level"] == probe().level()
    assert found["findings"][-1]["name"] == "a program"
    assert set(found["findings"][0]) == {"name", "ok", "detail", "mend"}
