"""One HTTP/1.1 connection of a guest: each request read, checked and written anew, each answer likewise.

Theory of operation: nothing is copied that was not understood. `h11` reads a request into events and writes the events
that we pass on, so the two sides can have no two opinions on where a request ends (request smuggling); a request whose
length is given twice is refused all the same. Requests that were sent ahead wait in the bounded buffer of the
connection until the one before is answered. What belongs to one connection only (RFC 9110 7.6.1) is not passed on, and
so nothing but HTTP can follow on it: an upgrade is refused.

For a host with secrets placeholders become values in the headers of requests, under TLS only. Answers are asked for
whole and uncompressed, since a value in pieces or in a compressed stream would not be seen; a compressed one is refused.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from typing import TYPE_CHECKING, Final

import h11

from dspex._network._masking import Exchange, Mask
from dspex._network._outward import RefusedError, UnreachableError
from dspex._sandbox.network import normal_address, normal_name

if TYPE_CHECKING:
    from dspex._network._guest import Conversation
    from dspex._network._streams import Stream

    Headers = list[tuple[bytes, bytes]]

MOST_HEAD: Final = 65_536
MOST_EXCHANGED_BODY: Final = 8 * 2**20
MOST_HELD: Final = 4 * MOST_EXCHANGED_BODY  # of all bodies that one guest is having exchanged
_LINGER_BYTES: Final = 2**20
_LINGER_SECONDS: Final = 2.0
_AUTHORITY: Final = re.compile(rb"(\[[0-9A-Fa-f:.]+\]|[^\s:@/\[\]]+)(?::([0-9]{1,5}))?")
_ABSOLUTE: Final = re.compile(rb"(https?)://([^/?#]*)(.*)", re.IGNORECASE)
_OF_ONE_CONNECTION: Final = {
    b"connection", b"keep-alive", b"proxy-connection", b"proxy-authenticate", b"proxy-authorization", b"te",
    b"trailer", b"transfer-encoding", b"upgrade", b"expect",
}  # fmt: skip
_PARTS: Final = {b"accept-encoding", b"range", b"if-range"}


class _AnswerError(Exception):
    """The request gets this answer of ours, and the connection ends."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


async def serve(conversation: Conversation, client: Stream, *, secure: bool) -> None:
    """Serve the requests that come over `client`. Raises `RefusedError` after the answer 403, and `OSError`."""
    connection = _Connection(conversation, client, secure)
    while await connection.one_request():
        pass


