"""Real guests on a network by policy: plain clients, secrets, the log, sessions and branches, and nothing left behind."""

import contextlib
import os
import signal
import ssl
import threading
import time

import pytest

from dspex import CodeExecutor, Host, Job, ResourceLimits, SecurityPolicy
from dspex._network import _service
from dspex._network._guest import Bounds
from dspex._network._service import GuestNetwork
from dspex.errors import ClosedError, IsolationError, LimitsError, PolicyError, SandboxLostError, SandboxStartError
from internet import PUBLIC, VALUE, Loopback, Server, echo
from leftovers import becomes_true, descendants, descriptors

API = "api.example.com"
NETWORK = (f"{API}:443", f"{API}:80")
SECRETS = {"API_KEY": (VALUE, [API])}
GET = f"import urllib.request\nurllib.request.urlopen('http://{API}/x').read().decode()"


class Internet:
    """The world outside of the guests of one test."""

    def __init__(self, connector):
        self.connector = connector
        self.servers = []

    def server(self, serve=echo, *, context=None, port=80, address=PUBLIC):
        server = Server(serve, context=context)
        self.servers.append(server)
        self.connector.servers[address, port] = server.port
        return server


@pytest.fixture
def world(internet, monkeypatch, tmp_path):
    """The service leads to servers of the test, whose certificates host and guests trust."""
    trusted = tmp_path / "trusted.pem"
    trusted.write_text(internet.pem)
    monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
    world = Internet(Loopback())
    roots = ssl.create_default_context(cadata=internet.pem)
    bounds = Bounds(silent_seconds=0.2, header_seconds=2.0, connect_seconds=5.0)
    monkeypatch.setattr(_service, "_shared", GuestNetwork(connector=world.connector, roots=roots, bounds=bounds))
    world.server()
    world.server(context=internet.context(API), port=443)
    yield world
    for server in world.servers:
        server.close()


@pytest.fixture
def executor(world):
    """One whose guests reach the API."""
    with CodeExecutor(policy=SecurityPolicy(network=NETWORK), max_concurrency=2) as made:
        yield made


@pytest.fixture
def secretive(world):
    """One whose guests reach the API with a secret, and see requests and httpx."""
    policy = SecurityPolicy(network=[*NETWORK, "other.example.com"], secrets=SECRETS, packages=["requests", "httpx"])
    with CodeExecutor(policy=policy, max_concurrency=1) as made:
        yield made


# --- Plain clients ----------------------------------------------------------------------------------------------------

CLIENTS = {
    "urllib": "import os, urllib.request as u\nq = u.Request({url!r}, headers={headers})\nu.urlopen(q).read().decode()",
    "requests": "import os, requests\nrequests.get({url!r}, headers={headers}).text",
    "requests session": (
        "import os, requests\nwith requests.Session() as s:\n"
        "    r = [s.get({url!r}, headers={headers}).text for n in range(3)]\nr[2]"
    ),
    "httpx": "import os, httpx\nhttpx.get({url!r}, headers={headers}).text",
    "httpx async": (
        "import os, httpx\nasync with httpx.AsyncClient() as c:\n    r = await c.get({url!r}, headers={headers})\nr.text"
    ),
}


@pytest.mark.parametrize("client", CLIENTS)
def test_plain_clients_work_unchanged(world, client):
    """Each client gets the server's answer, over HTTP and over TLS end to end, by its own defaults."""
    packages = [] if client == "urllib" else [client.split()[0]]
    with CodeExecutor(policy=SecurityPolicy(network=NETWORK, packages=packages), max_concurrency=1) as executor:
        for scheme in ("http", "https"):
            result = executor.execute(CLIENTS[client].format(url=f"{scheme}://{API}/path", headers="{}"))
            assert "GET /path HTTP/1.1" in result.unwrap()
            assert {attempt.outcome for attempt in result.network} == {"allowed"}


