"""Runs jobs as one kind of host: reads them as JSON lines, prints each result as a JSON line.

    python driver.py < jobs

A job is {"name", "codes", "pair" or "branches" (two programs in two branches of a session, after "before"; while they run, "mine"
runs in the session itself, and it is copied as often as "copies" says), and any of "without", "policy", "limits", "timeout",
"outside" (there are hosts that a policy's network may name), "unchecked" (what the host's side shall not check there)}. One process
serves all jobs of a host; there is one executor for each (without, policy, limits).
The caller has made this process what it shall be.
"""

from __future__ import annotations

import json
import sys
import time

_WORLDS = []  # one, made for the first job that asks for it


def _executor(job, made):
    from dspex import CodeExecutor, Isolation, ResourceLimits, SecurityPolicy

    key = json.dumps([job.get("without"), job.get("policy"), job.get("limits")])
    if key not in made:
        made[key] = CodeExecutor(
            policy=SecurityPolicy(**job.get("policy", {})),
            limits=ResourceLimits(**job.get("limits", {})),
            isolation=Isolation(None, frozenset(job.get("without", ()))),
        )
    return made[key]


def _run(job, made):
    if job.get("outside") and not _WORLDS:
        from escapes.outside import World

        _WORLDS.append(World())
    executor = _executor(job, made)
    if "branches" in job:
        results = _in_branches(executor, job)
    elif "pair" in job:  # two guests at work at the same time
        first, second = (executor.submit(code, timeout=job.get("timeout", 5.0)) for code in job["pair"])
        results = [first.result(), second.result()]
    else:
        results = [executor.execute(code, timeout=job.get("timeout", 5.0)) for code in job["codes"]]
    last = results[-1]
    return {
        "name": job["name"],
        "value": last.value if not isinstance(last.value, bytes) else last.value.decode("latin-1"),
        "repr": last.value_repr,
        "kind": last.error.kind if last.error else None,
        "type": last.error.type if last.error else None,
        "message": last.error.message if last.error else None,
        "memory": last.usage.peak_memory,
        "level": last.isolation.level,
        "layers": last.isolation.layers,
        "forbidden": [address for world in _WORLDS for address in world.forbidden],
        "afterwards": executor.execute("40 + 2").value,
    }


def _unchecked(job, made):
    from escapes.outside import without

    with without(job["unchecked"]):
        return _run(job, made)


def _in_branches(executor, job):
    """The attacker's result last; its sibling's value tells whether it was harmed."""
    from concurrent.futures import ThreadPoolExecutor

    with executor.session() as session, ThreadPoolExecutor(2) as threads:
        session.execute(job.get("before", "pass")).unwrap()
        siblings = session.fork(2)
        runs = [
            threads.submit(branch.execute, code, timeout=job.get("timeout", 5.0))
            for branch, code in zip(siblings, job["branches"], strict=True)
        ]
        if "copies" in job:
            session.execute(job["mine"]).unwrap()
            time.sleep(0.7)  # until the attack is under way
            for branch in session.fork(job["copies"]):
                branch.close()
        results = [run.result() for run in runs]
        alive = session.execute("'parent lives'").value
    assert alive == "parent lives", alive
    if results[1].value != "unharmed":  # whoever it is told by
        return [results[1]]
    return results[:1]


def main():
    made = {}
    for line in sys.stdin:
        job = json.loads(line)
        try:
            answer = _unchecked(job, made) if "unchecked" in job else _run(job, made)
        except Exception as error:  # told to the test, which fails
            answer = {"name": job["name"], "raised": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer, default=repr), flush=True)
    for executor in made.values():
        executor.close()


if __name__ == "__main__":
    main()
