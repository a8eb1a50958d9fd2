"""Common clients over wss://: the Python libraries websockets and aiohttp, and gnutls-cli over https://. Also the end of
sessions when the server stops."""

import asyncio
import os
import signal
import socket
import ssl
import subprocess

import aiohttp
import websockets
from raw import CLOSE, VERSIONS, connect, context
from server import WAIT_SECONDS, TestCase, certificate
from websockets.sync.client import connect as websockets_connect


class Websockets(TestCase):
    def connect(self, server, settings=None, **options):
        """Connects, again if the request was not sent. The client reads and writes in two threads, and versions of Python
        that do not lock a TLS connection lose one request in 1 000, with any server."""
        for _ in range(2):
            try:
                return self.connect_once(server, settings, **options)
            except (TimeoutError, websockets.InvalidMessage):
                pass
        return self.connect_once(server, settings, **options)

    def connect_once(self, server, settings, **options):
        options.setdefault("max_size", None)
        client = websockets_connect(
            f"wss://localhost:{server.port}/",
            ssl=settings or context(),
            open_timeout=WAIT_SECONDS,
            compression=None,
            sock=socket.create_connection(("127.0.0.1", server.port)),
            **options,
        )
        self.addCleanup(client.socket.close)
        return client

    def test_messages_of_all_sizes_and_kinds(self):
        server = self.server()
        for version in VERSIONS:
            with self.subTest(version), self.connect(server, context(version)) as client:
                for length in [0, 1, 125, 126, 16_379, 16_384, 65_536, 1 << 20, 9 << 20]:
                    message = os.urandom(length)
                    client.send(message)
                    self.assertEqual(client.recv(WAIT_SECONDS), message)
                client.send("text ✓")
                self.assertEqual(client.recv(WAIT_SECONDS), "text ✓")
                # A message in fragments: more than a record each, and tiny ones.
                client.send([b"x" * 40_000, b"", b"y", b"z" * 20_000])
                self.assertEqual(client.recv(WAIT_SECONDS), b"x" * 40_000 + b"y" + b"z" * 20_000)
                client.send("a" for _ in range(2_000))
                self.assertEqual(client.recv(WAIT_SECONDS), "a" * 2_000)
                self.assertTrue(client.ping(b"hello").wait(WAIT_SECONDS))
                for count in range(2_000):
                    client.send(str(count))
                for count in range(2_000):
                    self.assertEqual(client.recv(WAIT_SECONDS), str(count))

    def test_close_codes_are_answered(self):
        server = self.server()
        for code in [1000, 1001, 3000, 4999]:
            with self.subTest(code):
                client = self.connect(server)
                client.close(code, "done")
                self.assertEqual((client.protocol.close_rcvd.code, client.protocol.close_rcvd.reason), (code, "done"))

    def test_a_message_above_the_limit_is_answered_with_1009(self):
        server = self.server("--message-bytes-max", "1M")
        client = self.connect(server)
        with self.assertRaises(websockets.ConnectionClosedError) as caught:
            client.send(bytes(3 << 20))
            client.recv(WAIT_SECONDS)
        self.assertEqual(caught.exception.rcvd.code, 1009)

    def test_a_stop_ends_sessions_with_1001(self):
        server = self.server()
        client = self.connect(server)
        server.process.send_signal(signal.SIGTERM)
        with self.assertRaises(websockets.ConnectionClosed) as caught:
            client.recv(WAIT_SECONDS)
        self.assertEqual(caught.exception.rcvd.code, 1001)
        self.assertEqual(server.process.wait(WAIT_SECONDS), 0)

    def test_a_certificate_that_the_client_does_not_trust(self):
        server = self.server()
        with self.assertRaises(ssl.SSLCertVerificationError):
            self.connect(server, ssl.create_default_context())
        server.logged("alert|UnknownCA|unknown")

    def test_a_client_certificate(self):
        server = self.server("--tls-client-ca", certificate("client-ca.pem"))
        for version in VERSIONS:
            with self.subTest(version):
                settings = context(version)
                settings.load_cert_chain(certificate("client.pem"), certificate("client.key"))
                with self.connect(server, settings) as client:
                    client.send("known")
                    self.assertEqual(client.recv(WAIT_SECONDS), "known")
                # In TLS 1.3, the client learns that its certificate is missing when it reads: while it waits for the
                # response, or before it sends the request.
                refused = (ssl.SSLError, ConnectionError, EOFError, websockets.WebSocketException)
                logged_before = len(server.log)
                with self.assertRaises(refused):
                    self.connect(server, context(version))
                server.logged("TLS failed: peer sent no certificates", after=logged_before)


