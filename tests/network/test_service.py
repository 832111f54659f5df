"""The network of a guest end to end: real namespaces, real clients, real servers."""

import base64
import os
import socket
import subprocess
import sys
import threading

import pytest

from dspex._network._authority import Authority
from dspex._sandbox.network import Host
from internet import PUBLIC, VALUE, read_request

API = "api.example.com"
SECRETS = {"KEY": (VALUE, [API])}


# --- What is allowed works -------------------------------------------------------------------------------------------


def test_plain_client_reaches_an_allowed_name(world):
    """urllib, knowing of no proxy, gets the answer of the server."""
    server = world.server()
    guest = world.guest([f"{API}:80"])
    shown = guest.run(f"print(get('http://{API}/path?q=1'))")
    assert "200" in shown
    assert "GET /path?q=1 HTTP/1.1" in shown
    assert len(server.seen) == 1


@pytest.mark.parametrize("client", ["requests", "httpx"])
@pytest.mark.parametrize("secrets", [None, SECRETS])
def test_other_clients_work_unchanged(world, client, secrets, tmp_path):
    """requests and httpx reach the host over TLS, with a secret and without, and keep the connection."""
    pytest.importorskip(client)
    world.server(name=API, port=443)
    guest = world.guest([f"{API}:443"], secrets)
    bundle = tmp_path / "ca.pem"
    code = f"open({str(bundle)!r}, 'w').write(ca); import {client}\n"
    if client == "requests":
        code += f"client = requests.Session(); client.trust_env = False; client.verify = {str(bundle)!r}\n"
    else:
        code += "client = httpx.Client(verify=context)\n"
    code += (
        f"for n in range(3): print(client.post('https://{API}/' + str(n), json={{'n': n}}).status_code)\nclient.close()"
    )
    assert guest.run(code).split() == ["200"] * 3
    assert len(guest.handle.log().attempts) >= 1


def test_tls_without_secrets_is_end_to_end(world):
    """Without secrets the client meets the server's own certificate."""
    world.server(name=API, port=443)
    guest = world.guest([f"{API}:443"])
    assert "GET / HTTP/1.1" in guest.run(f"print(get('https://{API}/'))")
    assert guest.handle.ca_pem == ""


def test_an_address_can_be_an_entry(world):
    """An address that is named is reached by its number, without a name."""
    world.server()
    guest = world.guest([f"{PUBLIC}:80"])
    assert "200" in guest.run(f"print(get('http://{PUBLIC}/'))")


def test_private_addresses_need_the_word(world):
    """A name that leads to a private address is refused, and allowed by a private entry."""
    world.connector.names["db.internal"] = ["10.1.2.3"]
    world.server(address="10.1.2.3")
    guest = world.guest(["db.internal:80"])
    assert "private=True" in guest.run("print(get('http://db.internal/'))")
    guest = world.guest([Host("*.internal:80", private=True)])
    assert "200" in guest.run("print(get('http://db.internal/'))")


def test_other_protocols_pass_as_they_are(world):
    """Bytes that are neither TLS nor HTTP reach a named port untouched, binary ones too."""

    def shout(server, connection):
        connection.sendall(connection.recv(100)[::-1])

    world.server(shout, port=5432)
    guest = world.guest([f"{API}:5432"])
    assert guest.run(f"print(say('{API}', 5432, b'\\0\\0\\0\\x08abc'))").strip() == r"b'cba\x08\x00\x00\x00'"


def test_a_server_may_speak_first(world):
    """Where the client waits, the greeting of the server arrives, and what follows passes both ways."""

    def greet(server, connection):
        connection.sendall(b"220 hello\r\n")
        connection.sendall(connection.recv(100))

    world.server(greet, port=25)
    guest = world.guest([f"{API}:25"])
    code = f"c = dial('{API}', 25); print(c.recv(100)); c.sendall(b'HELO x'); print(c.recv(100)); c.close()"
    assert guest.run(code).split("\n")[:2] == [r"b'220 hello\r\n'", "b'HELO x'"]