class _Connection:
    """The two sides of HTTP on one connection of the guest, and one to its target."""

    def __init__(self, conversation: Conversation, client: Stream, secure: bool) -> None:
        self._conversation = conversation
        self._target = conversation.target
        self._bounds = conversation.guest.bounds
        self._stream = client
        self._secure = secure
        self._client = h11.Connection(h11.SERVER, max_incomplete_event_size=MOST_HEAD)
        self._upstream: tuple[Stream, h11.Connection] | None = None
        self._held = 0  # bytes of the body that is being exchanged
        self._exchange = Exchange(conversation.guest.placeholders, self._target.secrets)

    async def one_request(self) -> bool:
        """Serve one request; whether there may be another."""
        try:
            request = await self._request()
            return request is not None and await self._serve(request)
        except h11.RemoteProtocolError as error:
            await self._say(error.error_status_hint, f"dspex refused this request: {error}")
            raise RefusedError(f"malformed HTTP: {error}") from None
        except _AnswerError as answer:
            await self._say(answer.status, f"dspex refused this request: {answer}")
            raise RefusedError(str(answer)) from None
        except RefusedError as error:
            await self._say(403, f"dspex refused this request: {error}")
            raise
        except UnreachableError as error:
            await self._say(502, f"dspex could not pass this request on: {error}")
            raise
        except h11.LocalProtocolError as error:  # as where a length was masked
            raise ConnectionAbortedError(f"the answer cannot be passed on: {error}") from None
        finally:
            self._let_go()

    async def _serve(self, request: h11.Request) -> bool:
        self._check(request)
        if request.method == b"CONNECT":
            await self._tunnel()
            return False
        await self._pass_on(request)
        if self._client.our_state is not h11.DONE or self._client.their_state is not h11.DONE:
            return False
        self._client.start_next_cycle()
        return True

    # --- Reading ---

    async def _request(self) -> h11.Request | None:
        """The head of the next request; None at the end."""
        event = self._client.next_event()
        if event is h11.NEED_DATA:
            async with asyncio.timeout(self._bounds.idle_seconds):
                self._client.receive_data(await self._stream.receive())
        try:
            async with asyncio.timeout(self._bounds.header_seconds):
                event = event if isinstance(event, h11.Request) else await self._next_event()
        except TimeoutError:
            raise _AnswerError(
                408, f"the head of the request took more than {self._bounds.header_seconds:g} s"
            ) from None
        return event if isinstance(event, h11.Request) else None

    async def _next_event(self) -> h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]:
        while (event := self._client.next_event()) is h11.NEED_DATA:
            if self._client.they_are_waiting_for_100_continue:
                await self._send(h11.InformationalResponse(status_code=100, headers=[]))
            self._client.receive_data(await self._stream.receive())
        return event

    # --- Judging ---

    def _check(self, request: h11.Request) -> None:
        """Raises `RefusedError` or `_AnswerError` for a request that may not be passed on."""
        if self._target.entry is None:
            raise RefusedError(self._target.reason)
        names = [name for name, _ in request.headers]
        if b"content-length" in names and b"transfer-encoding" in names:
            raise _AnswerError(400, "its length is given twice, by Content-Length and by Transfer-Encoding")
        if b"upgrade" in names:
            raise _AnswerError(403, "an upgrade to another protocol (as WebSocket) is not offered")
        if names.count(b"host") != 1:
            raise _AnswerError(400, "it needs one Host header")
        for authority in (dict(request.headers)[b"host"], _authority(request)):
            if authority is not None:
                self._check_authority(authority)
        self._check_placeholders(request)

    def _check_authority(self, authority: bytes) -> None:
        match = _AUTHORITY.fullmatch(authority)
        name = _normal(match[1]) if match else None
        port = int(match[2]) if match and match[2] else self._target.port
        if (name, port) != (self._target.name, self._target.port):
            shown = authority.decode("latin-1")
            raise RefusedError(
                f"it is for {shown!r:.300} on a connection to {self._target.name}:{self._target.port}; "
                "by the policy's network they must agree"
            )

    def _check_placeholders(self, request: h11.Request) -> None:
        for name in sorted({name for _, value in request.headers for name in self._exchange.foreign_in(value)}):
            self._conversation.note(f"the placeholder of {name} is not exchanged for this host")
        if self._exchange.found_in(request.target):
            self._conversation.note("a placeholder in the URL is not exchanged; it belongs into a header")
        if not self._secure and any(self._exchange.found_in_header(value) for _, value in request.headers):
            raise RefusedError("a secret is sent under TLS only; use https")
        if sum(self._exchange.growth_in_header(value) for _, value in request.headers) > MOST_HEAD:
            raise _AnswerError(431, f"with the secrets in it its head would grow by more than {MOST_HEAD} bytes")

    # --- Passing on ---

    async def _pass_on(self, request: h11.Request) -> None:
        body = await self._exchanged_body() if self._exchanges_bodies else None
        stream, upstream = await self._connected()
        head = h11.Request(method=request.method, target=_origin_form(request), headers=self._headers(request, body))
        upload = asyncio.create_task(self._upload(stream, upstream, head, body))
        try:
            await self._download(stream, upstream)
        finally:
            upload.cancel()
            # Its failure, if any, ended the download; that one is told.
            await asyncio.gather(upload, return_exceptions=True)

    @property
    def _exchanges_bodies(self) -> bool:
        return self._secure and bool(self._target.secrets) and self._conversation.guest.rules.secrets_in_body

    async def _connected(self) -> tuple[Stream, h11.Connection]:
        """The connection to the target: that of the request before if it is still good, or a new one."""
        if self._upstream is not None:
            stream, upstream = self._upstream
            if upstream.our_state is h11.DONE and upstream.their_state is h11.DONE and stream.is_quiet():
                upstream.start_next_cycle()
                return self._upstream
            stream.abort()
        open_stream = await (self._conversation.connect_tls() if self._secure else self._conversation.connect())
        self._upstream = (open_stream, h11.Connection(h11.CLIENT, max_incomplete_event_size=MOST_HEAD))
        return self._upstream

    def _headers(self, request: h11.Request, body: bytes | None) -> Headers:
        """The headers that go out: without what belongs to one connection, with values for placeholders."""
        kept = _end_to_end(request.headers)
        if self._target.secrets:
            kept = [(name, value) for name, value in kept if name not in _PARTS]
            kept.append((b"accept-encoding", b"identity"))
        if self._secure:
            kept = [(name, self._exchange.in_header(value)) for name, value in kept]
        if body is not None:
            kept = [(name, value) for name, value in kept if name != b"content-length"]
            return [*kept, (b"content-length", b"%d" % len(body))] if body else kept
        chunked = any(name == b"transfer-encoding" for name, _ in request.headers)
        return [*kept, (b"transfer-encoding", b"chunked")] if chunked else kept

    async def _exchanged_body(self) -> bytes:
        """The whole body with values for placeholders; whole, because its length has to be told first."""
        body = bytearray()
        while isinstance(event := await self._next_body_event(), h11.Data):
            self._hold(len(event.data))
            body += event.data
        self._hold(self._exchange.growth_in(body))
        return self._exchange.in_text(bytes(body))

    def _hold(self, more: int) -> None:
        """Count bytes of the body that this request has read whole. Raises `_AnswerError`."""
        guest = self._conversation.guest
        if self._held + more > MOST_EXCHANGED_BODY:
            raise _AnswerError(413, f"with secrets_in_body a body holds at most {MOST_EXCHANGED_BODY} bytes")
        if guest.held + more > MOST_HELD:
            raise _AnswerError(503, f"with secrets_in_body all bodies at once hold at most {MOST_HELD} bytes")
        self._held += more
        guest.held += more

    def _let_go(self) -> None:
        self._conversation.guest.held -= self._held
        self._held = 0

    async def _next_body_event(self) -> h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]:
        async with asyncio.timeout(self._bounds.idle_seconds):
            return await self._next_event()

    async def _upload(self, stream: Stream, upstream: h11.Connection, head: h11.Request, body: bytes | None) -> None:
        try:
            await _write(stream, upstream, head)
            if body is not None:
                await _write(stream, upstream, h11.Data(data=body))
                self._let_go()
            else:
                while isinstance(event := await self._next_body_event(), h11.Data):
                    await _write(stream, upstream, event)
                if not isinstance(event, h11.EndOfMessage):
                    raise ConnectionError("the guest's request ends early")
            await _write(stream, upstream, h11.EndOfMessage())
        except (OSError, h11.ProtocolError):
            stream.abort()  # wakes the download, which waits for an answer that will not come

    async def _download(self, stream: Stream, upstream: h11.Connection) -> None:
        mask = Mask(secret.value for secret in self._target.secrets)
        begun = False
        try:
            while True:
                event = await self._answer_event(stream, upstream)
                if isinstance(event, h11.Response):
                    await self._send(self._masked(event, mask))
                    begun = True
                elif isinstance(event, h11.Data):
                    await self._send_data(mask.feed(event.data))
                elif isinstance(event, h11.EndOfMessage):
                    await self._send_data(mask.end())
                    await self._send(h11.EndOfMessage())
                    return
                elif isinstance(event, h11.ConnectionClosed):
                    raise UnreachableError("the host closed the connection without an answer")
        except (OSError, h11.RemoteProtocolError) as error:
            if begun:  # an answer that was cut must look cut
                raise ConnectionAbortedError(f"the answer breaks off: {error}") from None
            raise UnreachableError(f"the host gave no good answer: {error}") from None

    async def _answer_event(
        self, stream: Stream, upstream: h11.Connection
    ) -> h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]:
        while (event := upstream.next_event()) is h11.NEED_DATA:
            async with asyncio.timeout(self._bounds.idle_seconds):
                upstream.receive_data(await stream.receive())
        return event

    def _masked(self, response: h11.Response, mask: Mask) -> h11.Response:
        headers = _end_to_end(response.headers)
        if self._target.secrets:
            if any(name == b"content-encoding" and value.lower() != b"identity" for name, value in headers):
                raise UnreachableError("the answer is compressed although it was asked for uncompressed")
            headers = [(name, mask.whole(value)) for name, value in headers]
        return h11.Response(
            status_code=response.status_code, headers=headers, reason=mask.whole(bytes(response.reason))
        )

    # --- Writing ---

    async def _tunnel(self) -> None:
        """CONNECT to the host itself: the same host again, through the tunnel, under TLS."""
        if self._secure:
            raise _AnswerError(403, "CONNECT inside TLS is not offered")
        await self._send(h11.Response(status_code=200, headers=[]))
        ahead, _ = self._client.trailing_data
        self._stream.unreceive(ahead)
        await self._conversation.tunnel(self._stream)

    async def _say(self, status: int, text: str) -> None:
        """An answer of our own, where one can still be given; then the end."""
        if self._client.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            return
        content = text.encode() + b"\n"
        headers = [
            (b"content-type", b"text/plain; charset=utf-8"),
            (b"content-length", b"%d" % len(content)),
            (b"connection", b"close"),
        ]
        reason = b"Forbidden by SecurityPolicy" if status == 403 else b""
        await self._send(h11.Response(status_code=status, headers=headers, reason=reason))
        with contextlib.suppress(h11.LocalProtocolError):  # to HEAD there is an answer, but no content
            await self._send(h11.Data(data=content))
        self._stream.finish()
        await self._linger()

    async def _linger(self) -> None:
        """Take what the guest still sends, for a while: to close on it would make the kernel drop our answer."""
        taken = 0
        with contextlib.suppress(OSError):
            async with asyncio.timeout(_LINGER_SECONDS):
                while taken < _LINGER_BYTES and (data := await self._stream.receive()):
                    taken += len(data)

    async def _send_data(self, data: bytes) -> None:
        if data:
            await self._send(h11.Data(data=data))

    async def _send(self, event: h11.Event) -> None:
        await _write(self._stream, self._client, event)