class Stop(TestCase):
    def test_the_server_sends_1001_then_close_notify_then_fin(self):
        for version in VERSIONS:
            with self.subTest(version):
                server = self.server()
                with connect(server.port, context(version)) as client:
                    server.process.send_signal(signal.SIGTERM)
                    opcode, payload = client.next()
                    self.assertEqual((opcode, payload[:2]), (CLOSE, b"\x03\xe9"))
                    client.message(payload, CLOSE)
                    self.assertEqual(client.read(), b"")
                    self.assertTrue(client.is_closed_by_fin())
                self.assertEqual(server.process.wait(WAIT_SECONDS), 0)

    def test_sessions_that_answer_nothing_do_not_prevent_the_stop(self):
        server = self.server("--close-timeout", "1")
        clients = [connect(server.port) for _ in range(20)]
        server.process.send_signal(signal.SIGTERM)
        self.assertEqual(server.process.wait(WAIT_SECONDS), 0)
        for client in clients:
            client.socket.close()


class Aiohttp(TestCase):
    def test_messages_and_http_on_one_listener(self):
        server = self.server()
        settings = context()
        settings.check_hostname = False  # by address
        base = f"https://127.0.0.1:{server.port}"

        async def use():
            async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=settings)) as session:
                async with session.get(f"{base}/") as page:
                    assert page.status == 200, page.status
                    assert "html" in await page.text()
                async with session.ws_connect(f"{base}/", max_msg_size=0) as client:
                    for length in [0, 1, 70_000, 1 << 20]:
                        message = os.urandom(length)
                        await client.send_bytes(message)
                        assert await client.receive_bytes() == message
                    await client.send_str("text")
                    assert await client.receive_str() == "text"
                    await client.ping(b"p")
                    await client.close(code=4001, message=b"bye")
                    assert client.close_code == 4001, client.close_code
                clients = await asyncio.gather(*(session.ws_connect(f"{base}/") for _ in range(100)))
                await asyncio.gather(*(client.send_str(str(count)) for count, client in enumerate(clients)))
                for count, client in enumerate(clients):
                    assert await client.receive_str() == str(count)
                await asyncio.gather(*(client.close() for client in clients))

        asyncio.run(asyncio.wait_for(use(), WAIT_SECONDS))


class Gnutls(TestCase):
    def cli(self, server, *args, text="GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"):
        done = subprocess.run(
            ["gnutls-cli", "--x509cafile", certificate("root.pem"), "-p", str(server.port), "localhost", *args],
            input=text,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=WAIT_SECONDS,
        )
        return done.stdout

    def test_versions_alpn_and_resumption(self):
        server = self.server()
        for version, priority in [("TLS1.2", "NORMAL:-VERS-ALL:+VERS-TLS1.2"), ("TLS1.3", "NORMAL:-VERS-ALL:+VERS-TLS1.3")]:
            with self.subTest(version):
                output = self.cli(server, "--priority", priority, "--alpn", "http/1.1")
                self.assertIn(f"({version}-X.509)", output)
                self.assertIn("Application protocol: http/1.1", output)
                self.assertIn("Status: The certificate is trusted", output)
                self.assertIn("HTTP/1.1 200 OK", output)
                output = self.cli(server, "--priority", priority, "--resume", "--waitresumption")
                self.assertIn("This is a resumed session", output)
                self.assertIn("HTTP/1.1 200 OK", output)
                output = self.cli(server, "--priority", priority, "--alpn", "h2")
                self.assertIn("Received alert [120]", output)
        output = self.cli(server, "--priority", "NORMAL:-VERS-ALL:+VERS-TLS1.1:%VERIFY_ALLOW_BROKEN")
        self.assertNotIn("HTTP/1.1", output)

    def test_each_name_gets_its_certificate_with_a_trusted_chain(self):
        server = self.server("--host", "*", certificates=["main", "rsa", "wild"])
        for name, subject in [("rsa.example.test", "CN=rsa"), ("a.wild.example.test", "CN=wild")]:
            with self.subTest(name):
                output = self.cli(server, "--sni-hostname", name, "--verify-hostname", name)
                self.assertIn(f"subject `{subject}'", output)
                self.assertIn("Status: The certificate is trusted", output)
                self.assertIn("HTTP/1.1 200 OK", output)