def test_a_name_keeps_its_address(world):
    """Names are answered out of the pool, the same each time; IPv6 has none."""
    guest = world.guest([f"{API}:80", "*.example.com:80"])
    code = "for n in ('api', 'b', 'api'): print(socket.getaddrinfo(n + '.example.com', 80, type=1)[0][4][0])"
    assert guest.run(code).split() == ["198.18.0.1", "198.18.0.2", "198.18.0.1"]


def test_chunked_requests_and_answers_pass(world):
    """A body whose length is not told goes through in both directions."""

    def chunks(server, connection):
        server.seen.append(read_request(connection))
        connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n")

    server = world.server(chunks)
    guest = world.guest([f"{API}:80"])
    code = f"print(get('http://{API}/', {{'Transfer-Encoding': 'chunked'}}, iter([b'one', b'two'])))"
    assert "(200, 'hello')" in guest.run(code)
    assert b"one" in server.seen[0]


# --- What is not allowed fails, and says so --------------------------------------------------------------------------


def test_other_names_do_not_exist(world):
    """A name that no entry stands for has no address, and the log tells what to add."""
    guest = world.guest([f"{API}:80"])
    assert "gaierror" in guest.run("socket.getaddrinfo('evil.test', 80)")
    [attempt] = {attempt.reason for attempt in guest.handle.log().refused if attempt.name == "evil.test"}
    assert 'add "evil.test:443" to SecurityPolicy(network=[...])' in attempt


def test_the_bare_name_is_not_under_its_wildcard(world):
    """`*.example.com` is not `example.com`."""
    guest = world.guest(["*.example.com:80"])
    assert "gaierror" in guest.run("socket.getaddrinfo('example.com', 80)")


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "169.254.169.254", "[::ffff:127.0.0.1]", "[::1]", "8.8.8.8", "[2606:4700::1111]", "10.0.0.1"],
)
def test_addresses_that_no_entry_names_are_refused(world, address):
    """A connection to a number arrives at us, is answered with 403 and the name of the policy, and goes nowhere."""
    guest = world.guest([f"{API}:80"])
    shown = guest.run(f"print(get('http://{address}/'))")
    assert "403" in shown
    assert "SecurityPolicy(network=[...])" in shown
    assert world.connector.connected == []


@pytest.mark.parametrize(
    "leads_to",
    ["127.0.0.1", "169.254.169.254", "::ffff:127.0.0.1", "fe80::1%lo", "100.100.100.200", "0.0.0.0", "64:ff9b::7f00:1"],
)
@pytest.mark.parametrize("private", [False, True])
def test_names_that_lead_to_forbidden_addresses_are_refused(world, leads_to, private):
    """A name whose answer holds one forbidden address is not connected to at all, private or not."""
    world.connector.names["evil.test"] = [PUBLIC, leads_to]
    world.server()
    guest = world.guest([Host("evil.test:80", private=private)])
    shown = guest.run("print(get('http://evil.test/'))")
    assert "403" in shown
    assert "always refused" in shown
    assert world.connector.connected == []


def test_the_hosts_own_addresses_are_refused(world, monkeypatch):
    """An address that the host itself has is refused, although it is a public one."""
    from dspex._network import _outward

    monkeypatch.setattr(_outward, "is_own", lambda address: address == PUBLIC)
    guest = world.guest([f"{API}:80"])
    assert "an address of this host itself" in guest.run(f"print(get('http://{API}/'))")


def test_a_rebinding_name_is_resolved_once(world):
    """A name that answers otherwise the second time is connected to where the first answer was checked."""
    answers = iter([[PUBLIC], ["127.0.0.1"]])
    world.connector.names["evil.test"] = lambda: next(answers)
    world.server()
    guest = world.guest(["evil.test:80"])
    assert "200" in guest.run("print(get('http://evil.test/'))")
    assert world.connector.connected == [(PUBLIC, 80)]
    assert "127.0.0.1 is loopback" in guest.run("print(get('http://evil.test/'))")
    assert world.connector.connected == [(PUBLIC, 80)]


