"""One confined process: what it may do, how it is walled in, how it is started, how it is spoken to.

Theory of operation. Four kinds of process take part.

    host        the caller's; trusted; holds the pool
    launcher    exec'd by the host, empty environment; stays outside, writes the id maps, waits, dies with the host
    zygote      PID 1 of its namespaces; builds the root file system once, preloads, forks guests ahead of need
    guest       PID 1 of its own PID namespace; confined, then it runs one program (or one session)

Descriptors: the control socket (host and zygote; a guest holds it until its hello, which is before any user code), the
channel (host and one guest), two output files (written by the guest, read by the host), a pidfd (host); listeners in the
network of a guest that has one (made by the guest before it is confined, kept by the host alone).

Threat model: everything that a guest sends or leaves is hostile from its first instruction of user code on. The host
never unpickles, evals, imports or maps what a guest made, and takes no descriptor from it. The zygote and the launcher
run no user code; a preloaded package runs its import there, once, inside the walls but before the last ones.
"""