@pytest.mark.parametrize("client", CLIENTS)
def test_clients_send_a_secret_that_they_do_not_have(secretive, world, client):
    """What is a placeholder inside is the value at the server, and masked in its echo."""
    headers = "{'Authorization': 'Bearer ' + os.environ['API_KEY']}"
    shown = secretive.execute(CLIENTS[client].format(url=f"https://{API}/", headers=headers)).unwrap()
    seen = world.servers[1].seen[-1].decode()
    assert f"Bearer {VALUE}" in seen
    assert VALUE not in shown
    assert "Bearer " + "*" * len(VALUE) in shown


def test_large_uploads_pass(executor, world):
    """More than a socket's buffer goes out, from urllib and from asyncio, which would send it by a call that is refused."""
    code = f"""
import asyncio, urllib.request
data = b'x' * 3_000_000
urllib.request.urlopen(urllib.request.Request('http://{API}/', data)).read(10)
reader, writer = await asyncio.open_connection('{API}', 80)
writer.write(b'POST / HTTP/1.1\\r\\nHost: {API}\\r\\nContent-Length: 3000000\\r\\n\\r\\n' + data)
await writer.drain()
answer = await reader.read(15)
writer.close()
answer
"""
    assert executor.execute(code).unwrap() == b"HTTP/1.1 200 OK"
    assert [len(request) > 3_000_000 for request in world.servers[0].seen] == [True, True]


# --- What a guest has, and has not -------------------------------------------------------------------------------------


def test_the_value_is_nowhere_inside(secretive):
    """Neither environment, memory nor files of a guest hold the value; each guest has another placeholder."""
    code = f"""
import os, re
needle = {VALUE[::-1]!r}[::-1].encode()
found = [key for key, value in os.environb.items() if needle in value]
for line in open('/proc/self/maps'):
    start, end = (int(n, 16) for n in line.split()[0].split('-'))
    if 'r' in line.split()[1] and '[v' not in line:
        with open('/proc/self/mem', 'rb', 0) as memory:
            memory.seek(start)
            where = memory.read(end - start)
        found += [line] if where.count(bytes.fromhex({VALUE.encode().hex()!r})) > 3 else []
found, os.environ['API_KEY']
"""
    (found, one), (_, other) = (secretive.execute(code).unwrap() for _ in range(2))
    assert found == []
    assert one != other
    assert VALUE not in one


def test_a_placeholder_for_another_host_stays_one(secretive, world, internet):
    """A request to a host that the secret is not for carries the placeholder, and the log notes it."""
    server = world.server(address=PUBLIC, port=80)
    code = "import os, urllib.request as u\nq = u.Request('http://other.example.com/', headers={'K': os.environ['API_KEY']})"
    code += "\nu.urlopen(q).read().decode()"
    result = secretive.execute(code)
    assert VALUE not in result.unwrap()
    assert VALUE.encode() not in server.seen[0]
    assert any("placeholder" in attempt.reason for attempt in result.network)


def test_a_secret_is_put_into_bodies_on_request_only(world):
    """`secrets_in_body` is what lets a body carry it."""
    code = (
        f"import os, urllib.request as u\nu.urlopen(u.Request('https://{API}/', os.environ['API_KEY'].encode())).read()"
    )
    for in_body in (False, True):
        policy = SecurityPolicy(network=NETWORK, secrets=SECRETS, secrets_in_body=in_body)
        with CodeExecutor(policy=policy, max_concurrency=1) as executor:
            executor.execute(code).unwrap()
        assert (VALUE.encode() in world.servers[1].seen[-1]) == in_body


