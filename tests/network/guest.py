"""A process whose network is its own loopback: it makes the sockets, hands them over, and runs code on request.

Run with the number of a connected socket. It is what a guest is on the network's side, without the other walls.
"""

import array
import contextlib
import io
import json
import socket
import sys
import traceback

channel = socket.socket(fileno=int(sys.argv[1]))
ports = json.loads(sys.argv[2])
sys.path[:0] = json.loads(sys.argv[3])

from dspex._kernel import namespaces, network  # noqa: E402  (the path was given just now)


def listeners():
    for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
        for port in (53,) if kind == socket.SOCK_DGRAM else (53, *ports):
            made = socket.socket(socket.AF_INET6, kind)
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            made.bind(("::", port))
            if kind == socket.SOCK_STREAM:
                made.listen(1024)
            yield made


try:
    namespaces.unshare(namespaces.USER | namespaces.NETWORK)
except OSError as error:
    channel.sendall(str(error).encode())
    sys.exit()
network.loopback_up()
network.everything_is_local()
made = list(listeners())
descriptors = array.array("i", [one.fileno() for one in made])
channel.sendmsg([b"ready"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, descriptors)])
for one in made:
    one.close()

scope = {}
for line in channel.makefile("r"):
    printed = io.StringIO()
    try:
        with contextlib.redirect_stdout(printed):
            exec(json.loads(line), scope)
    except BaseException:
        printed.write(traceback.format_exc())
    channel.sendall((json.dumps(printed.getvalue()) + "\n").encode())
