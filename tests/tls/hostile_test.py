"""Hostile and unlucky clients: whatever a client sends, or does not send, it does not harm the server.

Each test ends with `unharmed`, which checks that the connections are closed, that the server is idle and serves other
clients, and that its log has no errors and no panic.
"""

import os
import resource
import socket
import ssl
import struct
import threading
import time

from raw import CLOSE, PING, PONG, VERSIONS, Client, Truncated, connect, context, frame, upgrade_request
from server import WAIT_SECONDS, TestCase

HANDSHAKE_SECONDS = 1

# The answer of the server is not checked, only that the connection is not reset.
ANY = object()


class Hostile(TestCase):
    def setUp(self):
        self.target = self.server("--handshake-timeout", str(HANDSHAKE_SECONDS))
        self.port = self.target.port
        connect(self.port).echoes(b"first")  # allocates what the first connection allocates
        self.eventually(lambda: self.target.descriptors() <= self.descriptors_before(), "the connection is closed")

    def descriptors_before(self):
        # Standard streams, poll, waker, listener, signals: whatever there is once all connections are gone.
        self.base = getattr(self, "base", None) or self.target.descriptors()
        return self.base

    def client(self, *args, **options):
        client = Client(self.port, *args, **options)
        self.addCleanup(client.socket.close)
        return client

    def open(self, settings=None):
        return self.client(settings).handshake().upgrade()

    def raw(self, bytes_=b""):
        connection = socket.create_connection(("127.0.0.1", self.port), WAIT_SECONDS)
        self.addCleanup(connection.close)
        connection.sendall(bytes_)
        return connection

    def unharmed(self, base, seconds=WAIT_SECONDS):
        """Checks that the server has at most `base` descriptors, serves a client and is idle, and logged no error."""
        self.eventually(lambda: self.target.descriptors() <= base, "the connections are closed", seconds)
        with connect(self.port) as client:
            client.echoes(b"still here")
            client.message(struct.pack(">H", 1000), CLOSE)
            self.assertEqual(client.next()[0], CLOSE)
            self.assertEqual(client.read(), b"")
        self.eventually(lambda: self.target.descriptors() <= base, "the last connection is closed")
        before = self.target.cpu_seconds()
        time.sleep(0.2)
        self.assertLessEqual(self.target.cpu_seconds() - before, 0.03, "the server is not idle")
        log = self.target.text()
        for word in ["ERROR", "panicked"]:
            self.assertNotIn(word, log)


class Segments(Hostile):
    def test_every_byte_in_a_segment_of_its_own(self):
        base = self.target.descriptors()
        for version in VERSIONS:
            with self.subTest(version), self.client(context(version)) as client:
                client.handshake(segment=1)
                client.send(upgrade_request(), segment=1)
                self.assertIn(b"101", client.read_exactly(12))
                while b"\r\n\r\n" not in client.inbox:
                    client.inbox += client.read()
                client.inbox = b""
                client.echoes(b"x" * 300, segment=1)
        self.unharmed(base)

    def test_one_byte_in_each_record(self):
        base = self.target.descriptors()
        other = self.open()
        slowest = 0
        for version in VERSIONS:
            with self.subTest(version), connect(self.port, context(version)) as client:
                payload = os.urandom(100_000)
                sender = threading.Thread(target=client.message, args=(payload,), kwargs={"record": 1})
                client.tls.write(frame(payload)[:1])
                bytes_ = frame(payload)[1:]
                for byte in bytes_:
                    client.tls.write(bytes([byte]))
                sender = threading.Thread(target=client.flush)
                sender.start()
                while sender.is_alive():
                    start = time.monotonic()
                    other.echoes(b"how long?")
                    slowest = max(slowest, time.monotonic() - start)
                sender.join()
                self.assertEqual(client.next(), (2, payload))
        other.socket.close()
        self.assertLess(slowest, 0.25, "another session waits")
        self.unharmed(base)

    def test_the_first_message_in_the_segment_of_finished(self):
        base = self.target.descriptors()
        for version in VERSIONS[1:]:  # in TLS 1.2, the server sends the last Finished
            for count in [1, 200]:
                with self.subTest(f"{version} {count}"), self.client(context(version)) as client:
                    last = client.finished()
                    client.tls.write(upgrade_request() + frame(b"early") * count)
                    client.socket.sendall(last + client.sealed.read())
                    while b"\r\n\r\n" not in client.inbox:
                        client.inbox += client.read()
                    client.inbox = client.inbox.partition(b"\r\n\r\n")[2]
                    for _ in range(count):
                        self.assertEqual(client.next(), (2, b"early"))
        self.unharmed(base)

    def test_a_hello_in_many_records(self):
        base = self.target.descriptors()
        for size in [1, 2, 50]:
            with self.subTest(size), self.client() as client:
                hello = client.hello()
                message = hello[5:]
                records = b"".join(
                    b"\x16\x03\x01" + struct.pack(">H", len(message[start : start + size])) + message[start : start + size]
                    for start in range(0, len(message), size)
                )
                client.socket.sendall(records)
                client.handshake()
                client.upgrade().echoes(b"joined")
        self.unharmed(base)