def test_private_addresses_take_the_word(world):
    """A name in a private network is reached by a private entry, and by no other."""
    world.connector.names["db.internal"] = ["10.1.2.3"]
    world.server(address="10.1.2.3")
    code = "import urllib.request\nurllib.request.urlopen('http://db.internal/').status"
    with CodeExecutor(policy=SecurityPolicy(network=["*.internal:80"]), max_concurrency=1) as executor:
        assert "Forbidden by SecurityPolicy" in executor.execute(code).error.message
    with CodeExecutor(
        policy=SecurityPolicy(network=[Host("*.internal:80", private=True)]), max_concurrency=1
    ) as executor:
        assert executor.execute(code).unwrap() == 200


def test_without_a_network_nothing_of_it_is_there(world):
    """Guests of other policies have no resolver, no certificates and no sockets."""
    code = """
import os, socket
found = [os.path.exists(p) for p in ('/etc/resolv.conf', '/kernel/certificates.pem')], 'SSL_CERT_FILE' in os.environ
try:
    socket.socket()
except PermissionError:
    found += ('no socket',)
found
"""
    with CodeExecutor(max_concurrency=1) as executor:
        assert executor.execute(code).unwrap() == ([False, False], False, "no socket")


# --- Errors and the log -------------------------------------------------------------------------------------------------

REFUSED = {
    "another name": "import socket; socket.getaddrinfo('evil.test', 80)",
    "a name by urllib": "import urllib.request; urllib.request.urlopen('https://evil.test/')",
    "another port": f"import socket; socket.create_connection(('{API}', 8080), 5)",
    "an address": "import urllib.request; urllib.request.urlopen('http://8.8.8.8/')",
    "metadata": "import urllib.request; urllib.request.urlopen('http://169.254.169.254/latest/')",
    "a datagram": "import socket; socket.socket(type=socket.SOCK_DGRAM)",
    "netlink": "import socket; socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)",
    "another host by TLS": (
        f"import socket, ssl\nc = socket.create_connection(('{API}', 443))\n"
        "ssl.create_default_context().wrap_socket(c, server_hostname='evil.test')"
    ),
}


@pytest.mark.parametrize("attempt", REFUSED)
def test_what_is_refused_names_the_policy(executor, attempt):
    """The program's error says what the policy allows, in its message and its traceback."""
    error = executor.execute(REFUSED[attempt]).error
    hint = "SecurityPolicy(network=['api.example.com:443', 'api.example.com:80']) lets this program reach nothing else"
    assert hint in error.message
    assert hint in error.traceback


DOWN = {
    "over TLS": f"import urllib.request; urllib.request.urlopen('https://{API}/')",
    "over HTTP": f"import urllib.request; urllib.request.urlopen('http://{API}/')",
    "over TLS, by requests": f"import requests; requests.get('https://{API}/')",
    "over TLS, by httpx": f"import httpx; httpx.get('https://{API}/')",
}


@pytest.mark.parametrize("attempt", DOWN)
def test_an_allowed_host_that_is_down_is_not_the_policys_doing(world, attempt):
    """The program's error does not blame the policy, and the caller is told why the host was not reached."""
    world.connector.servers.clear()
    policy = SecurityPolicy(network=NETWORK, packages=["requests", "httpx"])
    with CodeExecutor(policy=policy, max_concurrency=1) as executor:
        result = executor.execute(DOWN[attempt])
    assert not result.ok
    assert "SecurityPolicy(network" not in result.error.message
    assert any("cannot be reached" in attempt.reason for attempt in result.network)


RAISED = {
    "requests, a name": "import requests; requests.get('https://evil.test/')",
    "requests, an address": "import requests; requests.get('http://10.0.0.1/').raise_for_status()",
    "httpx, a name": "import httpx; httpx.get('https://evil.test/')",
    "httpx, an address": "import httpx; httpx.get('http://10.0.0.1/').raise_for_status()",
    "asyncio": "import asyncio; await asyncio.open_connection('evil.test', 443)",
}


@pytest.mark.parametrize("client", RAISED)
def test_errors_of_other_clients_name_the_policy_too(secretive, client):
    """However deep the cause lies in a library's own errors."""
    assert "SecurityPolicy(network=['api.example.com:443'," in secretive.execute(RAISED[client]).error.message