def test_a_redirect_is_checked_like_any_request(world):
    """A redirect to a forbidden host is followed by the client, and refused."""

    def redirect(server, connection):
        read_request(connection)
        connection.sendall(b"HTTP/1.1 302 Found\r\nLocation: http://169.254.169.254/\r\nContent-Length: 0\r\n\r\n")

    world.server(redirect)
    guest = world.guest([f"{API}:80"])
    shown = guest.run(f"print(get('http://{API}/'))")
    assert "403" in shown
    assert "refused this request: 169.254.169.254 is a metadata address" in shown


@pytest.mark.parametrize(
    "request_head",
    [
        "GET / HTTP/1.1\r\nHost: evil.test\r\n\r\n",
        "GET http://evil.test/ HTTP/1.1\r\nHost: api.example.com\r\n\r\n",
        "GET http://api.example.com@evil.test/ HTTP/1.1\r\nHost: api.example.com\r\n\r\n",
        "CONNECT evil.test:443 HTTP/1.1\r\nHost: evil.test:443\r\n\r\n",
        "CONNECT 127.0.0.1:22 HTTP/1.1\r\nHost: api.example.com\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: api.example.com:8080\r\n\r\n",
    ],
)
def test_host_and_target_must_agree_with_the_name(world, request_head):
    """A request for another host than the connection was made to is answered with 403."""
    world.server()
    guest = world.guest([f"{API}:80"])
    shown = guest.run(f"print(say('{API}', 80, {request_head.encode()!r}))")
    assert "HTTP/1.1 403" in shown
    assert "they must agree" in shown
    assert world.connector.connected == []


def test_connect_to_the_host_itself_opens_a_tunnel(world):
    """CONNECT to the same name and port is a tunnel, in which TLS must name that host too."""
    world.server(name=API, port=443)
    guest = world.guest([f"{API}:443"])
    code = """
def tunnel(name):
    c = dial('api.example.com', 443)
    c.sendall(b'CONNECT api.example.com:443 HTTP/1.1\\r\\nHost: api.example.com:443\\r\\n\\r\\n')
    print(c.recv(1000).split(b'\\r\\n')[0])
    try:
        with context.wrap_socket(c, server_hostname=name) as t: print(t.version())
    except OSError as error: print(error)
"""
    assert "TLSv1" in guest.run(f"{code}tunnel('{API}')")
    assert "UNRECOGNIZED_NAME" in guest.run("tunnel('evil.test')").upper()


@pytest.mark.parametrize("secrets", [None, SECRETS])
def test_the_name_in_tls_must_agree(world, secrets):
    """TLS for another name, or for none, on a connection to an allowed name ends in an alert."""
    world.server(name=API, port=443)
    guest = world.guest([f"{API}:443"], secrets)
    code = """
context.check_hostname = False; context.verify_mode = ssl.CERT_NONE
for name in ('evil.test', None):
    try: context.wrap_socket(dial('api.example.com', 443), server_hostname=name)
    except OSError as error: print(error)
"""
    assert guest.run(code).upper().count("UNRECOGNIZED_NAME") == 2
    assert world.connector.connected == []
    assert any("TLS asks for evil.test" in attempt.reason for attempt in guest.handle.log().refused)


def test_tls_to_a_forbidden_address_is_denied(world):
    """TLS to an address that no entry names ends in the alert `access denied`."""
    guest = world.guest([f"{API}:443"])
    code = "try: context.wrap_socket(dial('8.8.8.8', 443), server_hostname='dns.google')\nexcept OSError as e: print(e)"
    assert "ACCESS_DENIED" in guest.run(code).upper().replace(" ", "_")


def test_other_ports_are_refused(world):
    """A port that no entry names is refused where something listens, and by the kernel where nothing does."""
    guest = world.guest([f"{API}:5432"])
    assert "403" in guest.run(f"print(get('http://{API}:80/'))")
    assert "ConnectionRefusedError" in guest.run(f"dial('{API}', 8080)")


def test_upstream_certificates_are_verified(world, internet):
    """Where TLS ends at us, a host that shows the certificate of another is not spoken to."""
    server = world.server(name="evil.test", port=443)
    guest = world.guest([f"{API}:443"], SECRETS)
    shown = guest.run(f"print(get('https://{API}/', {{'Authorization': key}}))")
    assert "502" in shown
    assert "certificate verify failed" in shown
    assert server.seen == []


