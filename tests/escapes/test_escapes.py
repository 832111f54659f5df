"""Every attack on every kind of host; and, layer by layer, what would happen without it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest

from escapes.attacks import ATTACKS, Attack
from passage import open_to_all


@pytest.fixture(scope="session")
def targets(tmp_path_factory):
    """A file that anybody may read, one that anybody may write, and a server on loopback."""
    directory = tmp_path_factory.mktemp("host")
    open_to_all(directory)
    secret, target = directory / "secret", directory / "target"
    secret.write_text("secret")
    target.write_text("untouched")
    secret.chmod(0o644)
    target.chmod(0o666)
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield {"secret": str(secret), "target": str(target), "port": server.getsockname()[1]}


def _job(attack: Attack, targets: dict, without: str = "") -> dict:
    def aimed(code: str) -> str:
        for name, value in targets.items():
            code = code.replace("{" + name + "}", str(value))
        return code.replace("{{", "{").replace("}}", "}")

    job = {"name": attack.cannot, "timeout": attack.timeout, "policy": attack.policy, "limits": attack.limits}
    job["without"] = without.split()
    if attack.pair:
        return job | {"pair": [aimed(code) for code in attack.pair]}
    return job | {"codes": [aimed(code) for code in attack.codes or (attack.code,)]}


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.cannot)
def test_attacker_cannot(attack, host, targets):
    """The attack is blocked, bounded or refused, as its table says, and the engine goes on."""
    result = host.run(_job(attack, targets))
    assert "raised" not in result, result
    assert result["level"] == host.level
    assert result["value"] != "ESCAPED", result
    assert not attack.kinds or result["kind"] in attack.kinds, result
    assert attack.type is None or result["type"] == attack.type, result
    assert result["afterwards"] == 42
    assert Path(targets["target"]).read_text() == "untouched"


OPENED = [(a, level, layers) for a in ATTACKS for level, layers in a.opened_by]
HELD = [(a, level, layers) for a in ATTACKS for level, layers in a.still_held]


def _name(value):
    return value.cannot if isinstance(value, Attack) else str(value).replace(" ", "+")


@pytest.mark.parametrize(("attack", "level", "without"), OPENED, ids=_name)
def test_without_its_layers_the_attack_succeeds(attack, level, without, unwalled, targets):
    """The layers named are what stops the attack: left out, it gets through; one that races the keeper, in one of three runs."""
    for _ in range(3):
        result = unwalled(level).run(_job(attack, targets, without))
        Path(targets["target"]).write_text("untouched")
        if result.get("value") == "ESCAPED":
            return
    pytest.fail(f"{result}")
    assert not set(without.split()) & set(result["layers"])


@pytest.mark.parametrize(("attack", "level", "without"), HELD, ids=_name)
def test_without_one_layer_another_holds(attack, level, without, unwalled, targets):
    """Layers are independent: with these left out, the attack is still stopped."""
    result = unwalled(level).run(_job(attack, targets, without))
    assert "raised" not in result, result
    assert result["value"] != "ESCAPED", result


def _running(marker: str) -> list[str]:
    done = subprocess.run(["pgrep", "-f", marker], capture_output=True, text=True, check=False)
    return [pid for pid in done.stdout.split() if int(pid) != os.getpid()]


def _daemon(marker: str) -> str:
    return (
        "import os\nif os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0:\n"
        f"        os.execv('/usr/bin/sleep', ['{marker}', '300'])\n    os._exit(0)\nimport time; time.sleep(0.3)"
    )


def test_a_daemon_cannot_outlive_its_run(host):
    """A process forked twice, in a session of its own, ends with the run that started it."""
    marker = f"dspex-daemon-{os.getpid()}-{host.name}"
    host.run({"name": "daemon", "codes": [_daemon(marker)], "policy": {"subprocesses": True}})
    end = time.monotonic() + 5
    while _running(marker) and time.monotonic() < end:
        time.sleep(0.05)
    assert _running(marker) == []


def test_without_its_namespace_a_daemon_does_outlive_its_run(unwalled):
    """The PID namespace is what ends it."""
    marker = f"dspex-daemon-{os.getpid()}-off"
    job = {"name": "daemon", "codes": [_daemon(marker)], "policy": {"subprocesses": True}, "without": ["pid"]}
    unwalled("namespaces").run(job)
    time.sleep(0.5)
    found = _running(marker)
    for pid in found:
        os.kill(int(pid), signal.SIGKILL)
    assert found != []


def test_a_tree_too_deep_to_remove_is_removed(host):
    """A program that nests thousands of directories neither ends the zygote of others nor leaves anything behind."""
    before = set(Path("/tmp").glob("dspex-*"))
    code = "import os\nfor _ in range(3000):\n    os.mkdir('d')\n    os.chdir('d')"
    result = host.run({"name": "deep", "codes": [code], "limits": {"disk": "63MiB"}})
    assert "raised" not in result, result
    assert result["afterwards"] == 42
    found = [p for d in set(Path("/tmp").glob("dspex-*")) - before for p in d.glob("*/work/d/d")]
    assert found == []
