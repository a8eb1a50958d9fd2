"""A strict and slow WebSocket client on a raw socket, for the checks and for opening many idle connections."""

import base64
import hashlib
import os
import socket
import struct
import threading

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
GUID = b'258EAFA5-E914-47DA-95CA-C5AB0DC85B11'


class Refused(Exception):
    """The server sent something that RFC 6455 does not allow or the caller did not expect; the text describes it."""


class Ended(Exception):
    """The server ended the connection. `code` is the code of its close frame, or None."""

    def __init__(self, code=None):
        super().__init__(f'closed with {code}' if code else 'dropped')
        self.code = code


class Client:
    """A connection after the opening handshake. `extensions` is the server's Sec-WebSocket-Extensions, or None."""

    def __init__(self, port, path, offer=None):
        self.socket = socket.create_connection(('127.0.0.1', port), timeout=10)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        key = base64.b64encode(os.urandom(16))
        more = f'Sec-WebSocket-Extensions: {offer}\r\n' if offer else ''
        self.socket.sendall((f'GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: Upgrade\r\n'
                             f'Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n{more}'
                             f'Sec-WebSocket-Key: {key.decode()}\r\n\r\n').encode())
        self.buf = bytearray()
        while b'\r\n\r\n' not in self.buf:
            self.more()
        head, _, rest = bytes(self.buf).partition(b'\r\n\r\n')
        self.buf = bytearray(rest)
        status, *lines = head.split(b'\r\n')
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(b':') for line in lines)}
        if b' 101 ' not in status:
            raise Refused(f'{status!r} instead of 101')
        if headers.get(b'sec-websocket-accept') != base64.b64encode(hashlib.sha1(key + GUID).digest()):
            raise Refused('a wrong Sec-WebSocket-Accept')
        self.extensions = headers.get(b'sec-websocket-extensions')

    def more(self):
        """Reads more input into `buf`."""
        try:
            got = self.socket.recv(1 << 18)
        except ConnectionError:
            got = b''
        if not got:
            raise Ended
        self.buf += got

    def take(self, count):
        while len(self.buf) < count:
            self.more()
        taken = bytes(self.buf[:count])
        del self.buf[:count]
        return taken

    def frame(self):
        """Returns the next frame: whether it is final, its opcode, its payload."""
        first, second = self.take(2)
        if first & 0x70 or second & 0x80:
            raise Refused(f'a frame that begins with {first:#04x} {second:#04x}')
        length = second
        if second == 126:
            length, = struct.unpack('>H', self.take(2))
        elif second == 127:
            length, = struct.unpack('>Q', self.take(8))
        return first & 0x80, first & 0x0F, self.take(length)

    def message(self):
        """Returns the opcode and payload of the next control frame, or of the next message after joining its fragments."""
        opcode, payload = None, b''
        while True:
            final, kind, piece = self.frame()
            if kind == CLOSE:
                raise Ended(struct.unpack('>H', piece[:2])[0] if piece else None)
            if kind >= CLOSE:
                return kind, piece
            if (kind == 0) != (opcode is not None):
                raise Refused(f'a frame of opcode {kind} out of order')
            opcode = kind or opcode
            payload += piece
            if final:
                return opcode, payload

    def send(self, *frames):
        """Sends in a new thread and returns it, so that the caller can read meanwhile. Ignores errors of the socket,
        because the server may end the connection at any time."""
        def run(data):
            try:
                self.socket.sendall(data)
            except OSError:
                pass
        thread = threading.Thread(target=run, args=(b''.join(frames),))
        thread.start()
        return thread

    def close(self):
        self.socket.close()


def frame(opcode, payload, final=True, key=None):
    """Encodes a client's frame, with a random masking key if `key` is None."""
    key = os.urandom(4) if key is None else key
    length = len(payload)
    first = (0x80 if final else 0) | opcode
    if length < 126:
        header = struct.pack('>BB', first, 0x80 | length)
    elif length < 65536:
        header = struct.pack('>BBH', first, 0xFE, length)
    else:
        header = struct.pack('>BBQ', first, 0xFF, length)
    mask = int.from_bytes((key * (length // 4 + 1))[:length], 'big')
    return header + key + (int.from_bytes(payload, 'big') ^ mask).to_bytes(length, 'big')