# --- Secrets ---------------------------------------------------------------------------------------------------------


def test_secret_is_put_in_on_the_way(world):
    """The server gets the value, the guest has seen its placeholder only, and the echo is masked."""
    server = world.server(name=API, port=443)
    guest = world.guest([f"{API}:443"], SECRETS)
    shown = guest.run(f"print(get('https://{API}/', {{'Authorization': 'Bearer ' + key}}))")
    assert b"Bearer " + VALUE.encode() in server.seen[0]
    assert b"accept-encoding: identity" in server.seen[0].lower()
    assert VALUE not in shown
    assert "Bearer " + "*" * len(VALUE) in shown


def test_secret_is_put_into_basic_credentials(world):
    """A placeholder inside base64 of user:password is exchanged as well, and the echo's base64 is masked."""
    server = world.server(name=API, port=443)
    guest = world.guest([f"{API}:443"], SECRETS)
    code = "import base64; basic = 'Basic ' + base64.b64encode(('user:' + key).encode()).decode()\n"
    shown = guest.run(f"{code}print(get('https://{API}/', {{'Authorization': basic}}))")
    encoded = base64.b64encode(f"user:{VALUE}".encode())
    assert b"Basic " + encoded in server.seen[0]
    assert encoded.decode() not in shown
    assert VALUE not in base64.b64decode(shown.split("Basic ")[1].split("\\r")[0].replace("*", "A")).decode("latin-1")


