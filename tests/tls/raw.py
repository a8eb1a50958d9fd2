"""A client that decides itself which bytes of TLS it sends, and when."""

import base64
import os
import socket
import ssl
import struct

from server import WAIT_SECONDS, certificate


def context(version=None):
    """Returns the settings of a client that trusts the test's CA."""
    settings = ssl.create_default_context(cafile=certificate("root.pem"))
    settings.set_alpn_protocols(["http/1.1"])
    if version:
        settings.minimum_version = settings.maximum_version = version
    return settings


VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]


class Truncated(Exception):
    """The server has ended the connection without close_notify."""


class Client:
    """A connection. OpenSSL reads and writes two buffers instead of the socket: `fill` moves bytes from `socket` to `incoming`,
    and `flush` from `sealed` to `socket`."""

    def __init__(self, port, settings=None, before=b""):
        self.socket = socket.create_connection(("127.0.0.1", port), WAIT_SECONDS)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.sendall(before)
        self.incoming = ssl.MemoryBIO()
        self.sealed = ssl.MemoryBIO()
        self.tls = (settings or context()).wrap_bio(self.incoming, self.sealed, server_hostname="localhost")
        self.is_end = False
        self.inbox = b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def flush(self, segment=None):
        """Sends the bytes in `sealed`, in segments of at most `segment` bytes."""
        sealed = self.sealed.read()
        segment = segment or max(1, len(sealed))
        for start in range(0, len(sealed), segment):
            self.socket.sendall(sealed[start : start + segment])

    def fill(self):
        """Reads once from the socket."""
        received = self.socket.recv(1 << 16)
        if received:
            self.incoming.write(received)
        else:
            self.is_end = True
            self.incoming.write_eof()

    def hello(self):
        """Returns the ClientHello without sending it."""
        try:
            self.tls.do_handshake()
        except ssl.SSLWantReadError:
            pass
        return self.sealed.read()

    def handshake(self, segment=None):
        while True:
            try:
                self.tls.do_handshake()
                self.flush(segment)
                return self
            except ssl.SSLWantReadError:
                self.flush(segment)
                self.fill()

    def finished(self):
        """Performs the handshake up to the last messages of the client, and returns these without sending them."""
        self.socket.sendall(self.hello())
        while True:
            self.fill()
            try:
                self.tls.do_handshake()
            except ssl.SSLWantReadError:
                pass
            if sealed := self.sealed.read():
                return sealed

    def send(self, bytes_, record=1 << 14, segment=None):
        """Sends bytes in records of at most `record` bytes, and these in segments of at most `segment` bytes."""
        for start in range(0, len(bytes_), record):
            self.tls.write(bytes_[start : start + record])
        self.flush(segment)

    def read(self):
        """Returns the next decrypted bytes; none after close_notify.

        Raises Truncated if the connection ends without close_notify, and ssl.SSLError for an alert of the server."""
        while True:
            try:
                return self.tls.read(1 << 16)
            except ssl.SSLWantReadError:
                if self.is_end:
                    raise Truncated from None
                self.flush()
                self.fill()
            except ssl.SSLZeroReturnError:
                return b""
            except ssl.SSLEOFError:
                raise Truncated from None

    def read_exactly(self, len_):
        while len(self.inbox) < len_:
            bytes_ = self.read()
            if not bytes_:
                raise EOFError(f"the server has closed the connection after {self.inbox!r}")
            self.inbox += bytes_
        taken, self.inbox = self.inbox[:len_], self.inbox[len_:]
        return taken

    def read_all(self):
        """Returns all bytes up to close_notify."""
        taken, self.inbox = self.inbox, b""
        while bytes_ := self.read():
            taken += bytes_
        return taken

    def is_closed_by_fin(self):
        """Returns whether the connection ends in order, without a reset."""
        try:
            while self.socket.recv(1 << 16):
                pass
            return True
        except ConnectionResetError:
            return False

    def close_notify(self):
        """Sends close_notify."""
        try:
            self.tls.unwrap()
        except (ssl.SSLWantReadError, ssl.SSLSyscallError):
            pass
        self.flush()

    # WebSocket

    def upgrade(self, path="/"):
        self.send(upgrade_request(path))
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += self.read_exactly(1)
        if not head.startswith(b"HTTP/1.1 101 "):
            raise AssertionError(head)
        return self

    def message(self, payload, opcode=2, **how):
        self.send(frame(payload, opcode), **how)

    def next(self):
        """Returns opcode and payload of the next frame."""
        first, length = self.read_exactly(2)
        if length == 126:
            (length,) = struct.unpack(">H", self.read_exactly(2))
        elif length == 127:
            (length,) = struct.unpack(">Q", self.read_exactly(8))
        return first & 15, self.read_exactly(length)

    def echoes(self, payload, **how):
        """Sends a message, and checks that the server returns it."""
        self.message(payload, **how)
        opcode, echo = self.next()
        if (opcode, echo) != (2, payload):
            raise AssertionError(f"sent {len(payload)} bytes, received opcode {opcode} with {len(echo)}: {echo[:100]}")


def upgrade_request(path="/"):
    key = base64.b64encode(os.urandom(16)).decode()
    return (
        f"GET {path} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n"
    ).encode()


def frame(payload, opcode=2):
    """Returns a final frame, masked with zeros."""
    if len(payload) < 126:
        head = bytes([0x80 | opcode, 0x80 | len(payload)])
    elif len(payload) < 1 << 16:
        head = struct.pack(">BBH", 0x80 | opcode, 0x80 | 126, len(payload))
    else:
        head = struct.pack(">BBQ", 0x80 | opcode, 0x80 | 127, len(payload))
    return head + bytes(4) + payload


def connect(port, settings=None):
    """Returns an open WebSocket."""
    return Client(port, settings).handshake().upgrade()


CLOSE = 8
PING = 9
PONG = 10
