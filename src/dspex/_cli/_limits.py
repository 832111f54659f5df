"""What the options --policy, --timeout and --memory come to."""

from __future__ import annotations

from dspex import ResourceLimits, SecurityPolicy
from dspex._sandbox.limits import checked_seconds


def confinement(
    policy: str | None, timeout: str | None, memory: str | None, limits: ResourceLimits | None = None
) -> tuple[SecurityPolicy, ResourceLimits]:
    """Policy and limits, from the file or else the given ones. Raises `PolicyError`, `LimitsError`."""
    allowed, limits = SecurityPolicy(), limits or ResourceLimits()
    if policy is not None:
        from dspex._sandbox.policy import load_policy_file

        allowed, limits = load_policy_file(policy)
    changes: dict[str, object] = {}
    if timeout is not None:
        seconds = checked_seconds("--timeout", timeout)
        # CPU time follows, for a program may work all the while; but what a policy file says of it stays.
        changes = {"wall": seconds} if policy else {"wall": seconds, "cpu": seconds}
    if memory is not None:
        changes["memory"] = memory
    return allowed, limits.replace(**changes) if changes else limits