def test_echo_byte_by_byte_is_masked(world):
    """A value, and its base64, that come back one byte at a time and in headers are masked."""
    encoded = base64.b64encode(b"x" + VALUE.encode())

    def drip(server, connection):
        read_request(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\nX-Echo: %s\r\nConnection: close\r\n\r\n" % VALUE.encode())
        for byte in VALUE.encode() + b" " + encoded:
            connection.sendall(bytes([byte]))

    world.server(drip, name=API, port=443)
    guest = world.guest([f"{API}:443"], SECRETS)
    shown = guest.run(f"a = opener.open('https://{API}/'); print(a.headers['X-Echo'], a.read())")
    assert VALUE not in shown
    assert encoded[4:-4].decode() not in shown
    assert shown.startswith("*" * len(VALUE))


def test_compressed_answers_are_refused(world):
    """An answer in which nothing could be found is not passed on from a host with secrets."""

    def compress(server, connection):
        read_request(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc")

    world.server(compress, name=API, port=443)
    guest = world.guest([f"{API}:443"], SECRETS)
    assert "compressed" in guest.run(f"print(get('https://{API}/'))")


def test_answers_are_not_asked_for_in_parts(world):
    """A value cannot be fetched in pieces that are each too short to be known."""
    server = world.server(name=API, port=443)
    guest = world.guest([f"{API}:443"], SECRETS)
    guest.run(f"print(get('https://{API}/', {{'Range': 'bytes=0-3'}}))")
    assert b"range" not in server.seen[0].lower()


def test_placeholder_for_another_host_stays_one(world):
    """To another host the placeholder goes as it is, and the log says so."""
    server = world.server()
    world.server(name=API, port=443)
    guest = world.guest([f"{API}:443", "other.example.com:80"], SECRETS)
    guest.run("get('http://other.example.com/', {'Authorization': key})")
    assert VALUE.encode() not in server.seen[0]
    assert b"dspex-secret-KEY-" in server.seen[0]
    assert any("placeholder of KEY" in attempt.reason for attempt in guest.handle.log().refused)


def test_secret_is_not_sent_in_the_clear(world):
    """Over plain HTTP a request with a placeholder is refused, in Basic credentials too."""
    server = world.server()
    guest = world.guest([API], SECRETS)
    assert "under TLS only" in guest.run(f"print(get('http://{API}/', {{'Authorization': key}}))")
    code = "import base64; basic = 'Basic ' + base64.b64encode(('user:' + key).encode()).decode()\n"
    assert "under TLS only" in guest.run(f"{code}print(get('http://{API}/', {{'Authorization': basic}}))")
    assert server.seen == []


def test_body_and_url_keep_their_placeholders(world):
    """In the body and the URL a placeholder stays one, unless the policy says the body too."""
    server = world.server(name=API, port=443)
    guest = world.guest([f"{API}:443"], SECRETS)
    guest.run(f"get('https://{API}/?k=' + key, data=key.encode())")
    assert VALUE.encode() not in server.seen[0]
    world.body = True
    guest = world.guest([f"{API}:443"], SECRETS)
    guest.run(f"get('https://{API}/', data=b'a=' + key.encode() + b'&b')")
    head, _, body = server.seen[1].partition(b"\r\n\r\n")
    assert body == b"a=" + VALUE.encode() + b"&b"
    assert b"content-length: %d" % len(body) in head.lower()


def test_secret_host_speaks_nothing_unseen(world):
    """To a host with a secret no bytes are passed on that were not understood."""
    world.server(lambda server, connection: connection.sendall(b"hello"), port=5432)
    guest = world.guest([f"{API}:5432"], SECRETS)
    assert "400" in guest.run(f"print(say('{API}', 5432, b'\\0\\0\\0\\x08abcdefgh\\n\\n'))")
    assert world.connector.connected == []


def test_the_guests_authority_is_for_its_hosts_only(world):
    """A guest's authority differs from that of another, and its certificate is bound to the hosts of its secrets."""
    from cryptography import x509

    one, two = world.guest([f"{API}:443"], SECRETS), world.guest([f"{API}:443"], SECRETS)
    assert one.handle.ca_pem != two.handle.ca_pem
    assert one.handle.placeholders != two.handle.placeholders
    certificate = x509.load_pem_x509_certificate(one.handle.ca_pem.encode())
    bounds = certificate.extensions.get_extension_for_class(x509.NameConstraints).value
    assert [name.value for name in bounds.permitted_subtrees] == [API]


# --- Attacks on the service ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (
            "POST / HTTP/1.1\r\nHost: api.example.com\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            400,
        ),
        ("POST / HTTP/1.1\r\nHost: api.example.com\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\nabcde", 400),
        ("POST / HTTP/1.1\r\nHost: api.example.com\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501),
        ("GET / HTTP/1.1\r\nHost: api.example.com\r\nHost: evil.test\r\n\r\n", 400),
        ("GET / HTTP/1.0\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: api.example.com\r\nX: a\rb\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost : api.example.com\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: api.example.com\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n", 403),
        ("GET / HTTP/1.1\r\nHost: api.example.com\r\nX: " + "a" * 300_000 + "\r\n\r\n", 431),
        ("\x01\x02garbage\r\n\r\n", 400),
    ],
)
def test_requests_with_two_meanings_are_refused(world, data, status):
    """What two readers could read in two ways, what is too long, and what is no HTTP, is answered by us and goes nowhere."""
    server = world.server()
    guest = world.guest([f"{API}:80"])
    assert f"HTTP/1.1 {status}" in guest.run(f"print(say('{API}', 80, {data.encode()!r}))")
    assert server.seen == []


def test_pipelined_requests_are_each_checked(world):
    """Of requests that are sent ahead each is served in turn, and a forbidden one ends the connection."""
    server = world.server()
    guest = world.guest([f"{API}:80"])
    good, bad = f"GET /1 HTTP/1.1\r\nHost: {API}\r\n\r\n", "GET /2 HTTP/1.1\r\nHost: evil.test\r\n\r\n"
    shown = guest.run(f"print(say('{API}', 80, {(good * 2 + bad + good).encode()!r}))")
    assert shown.count("HTTP/1.1 200") == 2
    assert shown.count("HTTP/1.1 403") == 1
    assert len(server.seen) == 2


def test_a_slow_head_ends(world):
    """A request or a ClientHello that does not get on is ended."""
    guest = world.guest([API], header_seconds=0.5)
    assert "408" in guest.run(f"print(say('{API}', 80, b'GET / HTTP/1.1\\r\\nHo'))")
    guest.run(f"print(say('{API}', 443, b'\\x16\\x03\\x01\\x02'))")
    assert "broke off" in guest.handle.log().attempts[-1].reason