class Stalls(Hostile):
    def test_a_stalled_handshake_ends_at_its_deadline(self):
        base = self.target.descriptors()
        connections = []
        for version in VERSIONS:
            hello = self.client(context(version)).hello()
            for length in [0, 1, 4, 5, 6, 50, len(hello) - 1, len(hello)]:
                connections += [self.raw(hello[:length]) for _ in range(10)]
            for length in [0, 1, 5, 20, -1]:
                client = self.client(context(version))
                client.socket.sendall(client.finished()[:length])
                connections.append(client.socket)
        for version in VERSIONS:
            connections.append(self.client(context(version)).handshake().socket)
            client = self.client(context(version)).handshake()
            client.send(upgrade_request()[:-1])
            connections.append(client.socket)
        begin = time.monotonic()
        for connection in connections:
            connection.settimeout(WAIT_SECONDS)
            try:
                while connection.recv(1 << 16):
                    pass
            except ConnectionResetError:
                pass
        self.assertLess(time.monotonic() - begin, HANDSHAKE_SECONDS + 2)
        self.unharmed(base)

    def test_a_client_that_sends_a_byte_at_a_time_does_not_postpone_the_deadline(self):
        base = self.target.descriptors()
        client = self.client()
        hello = client.hello()
        begin = time.monotonic()
        with self.assertRaises((BrokenPipeError, ConnectionResetError)):
            for byte in hello * 3:
                client.socket.sendall(bytes([byte]))
                time.sleep(0.02)
        self.assertLess(time.monotonic() - begin, HANDSHAKE_SECONDS + 3)
        self.unharmed(base)

    def test_clients_that_read_no_answer_to_their_hello(self):
        base = self.target.descriptors()
        for _ in range(300):
            connection = socket.socket()
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
            connection.settimeout(WAIT_SECONDS)
            connection.connect(("127.0.0.1", self.port))
            self.addCleanup(connection.close)
            connection.sendall(self.client().hello())
        self.unharmed(base, HANDSHAKE_SECONDS + 10)