def test_a_guest_without_network_is_told_what_to_add():
    """Where the policy names no host, the error of a socket says how one is named."""
    with CodeExecutor(max_concurrency=1) as executor:
        message = executor.execute("import socket; socket.socket()").error.message
        assert "name what it may, as network=['api.example.com:443']" in message
        assert "SecurityPolicy" not in executor.execute("open('/missing')").error.message
        assert "SecurityPolicy" not in executor.execute("import os; os.fork()").error.message
        readonly = "import mmap, os\nmmap.mmap(os.open(os.__file__, os.O_RDONLY), 1)"
        assert "SecurityPolicy" not in executor.execute(readonly).error.message
        broken = "import os\nr, w = os.pipe()\nos.close(r)\nos.write(w, b'x')"
        assert "SecurityPolicy" not in executor.execute(broken).error.message


def test_every_attempt_is_in_its_result(executor):
    """Names, connections and requests, allowed and refused, with bytes and reasons; each result has its own."""
    code = f"import contextlib, urllib.request, urllib.error\nurllib.request.urlopen('http://{API}/').read()\n"
    code += "with contextlib.suppress(urllib.error.URLError):\n    urllib.request.urlopen('http://evil.test/')"
    for _ in range(2):
        result = executor.execute(code)
        kinds = {(attempt.kind, attempt.name, attempt.outcome) for attempt in result.network}
        assert kinds == {("name", API, "allowed"), ("connection", API, "allowed"), ("name", "evil.test", "refused")}
        [connection] = [attempt for attempt in result.network if attempt.kind == "connection"]
        assert (connection.address, connection.port) == (PUBLIC, 80)
        assert connection.bytes_out > 0 < connection.bytes_in
        assert result.network_count == len(result.network)
        assert {entry["name"] for entry in result.to_dict()["network"]} == {API, "evil.test"}
    assert executor.execute("1").network == ()


def test_a_flood_of_attempts_is_bounded(executor):
    """The latest thousand are told, and how many there were."""
    code = "import socket\nfor n in range(600):\n    try: socket.gethostbyname(f'n{n}.evil.test')\n    except OSError: pass"
    result = executor.execute(code)
    assert result.ok
    assert len(result.network) == min(1000, result.network_count)
    assert result.network_count >= 600
    assert result.network[-1].name == "n599.evil.test"


# --- Every way to run ---------------------------------------------------------------------------------------------------


def test_map_streams_and_coroutines_have_it(executor):
    """Results of `map`, `stream`, `submit` and `aexecute` tell of their own attempts."""
    import asyncio

    results = list(executor.map([Job(GET)] * 4))
    results += [list(executor.stream(GET))[-1].result, executor.submit(GET).result()]
    results.append(asyncio.run(executor.aexecute(GET)))
    for result in results:
        assert "GET /x" in result.unwrap()
        assert [attempt.kind for attempt in result.network].count("connection") == 1


def test_a_session_keeps_its_connections(executor, world):
    """A connection lives from call to call; each result tells of what was tried since the one before."""
    with executor.session() as session:
        session.execute(
            f"import http.client\nc = http.client.HTTPConnection('{API}')\nc.request('GET', '/1')\nc.getresponse().read()"
        )
        result = session.execute("c.request('GET', '/2')\nc.getresponse().read()")
        assert [attempt.kind for attempt in result.network] == ["connection"]
        assert result.network[0].bytes_out > 0
        closed = session.execute("c.close()")
        assert len(world.servers[0].seen) == 2
        assert closed.network_count <= 1
        assert session.execute("1").network_count + closed.network_count >= 1