@pytest.mark.parametrize("secrets", [None, SECRETS])
def test_garbage_tls_is_refused(world, secrets):
    """Bytes that begin as TLS and are none reach nobody."""
    guest = world.guest([f"{API}:443"], secrets)
    for data in (
        b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\xff" + os.urandom(300),
        b"\x16\x03\x01\xff\xff" + bytes(70_000),
    ):
        assert "x15\\x03\\x03" in guest.run(f"print(say('{API}', 443, {data!r}))")
    assert world.connector.connected == []


def test_ten_thousand_connections_are_bounded(world):
    """No more than the bound are held at once, the others are reset, and the service goes on."""
    world.server()
    guest = world.guest([f"{API}:80"], connections=8)
    code = """
import resource, errno
held = []; failed = 0
for n in range(10_000):
    try:
        c = socket.create_connection(('198.18.0.9', 80), timeout=5)
        held.append(c)
    except OSError: failed += 1
    if len(held) > 500:
        for c in held[8:]: c.close()
        del held[8:]
for c in held: c.close()
"""
    assert guest.run(code) == ""
    refused = [attempt for attempt in guest.handle.log().refused if "at most 8 connections" in attempt.reason]
    assert refused
    assert guest.handle.log().dropped > 1000
    assert "200" in guest.run(f"import time; time.sleep(0.3); print(get('http://{API}/'))")


def test_huge_and_odd_dns_is_no_answer(world):
    """Messages that are too long or no query are not answered; over TCP the connection ends."""
    guest = world.guest([f"{API}:80"])
    code = """
u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); u.settimeout(0.2); u.connect(('9.9.9.9', 53))
for data in (b'', b'x', bytes(12), b'\\x00\\x01\\x01\\x00\\x00\\x01' + bytes(6) + b'\\xc0\\x0c\\x00\\x01\\x00\\x01', bytes(60_000)):
    u.send(data)
    try: print(u.recv(1000))
    except TimeoutError: pass
print(say('9.9.9.9', 53, b'\\xff\\xff' + bytes(100)))
q = b'\\x00\\x07\\x01\\x00\\x00\\x01' + bytes(6) + b'\\x03api\\x07example\\x03com\\x00\\x00\\x01\\x00\\x01'
t = dial('9.9.9.9', 53); t.sendall(len(q).to_bytes(2, 'big') + q); print(t.recv(1000)[-4:])
"""
    first, second = guest.run(code).strip().split("\n")
    assert first in ("b''", "b'ConnectionResetError'")
    assert second == repr(socket.inet_aton("198.18.0.1"))


def test_header_injection_by_placeholder_is_refused(world):
    """A line end beside a placeholder makes no second header."""
    server = world.server(name=API, port=443)
    guest = world.guest([f"{API}:443"], SECRETS)
    code = f"""
with context.wrap_socket(dial('{API}', 443), server_hostname='{API}') as t:
    t.sendall(b'GET / HTTP/1.1\\r\\nHost: {API}\\r\\nX: ' + key.encode() + b'\\rY: 1\\r\\n\\r\\n'); print(t.recv(1000))
"""
    assert "HTTP/1.1 400" in guest.run(code)
    assert server.seen == []


def test_names_that_are_none_are_not_under_a_wildcard(world):
    """A label of DNS may hold any bytes: no resolver is asked for an address with a space behind it, or a zero."""
    guest = world.guest(["*.example.com:5432"])
    for label in (b"127.0.0.1\0x", b"8.8.8.8 ", b"a/b", b"\xff\xfe", b"x..y", b"-x"):
        query = b"\0\1\1\0\0\1" + bytes(6) + bytes([len(label)]) + label + b"\7example\3com\0\0\1\0\1"
        code = f"q = {query!r}\nt = dial('9.9.9.9', 53); t.sendall(len(q).to_bytes(2, 'big') + q); print(t.recv(999)[5] & 15)"
        assert guest.run(code) == "3\n"
    assert all(attempt.reason == "is no host name" for attempt in guest.handle.log().attempts)