class Ends(Hostile):
    """Ends a connection at each of its stages: by FIN without close_notify, by FIN after close_notify, by a reset."""

    def stages(self, version):
        settings = context(version)

        def connected():
            return self.client(settings)

        def part_of_hello():
            client = self.client(settings)
            client.socket.sendall(client.hello()[:40])
            return client

        def whole_hello():
            client = self.client(settings)
            client.socket.sendall(client.hello())
            return client

        def answered_hello():
            client = self.client(settings)
            client.finished()
            return client

        def part_of_finished():
            client = self.client(settings)
            client.socket.sendall(client.finished()[:-3])
            return client

        def after_handshake():
            return self.client(settings).handshake()

        def part_of_request():
            client = after_handshake()
            client.send(upgrade_request()[:50])
            return client

        def requested():
            client = after_handshake()
            client.send(upgrade_request())
            return client

        def upgraded():
            return after_handshake().upgrade()

        def part_of_record():
            client = upgraded()
            client.tls.write(frame(b"part"))
            client.socket.sendall(client.sealed.read()[:-1])
            return client

        def part_of_frame():
            client = upgraded()
            client.send(frame(b"x" * 1000)[:500])
            return client

        def unread_echo():
            client = upgraded()
            client.message(b"x" * 3_000_000)
            return client

        def closed():
            client = upgraded()
            client.message(struct.pack(">H", 1000), CLOSE)
            return client

        return [connected, part_of_hello, whole_hello, answered_hello, part_of_finished, after_handshake, part_of_request,
                requested, upgraded, part_of_record, part_of_frame, unread_echo, closed]

    def test_fin_without_close_notify(self):
        self.ends(lambda client: client.socket.shutdown(socket.SHUT_WR))

    def test_fin_after_close_notify(self):
        def end(client):
            try:
                client.close_notify()
            except ssl.SSLError:
                pass  # during the handshake
            client.socket.shutdown(socket.SHUT_WR)

        self.ends(end)

    def test_close_notify_without_fin(self):
        def end(client):
            try:
                client.close_notify()
            except ssl.SSLError:
                client.socket.shutdown(socket.SHUT_WR)

        self.ends(end)

    def test_close_of_both_directions(self):
        self.ends(lambda client: client.socket.close())

    def test_reset(self):
        def end(client):
            client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.socket.close()

        self.ends(end)

    def ends(self, end):
        base = self.target.descriptors()
        for version in VERSIONS:
            for stage in self.stages(version):
                with self.subTest(f"{version.name} {stage.__name__}"):
                    client = stage()
                    end(client)
                    if client.socket.fileno() >= 0:
                        client.socket.settimeout(WAIT_SECONDS)
                        self.assertTrue(client.is_closed_by_fin(), "reset by the server")
                        client.socket.close()
                    self.eventually(lambda: self.target.descriptors() <= base, "the connection is closed")
        self.unharmed(base)

    def test_the_answer_follows_the_clients_close_notify(self):
        base = self.target.descriptors()
        for version in VERSIONS:
            with self.subTest(version), self.client(context(version)).handshake() as client:
                client.send(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
                client.close_notify()
                client.socket.shutdown(socket.SHUT_WR)
                self.assertIn(b"200 OK", client.read_all())
        self.unharmed(base)

    def test_the_server_closes_with_close_notify_before_fin(self):
        base = self.target.descriptors()
        for version in VERSIONS:
            with self.subTest(version), self.open(context(version)) as client:
                client.message(struct.pack(">H", 4000) + b"done", CLOSE)
                self.assertEqual(client.next(), (CLOSE, struct.pack(">H", 4000) + b"done"))
                self.assertEqual(client.read(), b"")  # close_notify
                self.assertTrue(client.is_closed_by_fin())
        self.unharmed(base)


    def test_a_connection_without_a_request_ends_with_close_notify(self):
        base = self.target.descriptors()
        for version in VERSIONS:
            for end in ["timeout", "close_notify", "FIN"]:
                with self.subTest(version=version.name, end=end):
                    client = self.client(context(version)).handshake()
                    if end == "close_notify":
                        client.close_notify()
                    elif end == "FIN":
                        client.socket.shutdown(socket.SHUT_WR)
                    sealed = b""
                    while received := client.socket.recv(1 << 16):
                        sealed += received
                    # The last record is an alert; in TLS 1.3, alerts look like data, with 2 bytes, a type and a tag.
                    is_12 = version == ssl.TLSVersion.TLSv1_2
                    kind, len_ = (21, 26) if is_12 else (23, 19)
                    self.assertEqual(sealed[-len_ - 5 : -len_], bytes([kind, 3, 3]) + struct.pack(">H", len_))
        self.unharmed(base)


class Garbage(Hostile):
    def test_what_is_not_tls(self):
        base = self.target.descriptors()
        sslv2 = b"\x80\x2e\x01\x00\x02\x00\x15\x00\x00\x00\x10" + b"\x07\x00\xc0" * 7 + bytes(16)
        for name, bytes_, answer in [
            ("http", b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", b"HTTP/1.1 400 "),
            ("a part of http", b"GET", b"HTTP/1.1 400 "),
            ("http/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"HTTP/1.1 400 "),
            ("proxy", b"PROXY TCP4 127.0.0.1 127.0.0.1 1 2\r\n", b"HTTP/1.1 400 "),
            ("proxy 2", b"\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c" + bytes(12), b""),
            ("SSL 2", sslv2, b""),
            ("ssh", b"\x00\x00\x01\x0c", b""),
            ("zeros", bytes(100), b""),
            ("line", b"\r\n\r\n", b""),
            ("an alert", b"\x15\x03\x03\x00\x02\x01\x00", b""),
            ("application data", b"\x17\x03\x03\x00\x10" + bytes(16), b""),
            ("a record without bytes", b"\x16\x03\x01\x00\x00", None),
            ("a record that is too long", b"\x16\x03\x01\xff\xff" + bytes(70_000), None),
            ("an unknown version", b"\x16\xff\xff\x00\x10" + bytes(16), None),
            ("SSL 3", b"\x16\x03\x00\x00\x2f\x01\x00\x00\x2b\x03\x00" + bytes(32) + b"\x00\x00\x04\x00\x35\x00\x0a\x01\x00", None),
            ("a message of 16 MB", b"\x16\x03\x01\x40\x00\x01\xff\xff\xff" + bytes(16380) + b"\x16\x03\x01\x40\x00" + bytes(16384), ANY),
            ("another message", b"\x16\x03\x01\x00\x04\x14\x00\x00\x00", None),
        ]:
            with self.subTest(name):
                connection = self.raw()
                try:
                    connection.sendall(bytes_)
                except (BrokenPipeError, ConnectionResetError):
                    pass
                received, is_reset = read_all(connection)
                connection.close()
                if answer is ANY:
                    pass
                elif answer is None:
                    self.assertTrue(received.startswith(b"\x15\x03"), received)
                    self.assertEqual(received[5], 2, "a fatal alert")
                    self.assertEqual(len(received), 7)
                else:
                    self.assertTrue(received.startswith(answer) and bool(received) == bool(answer), received)
                self.assertFalse(is_reset)
        self.unharmed(base)

    def test_garbage_after_the_handshake(self):
        base = self.target.descriptors()
        for version in VERSIONS:
            for name, bytes_ in [
                ("random", os.urandom(1000)),
                ("many random bytes", os.urandom(300_000)),
                ("zeros", bytes(100)),
                ("plain http", b"GET / HTTP/1.1\r\n\r\n"),
                ("a record that cannot be opened", b"\x17\x03\x03\x00\x40" + bytes(64)),
                ("a short record", b"\x17\x03\x03\x00\x01\x00"),
                ("a record without bytes", b"\x17\x03\x03\x00\x00"),
                ("a record that is too long", b"\x17\x03\x03\x48\x01" + bytes(0x4801)),
                ("a plain alert", b"\x15\x03\x03\x00\x02\x02\x28"),
                ("a plain handshake", b"\x16\x03\x03\x00\x04\x00\x00\x00\x00"),
                ("an unknown type", b"\x99\x03\x03\x00\x04\x00\x00\x00\x00"),
            ]:
                for stage in ["with Finished", "after Finished", "in a session"]:
                    with self.subTest(f"{version.name} {name} {stage}"):
                        client = self.client(context(version))
                        if stage == "with Finished":
                            bytes_ = client.finished() + bytes_
                        else:
                            client.handshake()
                            if stage == "in a session":
                                client.upgrade()
                        try:
                            client.socket.sendall(bytes_)
                            alert = self.alert(client)
                        except (BrokenPipeError, ConnectionResetError) as error:
                            self.fail(f"reset: {error}")
                        self.assertIsNotNone(alert)
                        client.socket.close()
        self.unharmed(base)

    def alert(self, client):
        """Returns the reason that the server gives for closing the connection, or None."""
        try:
            while True:
                try:
                    client.tls.do_handshake()
                    break
                except ssl.SSLWantReadError:
                    if client.is_end:
                        return None
                    client.fill()
            while client.read():
                pass
            return None
        except Truncated:
            return None
        except ssl.SSLError as error:
            return error.reason

    def test_a_changed_byte_in_each_place_of_the_hello(self):
        base = self.target.descriptors()
        hello = self.client().hello()
        for place in range(0, len(hello)):
            for value in [0, 0xFF, hello[place] ^ 1]:
                changed = hello[:place] + bytes([value]) + hello[place + 1 :]
                connection = self.raw(changed)
                connection.shutdown(socket.SHUT_WR)
                _, is_reset = read_all(connection)
                self.assertFalse(is_reset, f"{place} {value}")
                connection.close()
        self.unharmed(base)

    def test_random_records(self):
        base = self.target.descriptors()
        for _ in range(500):
            connection = self.raw(b"\x16\x03\x01" + os.urandom(2) + os.urandom(200))
            connection.shutdown(socket.SHUT_WR)
            read_all(connection)
            connection.close()
        self.unharmed(base)

    def test_hellos_in_records_of_one_byte_do_not_delay_open_sessions(self):
        base = self.target.descriptors()
        hello = self.client().hello()
        # A part of a message of 16 KB, so that nothing is answered.
        message = b"\x01\x00\x3f\xff" + hello[9:] + bytes(10_000)
        flood = b"".join(b"\x16\x03\x01\x00\x01" + message[at : at + 1] for at in range(10_000))
        _, descriptors_max = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors_max, descriptors_max))
        peers = [self.raw() for _ in range(3_000)]
        open_ = self.open()
        for peer in peers:
            peer.setblocking(False)
            try:
                peer.send(flood)
            except BlockingIOError:
                pass
        begin = time.monotonic()
        longest = 0
        while time.monotonic() - begin < HANDSHAKE_SECONDS:
            sent = time.monotonic()
            open_.echoes(b"20 bytes of an echo.")
            longest = max(longest, time.monotonic() - sent)
        # All of them in one turn took 0.8 s.
        self.assertLess(longest, 0.4)
        open_.socket.close()
        for peer in peers:
            peer.close()
        self.unharmed(base)

    def test_floods_of_records_without_progress(self):
        base = self.target.descriptors()
        floods = []
        for name, record in [
            ("change_cipher_spec", b"\x14\x03\x03\x00\x01\x01"),
            ("warnings", b"\x15\x03\x03\x00\x02\x01\x5a"),
            ("hello requests", b"\x16\x03\x03\x00\x04\x00\x00\x00\x00"),
            ("records without bytes", b"\x16\x03\x03\x00\x00"),
        ]:
            for version in VERSIONS:
                client = self.client(context(version))
                client.finished()
                floods.append((f"{version.name} {name}", client, record * 1_000))
        begin = time.monotonic()
        while floods and time.monotonic() - begin < HANDSHAKE_SECONDS + 5:
            for flood in floods[:]:
                try:
                    flood[1].socket.sendall(flood[2])
                except (BrokenPipeError, ConnectionResetError):
                    floods.remove(flood)
        self.assertEqual([flood[0] for flood in floods], [], "the server reads on and on")
        self.unharmed(base)


def read_all(connection):
    """Returns all bytes of the server, and whether the connection was reset afterwards."""
    received = b""
    try:
        while bytes_ := connection.recv(1 << 16):
            received += bytes_
        return received, False
    except ConnectionResetError:
        return received, True


class Sessions(Hostile):
    def test_control_frames_are_answered_between_many_records(self):
        base = self.target.descriptors()
        with self.open() as client:
            client.message(b"are you there", PING, record=1)
            self.assertEqual(client.next(), (PONG, b"are you there"))
        self.unharmed(base)

    def test_a_peer_that_reads_nothing_is_not_read_for_ever(self):
        base = self.target.descriptors()
        before = self.target.rss()
        with self.open() as client:
            client.socket.settimeout(1)
            sent = 0
            with self.assertRaises((BlockingIOError, TimeoutError)):
                while sent < 100 << 20:
                    client.message(bytes(100_000))
                    sent += 100_000
            self.assertLess(self.target.rss() - before, 24 << 20)
            cpu = self.target.cpu_seconds()
            time.sleep(0.3)
            self.assertLess(self.target.cpu_seconds() - cpu, 0.05, "the server is busy with a blocked session")
        self.unharmed(base)