def test_branches_share_the_network_and_no_connection(world):
    """A branch resolves, connects and sends secrets as its session does; what was connected before is ended in it."""
    policy = SecurityPolicy(network=NETWORK, secrets=SECRETS)
    with CodeExecutor(policy=policy, max_concurrency=2) as executor, executor.session() as session:
        session.execute(
            f"import http.client, os\nc = http.client.HTTPConnection('{API}')\nc.request('GET', '/1')\nc.getresponse().read()"
        )
        first, second = session.fork(2)
        assert "Errno 107" in first.execute("c.sock.getpeername()").error.message
        assert session.execute("c.request('GET', '/2')\nc.getresponse().status").unwrap() == 200
        point = session.checkpoint()
        session.restore(point)
        session.close()
        point.close()
        first.close()
        code = f"import urllib.request as u\nu.urlopen(u.Request('https://{API}/', headers={{'K': os.environ['API_KEY']}})).status"
        assert second.execute(code).unwrap() == 200
        assert VALUE.encode() in world.servers[1].seen[-1]


def test_tools_and_files_work_beside_it(executor):
    """A guest on a network calls tools and has files like any other."""
    code = f"open('kept', 'w').write(double(open('given').read()))\n{GET}"
    result = executor.execute(code, tools={"double": lambda text: text * 2}, files={"given": b"ab"})
    assert "GET /x" in result.unwrap()
    assert result.files["kept"].read_bytes() == b"abab"


def test_programs_that_start_others_have_it_too(world):
    """With subprocesses, a child of the program reaches the same."""
    policy = SecurityPolicy(network=NETWORK, subprocesses=True)
    code = "import os\nchild = os.fork()\nif not child:\n    import urllib.request\n"
    code += f"    os._exit(urllib.request.urlopen('http://{API}/').status - 200)\nos.waitpid(child, 0)[1]"
    with CodeExecutor(policy=policy, max_concurrency=1) as executor:
        assert executor.execute(code).unwrap() == 0


# --- What cannot be ------------------------------------------------------------------------------------------------------


def test_the_lower_level_is_refused_with_the_mend():
    """Without namespaces there is no network, and never quietly another."""
    with pytest.raises(PolicyError, match=r"^network: needs isolation level 'namespaces'.*leave isolation out"):
        CodeExecutor(policy=SecurityPolicy(network=NETWORK), isolation="landlock")


def test_secrets_need_room_for_certificates():
    """A limit that could not hold them is told at once."""
    policy = SecurityPolicy(network=NETWORK, secrets=SECRETS)
    with pytest.raises(LimitsError, match=r"^disk: "):
        CodeExecutor(policy=policy, limits=ResourceLimits(disk="1MiB"))


def test_a_host_without_namespaces_says_so(world, monkeypatch):
    """Where the kernel refuses, the error names what a network takes, and how to mend it."""
    from dspex._sandbox import process
    from dspex.execution import _pool

    refused = process.Refused("unshare(user): Operation not permitted")
    monkeypatch.setattr(_pool.process.Zygote, "receive", lambda zygote: refused)
    expected = pytest.raises(IsolationError, match="'namespaces', which a network takes: unshare")
    with CodeExecutor(policy=SecurityPolicy(network=NETWORK)) as executor, expected:
        executor.execute("1")


def test_a_service_that_does_not_answer_is_told(world, monkeypatch):
    """No guest runs without its network, and nobody waits for it."""

    def refuse(service, rules, sockets):
        for listener in sockets:
            listener.close()
        raise ClosedError("the thread does not answer")

    monkeypatch.setattr(GuestNetwork, "serve", refuse)
    expected = pytest.raises(SandboxStartError, match="its network is not served: the thread does not answer")
    with CodeExecutor(policy=SecurityPolicy(network=NETWORK), max_concurrency=1) as executor, expected:
        executor.execute("1")


# --- Nothing is left -----------------------------------------------------------------------------------------------------