def test_what_a_guest_sends_makes_no_long_record(world):
    """A name in TLS may be of 60,000 characters; a thousand of them are not kept for the log."""
    name = b"a" * 60_000
    names = len(name).to_bytes(2) + name
    extension = b"\0\0" + (len(names) + 3).to_bytes(2) + (len(names) + 1).to_bytes(2) + b"\0" + names
    hello = b"\3\3" + bytes(33) + b"\0\2\x13\1\1\0" + len(extension).to_bytes(2) + extension
    message = b"\1" + len(hello).to_bytes(3) + hello
    pieces = [message[place : place + 16_000] for place in range(0, len(message), 16_000)]
    data = b"".join(b"\x16\3\1" + len(piece).to_bytes(2) + piece for piece in pieces)
    guest = world.guest([f"{API}:443"])
    assert "x15\\x03" in guest.run(f"print(say('{API}', 443, {data!r}))")
    [refused] = guest.handle.log().refused
    assert refused.reason.startswith("TLS asks for aaa")
    assert len(refused.reason) <= 1000


def test_a_body_of_placeholders_does_not_grow_without_bound(world):
    """Each placeholder may stand for 8,000 characters: the host counts before it exchanges."""
    server = world.server(name=API, port=443)
    world.body = True
    guest = world.guest([f"{API}:443"], {"KEY": ("".join(map(str, range(2000))), [API])})
    assert "(413" in guest.run(f"print(get('https://{API}/', data=key.encode() * 2000))")
    assert "(431" in guest.run(f"print(get('https://{API}/', {{'X': key * 30}}))")
    assert server.seen == []
    assert guest.handle._guest.held == 0
    assert "(200" in guest.run(f"print(get('https://{API}/', data=key.encode() * 20))")


def test_bodies_of_many_requests_are_bounded_together(world):
    """What is held of bodies until they are sent is bounded for one guest, and given back."""
    world.server(name=API, port=443)
    world.body = True
    guest = world.guest([f"{API}:443"], SECRETS)
    code = f"""
open_ones = []
for n in range(8):
    t = context.wrap_socket(dial('{API}', 443), server_hostname='{API}')
    t.sendall(b'POST / HTTP/1.1\\r\\nHost: {API}\\r\\nContent-Length: 8000000\\r\\n\\r\\n')
    try: t.sendall(bytes(7_900_000))
    except OSError: t.close()
    open_ones.append(t)
"""
    assert guest.run(code) == ""
    assert any("all bodies at once" in attempt.reason for attempt in guest.handle.log().refused)
    assert guest.handle._guest.held <= 32 * 2**20
    guest.run("for t in open_ones: t.close()")
    assert "(200" in guest.run(f"print(get('https://{API}/', data=b'x'))")


def test_every_coding_of_an_answer_is_looked_at(world):
    """That the last of two headers names none does not make it uncompressed."""

    def compress(server, connection):
        read_request(connection)
        head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Encoding: identity\r\nContent-Length: 3\r\n\r\n"
        connection.sendall(head + b"abc")

    world.server(compress, name=API, port=443)
    guest = world.guest([f"{API}:443"], SECRETS)
    assert "compressed" in guest.run(f"print(get('https://{API}/'))")