async def _write(stream: Stream, connection: h11.Connection, event: h11.Event) -> None:
    if data := connection.send(event):
        await stream.send(data)


def _end_to_end(headers: object) -> Headers:
    """The headers without those that belong to one connection, by name or because `Connection` names them."""
    pairs: Headers = list(headers)  # type: ignore[call-overload]  # h11's own sequence of pairs
    named = {word.strip().lower() for name, value in pairs if name == b"connection" for word in value.split(b",")}
    dropped = _OF_ONE_CONNECTION | (named - {b"host", b"content-length", b"content-encoding", b"authorization"})
    return [(name, value) for name, value in pairs if name not in dropped]


def _authority(request: h11.Request) -> bytes | None:
    """The host in the request's target, where it has one."""
    if request.method == b"CONNECT":
        return request.target
    match = _ABSOLUTE.fullmatch(request.target)
    return match[2] if match else None


def _origin_form(request: h11.Request) -> bytes:
    """The target as a server wants it: the path and what follows."""
    match = _ABSOLUTE.fullmatch(request.target)
    if not match:
        return request.target
    return match[3] if match[3].startswith(b"/") else b"/" + match[3]


def _normal(name: bytes) -> str | None:
    text = name.decode("latin-1").strip("[]")
    try:
        return normal_address(text) or normal_name(text)
    except ValueError:
        return None