def test_nothing_is_left_behind(world):
    """After close there are no descriptors, processes or connections of the guests, and one thread has served them all."""
    with CodeExecutor(policy=SecurityPolicy(network=NETWORK), max_concurrency=1) as executor:
        executor.execute(GET).unwrap()  # starts what stays: the thread, its loop, those that resolve
    before, threads, others = _kinds(), _serving(), {*descendants()}
    with CodeExecutor(policy=SecurityPolicy(network=NETWORK), max_concurrency=2) as executor:
        list(executor.map([GET] * 6))
        with executor.session() as session:
            session.execute(f"import socket\nc = [socket.create_connection(('{API}', 80)) for n in range(5)]")
            branches = session.fork(2)
            executor.execute("import os; os.kill(os.getpid(), 9)")
            assert len(_kinds()) > len(before) + len(branches)
    assert becomes_true(lambda: _kinds() == before)
    assert _serving() == threads
    assert _service._shared._handles == set()
    assert {*descendants()} <= others


def _serving():
    return [thread for thread in threading.enumerate() if thread.name == "dspex-network"]


def _kinds():
    """What is open, without what tells one socket from another."""
    return sorted(what.partition(":")[0] for what in descriptors().values())


@pytest.mark.parametrize("victim", ["guest", "zygote"])
def test_a_killed_process_takes_its_network_along(world, victim):
    """kill -9 of a guest, or of its zygote and launcher, ends its connections; the next guest has a network again."""
    others = {*descendants()}
    policy = SecurityPolicy(network=NETWORK)
    with CodeExecutor(policy=policy, max_concurrency=2) as executor, executor.session() as session:
        session.execute(f"import socket\nc = socket.create_connection(('{API}', 80))")
        for pid in [session._guest.pid] if victim == "guest" else {*descendants()} - others:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(SandboxLostError):  # or a result that tells of the signal
            assert session.execute("1").error.kind == "killed"
        assert becomes_true(lambda: _answered(executor))
    assert becomes_true(lambda: not _service._shared._handles)


def _answered(executor):
    """Whether a request came through; guests of a zygote that has just been killed are still handed out for a moment."""
    with contextlib.suppress(SandboxLostError):
        return executor.execute(GET).ok
    return False


def test_a_forked_host_does_no_harm(executor):
    """A child of the host ends at once and its parent's guests keep their network; the child has guests of its own."""
    with executor.session() as session:
        session.execute("import urllib.request")
        child = os.fork()
        if child == 0:
            try:
                again = executor.execute("40 + 2").value
                os._exit(0 if again == 42 else 1)
            except BaseException:
                os._exit(2)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert "GET /x" in session.execute(GET).unwrap()


def test_two_guests_do_not_share_what_they_hold(world):
    """Each guest has an address table, a placeholder and an authority of its own."""
    policy = SecurityPolicy(network=[*NETWORK, "other.example.com"], secrets=SECRETS)
    with CodeExecutor(policy=policy, max_concurrency=2) as executor:
        code = "import os, socket\nwith open(os.environ['SSL_CERT_FILE']) as file:\n    authority = file.read(800)\n"
        code += "socket.gethostbyname({!r}), os.environ['API_KEY'], authority"
        first, second = (executor.execute(code.format(name)).unwrap() for name in (API, "other.example.com"))
    assert first[0] == second[0] == "198.18.0.1"
    assert first[1] != second[1]
    assert first[2] != second[2]


def test_slow_upstreams_do_not_hold_others(executor, world):
    """While one guest waits for its server, another is served."""
    world.server(lambda server, connection: time.sleep(2), port=80, address="9.9.9.9")
    world.connector.names[API] = iter([["9.9.9.9"], [PUBLIC]]).__next__
    slow = executor.submit(GET, timeout=1.0)
    assert becomes_true(lambda: ("9.9.9.9", 80) in world.connector.connected)
    assert "GET /x" in executor.execute(GET).unwrap()
    assert not slow.done()
    assert slow.result().error.kind == "timeout"