def test_an_answer_that_cannot_be_passed_on_is_recorded(world):
    """As one whose length is a secret, and masked: the connection ends, and the log says why."""

    def answer(server, connection):
        read_request(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 12345678\r\n\r\nabc")

    world.server(answer, name=API, port=443)
    guest = world.guest([f"{API}:443"], {"KEY": ("12345678", [API])})
    assert "RemoteDisconnected" in guest.run(f"print(get('https://{API}/'))")
    assert "cannot be passed on" in guest.handle.log().attempts[-1].reason


# --- The service itself ----------------------------------------------------------------------------------------------


def test_log_counts_bytes_and_names_the_address(world):
    """A connection's record tells where it went and how much passed."""
    world.server(lambda server, connection: connection.sendall(b"answer" if connection.recv(10) else b""), port=5432)
    guest = world.guest([f"{API}:5432"])
    guest.run(f"say('{API}', 5432, b'\\0\\0ask')")
    guest.handle.close()
    [attempt] = [attempt for attempt in guest.handle.log().attempts if attempt.kind == "connection"]
    assert (attempt.name, attempt.address, attempt.port) == (API, PUBLIC, 5432)
    assert (attempt.outcome, attempt.bytes_out, attempt.bytes_in) == ("allowed", 5, 6)


def test_close_ends_all_connections(world):
    """Closing a guest's network ends what it holds at once; closing twice is no error."""
    world.server(lambda server, connection: connection.recv(10) and connection.recv(10), port=5432)
    guest = world.guest([f"{API}:5432"])
    guest.run(f"c = dial('{API}', 5432); c.sendall(b'\\0\\0\\0'); c.settimeout(10)")
    guest.handle.close()
    guest.handle.close()
    shown = guest.run("print(c.recv(10))")
    assert shown.strip() == "b''" or "ConnectionResetError" in shown
    assert "ConnectionRefusedError" in guest.run("dial('198.18.0.1', 80)")


def test_one_thread_serves_all_guests(world):
    """Two guests of one service share one thread."""
    guests = [world.guest([f"{API}:80"])]
    before = threading.active_count()
    world.server()
    from .conftest import GuestProcess

    other = GuestProcess()
    handle = world.service.serve(guests[0].handle._guest.rules, other.sockets)
    names = [thread.name for thread in threading.enumerate() if thread.name == "dspex-network"]
    assert threading.active_count() <= before + 1  # the server of the test
    assert names
    handle.close()
    other.close()


def test_guests_together_leave_descriptors_to_the_host(world, monkeypatch):
    """Where all have many connections each has its share, and a guest that comes late gets one too."""
    from .conftest import GuestProcess

    monkeypatch.setattr("resource.getrlimit", lambda which: (128, 128))  # 16 connections together
    world.server(lambda server, connection: connection.recv(10), port=5432)
    greedy, late = world.guest([f"{API}:5432"]), GuestProcess()
    handle = world.service.serve(greedy.handle._guest.rules, late.sockets)
    code = f"import socket; a = [socket.create_connection(('{API}', 5432)) for n in range(40)]"
    greedy.run(code)
    late.run(code.replace(API, "198.18.0.1"))
    late.run("import time; time.sleep(0.2)")
    try:
        assert (greedy.handle.connections, handle.connections) == (16, 8)
        assert any("at most 8 connections" in attempt.reason for attempt in greedy.handle.log().refused)
    finally:
        handle.close()
        late.close()


def test_a_forked_child_lets_go(world):
    """In a forked child the sockets of guests are closed, and its own service starts anew."""
    world.server()
    guest = world.guest([f"{API}:80"])
    child = os.fork()
    if child == 0:
        closed = all(sock.fileno() == -1 for sock in guest.sockets)
        os._exit(0 if closed and world.service._loop is None else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert "200" in guest.run(f"print(get('http://{API}/'))")


def test_missing_libraries_are_named():
    """Without the extra a network is a PolicyError that says what to install."""
    code = (
        "import sys; sys.modules['h11'] = None\nfrom dspex._network import guest_network\n"
        "try: guest_network()\nexcept ValueError as error: print(type(error).__name__, error)"
    )
    script = f"import sys; sys.path[:0] = {sys.path!r}\n{code}"
    ran = subprocess.run([sys.executable, "-I", "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert ran.stdout.strip() == "PolicyError network: needs h11; install it with: pip install 'dspex[network]'"


def test_rules_are_light():
    """What a policy needs of the network imports none of its libraries."""
    code = "from dspex._sandbox.network import NetworkRules; NetworkRules.of(['a.test:443'])"
    script = f"import sys; sys.path[:0] = {sys.path!r}\n{code}\nprint(*sys.modules)"
    ran = subprocess.run([sys.executable, "-I", "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert not {"h11", "cryptography", "asyncio", "ssl", "socket"} & set(ran.stdout.split())


def test_contexts_of_an_authority_are_bounded():
    """A guest may name as many hosts under a wildcard as it likes; those that were asked for last are kept."""
    authority = Authority(["*.example.com"])
    for number in range(70):
        authority.context(f"n{number}.example.com")
    assert len(authority._contexts) == 64
    assert "n69.example.com" in authority._contexts
