"""Others that run Python, as far as they are installed here; each timed for one fresh `1+1`."""

from __future__ import annotations

import concurrent.futures
import contextlib
import io
import multiprocessing
import os
import shutil
import subprocess
import sys
import time


def _timed(action):
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def _bubblewrap():
    prefix = sys.base_prefix
    command = [
        "bwrap",
        "--unshare-all",
        "--die-with-parent",
        "--ro-bind",
        "/usr",
        "/usr",
        "--symlink",
        "usr/lib",
        "/lib",
    ]
    command += ["--symlink", "usr/lib64", "/lib64", "--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp"]
    command += [] if prefix == "/usr" else ["--ro-bind", prefix, prefix]
    command += [os.path.realpath(sys.executable), "-I", "-S", "-c", "1+1"]
    return lambda: _timed(lambda: subprocess.run(command, check=True))


def _monty():
    import pydantic_monty

    pool = pydantic_monty.Monty()
    pool.__enter__()

    def once():
        with pool.checkout() as session:
            session.feed_run("1+1")

    return lambda: _timed(once)


def _smolagents():
    from smolagents.local_python_executor import LocalPythonExecutor

    return lambda: _timed(lambda: LocalPythonExecutor([])("1+1"))


def _sandlock():
    import sandlock

    readable = ["/usr", "/lib", "/lib64", "/etc", sys.base_prefix, sys.prefix]
    command = [os.path.realpath(sys.executable), "-I", "-S", "-c", "1+1"]
    return lambda: _timed(lambda: sandlock.Sandbox(fs_readable=readable).run(command))  # one runs one program at a time


def available():
    """A function for each peer that is installed here, by name; it runs `1+1` afresh once and returns the seconds."""
    found = {}
    if shutil.which("bwrap"):
        found["bubblewrap with python -I -S"] = _bubblewrap()
    for name, make in (
        ("pydantic-monty (a subset of Python, a worker of its pool)", _monty),
        ("smolagents' local executor (an interpreter in Python, no isolation)", _smolagents),
        ("sandlock", _sandlock),
    ):
        try:
            once = make()
            once()
        except Exception as error:  # whatever ails a peer, the others are still to be measured
            print(f"{name}: left out: {type(error).__name__}: {error}", file=sys.stderr)
        else:
            found[name] = once
    return found


# --- HumanEval's programs -------------------------------------------------------------------------------------------


def _program(problem):
    check = f"check({problem['entry_point']})"
    return f"{problem['prompt']}{problem['canonical_solution']}\n{problem['test']}\n{check}"


def _execute(program, result):
    with contextlib.redirect_stdout(io.StringIO()):
        exec(program, {})
    result.append("passed")


def _one(problem):
    """As human-eval does it: a process and a manager's list for each program."""
    manager = multiprocessing.get_context("fork").Manager()
    result = manager.list()
    process = multiprocessing.get_context("fork").Process(target=_execute, args=(_program(problem), result))
    process.start()
    process.join(timeout=4.0)
    return bool(result)


def human_eval(problems):
    """Seconds for all reference solutions the way human-eval executes them: 4 threads, a process each, no isolation."""
    started = time.perf_counter()
    with concurrent.futures.ThreadPoolExecutor(4) as threads:
        assert all(threads.map(_one, problems))
    return time.perf_counter() - started


def serial_forks(problems):
    """Seconds for all reference solutions in bare forks, one after the other."""
    started = time.perf_counter()
    for problem in problems:
        pid = os.fork()
        if pid == 0:
            _execute(_program(problem), [])
            os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0
    return time.perf_counter() - started
