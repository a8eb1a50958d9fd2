"""The server and `openssl s_client`: versions, ALPN, names, resumption, client certificates, key updates, reloads."""

import os
import re
import signal
import subprocess
import tempfile
import time

from server import WAIT_SECONDS, Files, TestCase, certificate

GET = "GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
VERSIONS = ["-tls1_2", "-tls1_3"]


def arguments(port, *args):
    return ["openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-CAfile", certificate("root.pem"),
            "-verify_return_error", *args]


def s_client(port, *args, text=GET):
    """Connects, sends a request, and returns what `openssl s_client` prints until the server closes the connection."""
    done = subprocess.run(
        arguments(port, "-ign_eof", *args),
        input=text,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=WAIT_SECONDS,
    )
    return done.stdout


class Interactive:
    """A running `openssl s_client`, whose input a test writes step by step."""

    def __init__(self, test, port, *args):
        self.output = tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen(
            arguments(port, *args), stdin=subprocess.PIPE, stdout=self.output, stderr=subprocess.STDOUT, text=True
        )
        test.addCleanup(self.kill)

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.output.close()

    def write(self, text):
        self.process.stdin.write(text)
        self.process.stdin.flush()

    def text(self):
        return os.pread(self.output.fileno(), 1 << 20, 0).decode("utf-8", "replace")

    def shows(self, pattern):
        """Waits until the output matches."""
        deadline = time.monotonic() + WAIT_SECONDS
        while not re.search(pattern, self.text()):
            if time.monotonic() > deadline:
                raise AssertionError(f"openssl s_client does not print {pattern!r}:\n{self.text()}")
            time.sleep(0.02)


class Handshakes(TestCase):
    def test_http_1_1_is_the_only_alpn_protocol(self):
        server = self.server()
        for version in VERSIONS:
            with self.subTest(version):
                output = s_client(server.port, version, "-alpn", "http/1.1")
                self.assertIn("ALPN protocol: http/1.1", output)
                self.assertIn("HTTP/1.1 200 OK", output)
                self.assertIn("ALPN protocol: http/1.1", s_client(server.port, version, "-alpn", "h2,http/1.1"))
                output = s_client(server.port, version)
                self.assertIn("No ALPN negotiated", output)
                self.assertIn("HTTP/1.1 200 OK", output)
                # RFC 7301 section 3.2: no_application_protocol(120)
                output = s_client(server.port, version, "-alpn", "h2")
                self.assertRegex(output, "SSL alert number 120")
                self.assertNotIn("HTTP/1.1", output)

    def test_versions_before_1_2_are_refused(self):
        server = self.server()
        for version in ["-tls1", "-tls1_1"]:
            with self.subTest(version):
                output = s_client(server.port, version, "-cipher", "DEFAULT@SECLEVEL=0")
                # protocol_version(70); handshake_failure(40) if the client offers no signature algorithms, which are
                # an extension of TLS 1.2.
                self.assertRegex(output, r"SSL alert number (70|40)\b")
        for version in VERSIONS:
            with self.subTest(version):
                self.assertIn("HTTP/1.1 200 OK", s_client(server.port, version))

    def test_the_minimum_can_be_1_3(self):
        server = self.server("--tls-min", "1.3")
        self.assertIn("SSL alert number 70", s_client(server.port, "-tls1_2"))
        self.assertIn("HTTP/1.1 200 OK", s_client(server.port, "-tls1_3"))

    def test_the_name_selects_the_certificate_with_its_whole_chain(self):
        # Without a name, and for an unknown one, the server sends the first certificate. s_client verifies the chain up to
        # the root.
        server = self.server("--host", "*", certificates=["main", "rsa", "wild", "expired"])
        for version in VERSIONS:
            for name, certificate_name, verify in [
                ("localhost", "main", "localhost"),
                ("LOCALHOST", "main", "localhost"),
                ("rsa.example.test", "rsa", "rsa.example.test"),
                ("RSA.Example.Test", "rsa", "rsa.example.test"),
                ("a.wild.example.test", "wild", "a.wild.example.test"),
                ("A.WILD.example.test", "wild", "a.wild.example.test"),
                ("a.b.wild.example.test", "main", "localhost"),
                ("wild.example.test", "main", "localhost"),
                ("unknown.example.test", "main", "localhost"),
                (None, "main", "localhost"),
            ]:
                with self.subTest(f"{version} {name}"):
                    sni = ["-servername", name] if name else ["-noservername"]
                    output = s_client(server.port, version, *sni, "-verify_hostname", verify)
                    self.assertIn(f"subject=CN = {certificate_name}\n", output)
                    self.assertIn("Verification: OK", output)
                    self.assertIn("Verify return code: 0 (ok)", output)
                    self.assertIn("depth=2 CN = root", output)
                    self.assertRegex(output, r"(?s)\n 0 s:CN = \w+\n.*\n 1 s:CN = intermediate\n")
                    self.assertIn("HTTP/1.1 200 OK", output)
        # The server sends the expired certificate, too. The client refuses it with an alert.
        output = s_client(server.port, "-servername", "expired.example.test")
        self.assertIn("certificate has expired", output)
        self.assertNotIn("HTTP/1.1", output)
        server.logged("certificate.*expired")

    def test_a_session_is_resumed_also_after_a_reload(self):
        server = self.server()
        with tempfile.TemporaryDirectory() as directory:
            for version in VERSIONS:
                with self.subTest(version):
                    session, second = os.path.join(directory, "1"), os.path.join(directory, "2")
                    output = s_client(server.port, version, "-sess_out", session)
                    self.assertRegex(output, r"\nNew, TLS")
                    # In TLS 1.3, a ticket is used only once, and the server sends another one.
                    output = s_client(server.port, version, "-sess_in", session, "-sess_out", second)
                    self.assertRegex(output, r"\nReused, TLS")
                    self.assertIn("HTTP/1.1 200 OK", output)
                    server.reload("reloaded TLS certificate")
                    output = s_client(server.port, version, "-sess_in", second if version == "-tls1_3" else session)
                    self.assertRegex(output, r"\nReused, TLS")
                    self.assertIn("HTTP/1.1 200 OK", output)

    def test_a_ticket_of_another_server_causes_a_full_handshake(self):
        first, second = self.server(), self.server()
        with tempfile.TemporaryDirectory() as directory:
            for version in VERSIONS:
                with self.subTest(version):
                    session = os.path.join(directory, "session")
                    s_client(first.port, version, "-sess_out", session)
                    output = s_client(second.port, version, "-sess_in", session)
                    self.assertRegex(output, r"\nNew, TLS")
                    self.assertIn("HTTP/1.1 200 OK", output)

    def test_early_data_is_not_accepted(self):
        server = self.server()
        with tempfile.TemporaryDirectory() as directory:
            session, early = os.path.join(directory, "session"), os.path.join(directory, "early")
            with open(early, "w") as file:
                file.write(GET)
            output = s_client(server.port, "-tls1_3", "-sess_out", session)
            self.assertIn("Max Early Data: 0", output)
            output = s_client(server.port, "-tls1_3", "-sess_in", session, "-early_data", early)
            self.assertNotIn("Early data was accepted", output)

    def test_client_certificates_are_required_or_optional(self):
        def credentials(name):
            return ["-cert", certificate(f"{name}.pem"), "-key", certificate(f"{name}.key")]

        ca = ["--tls-client-ca", certificate("client-ca.pem")]
        required, optional = self.server(*ca), self.server(*ca, "--tls-client-optional")
        for version in VERSIONS:
            for server, name, is_accepted in [
                (required, "client", True),
                (required, "client-expired", False),
                (required, "client-other", False),
                (required, None, False),
                (optional, "client", True),
                (optional, "client-expired", False),
                (optional, "client-other", False),
                (optional, None, True),
            ]:
                kind = "required" if server is required else "optional"
                with self.subTest(f"{version} {kind} {name}"):
                    output = s_client(server.port, version, *(credentials(name) if name else []))
                    self.assertIn("CN = client-ca", output)  # the acceptable CAs
                    if is_accepted:
                        self.assertIn("HTTP/1.1 200 OK", output)
                    else:
                        self.assertRegex(output, r"SSL alert number (4[2568]|116)\b")
                        self.assertNotIn("HTTP/1.1", output)

    def test_a_resumed_session_needs_no_client_certificate_again(self):
        server = self.server("--tls-client-ca", certificate("client-ca.pem"))
        credentials = ["-cert", certificate("client.pem"), "-key", certificate("client.key")]
        with tempfile.TemporaryDirectory() as directory:
            session = os.path.join(directory, "session")
            for version in VERSIONS:
                with self.subTest(version):
                    s_client(server.port, version, *credentials, "-sess_out", session)
                    output = s_client(server.port, version, "-sess_in", session)
                    self.assertRegex(output, r"\nReused, TLS")
                    self.assertIn("HTTP/1.1 200 OK", output)


class OpenConnections(TestCase):
    def test_keys_can_be_updated_at_any_time(self):
        server = self.server()
        for command in ["K", "k"]:  # with and without an update of the server's key
            with self.subTest(command):
                client = Interactive(self, server.port, "-tls1_3")
                client.shows("Verify return code: 0")
                for _ in range(3):
                    client.write(f"{command}\n")
                    client.shows("KEYUPDATE")
                    time.sleep(0.1)  # a command is the first letter that s_client reads at once
                client.write(GET)
                client.shows("HTTP/1.1 200 OK")
                self.assertEqual(client.process.wait(WAIT_SECONDS), 0)

    def test_renegotiation_is_refused(self):
        server = self.server()
        client = Interactive(self, server.port, "-tls1_2")
        client.shows("Verify return code: 0")
        client.write("R\n")
        client.shows("RENEGOTIATING")
        client.process.wait(WAIT_SECONDS)
        self.assertIn("no renegotiation", client.text())

    def test_a_reload_changes_new_connections_and_no_open_one(self):
        files = Files(self)
        server = self.server(*files.flags(), certificates=[])
        client = Interactive(self, server.port)
        client.shows("subject=CN = main")
        files.put("renewed", "renewed")
        line = server.reload("reloaded TLS certificate")
        self.assertRegex(line, r"; before: ")
        self.assertIn("subject=CN = renewed", s_client(server.port))
        client.write(GET)
        client.shows("HTTP/1.1 200 OK")

    def test_a_reload_of_a_half_written_pair_changes_nothing(self):
        files = Files(self)
        server = self.server(*files.flags(), certificates=[])
        for name, damage, reason in [
            ("another key", lambda: files.put("renewed", "main"), "key"),
            ("an empty certificate", lambda: open(files.certificate, "w").close(), "certificate"),
            ("half a certificate", lambda: truncate(files.certificate), "certificate"),
            ("half a key", lambda: truncate(files.key), "key"),
            ("no key", lambda: os.remove(files.key), "key"),
            ("an expired certificate", lambda: files.put("expired", "expired"), "expired"),
        ]:
            with self.subTest(name):
                damage()
                line = server.reload("not reloaded")
                self.assertRegex(line, f"the previous ones remain in use.*{reason}")
                output = s_client(server.port)
                self.assertIn("subject=CN = main", output)
                self.assertIn("HTTP/1.1 200 OK", output)
                files.put("main", "main")
        files.put("renewed", "renewed")
        server.reload("reloaded TLS certificate")
        self.assertIn("subject=CN = renewed", s_client(server.port))

    def test_many_reloads_under_load_lose_no_connection(self):
        files = Files(self)
        server = self.server(*files.flags(), certificates=[])
        before = server.rss()
        for count in range(200):
            files.put(*(["main", "renewed"][count % 2],) * 2)
            server.signal(signal.SIGHUP)
            if count % 20 == 0:
                self.assertIn("HTTP/1.1 200 OK", s_client(server.port))
        self.assertLess(server.rss() - before, 2 << 20)


class Http(TestCase):
    def curl(self, *args):
        done = subprocess.run(
            ["curl", "-sS", "-i", "--max-time", str(WAIT_SECONDS), "--cacert", certificate("root.pem"), *args],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        return done.stdout

    def test_plain_http_gets_a_hint(self):
        server = self.server()
        for host in ["127.0.0.1", "localhost"]:
            output = self.curl("-4", f"http://{host}:{server.port}/")
            self.assertRegex(output, r"^HTTP/1\.1 400 ")
            self.assertRegex(output, r"https://.*wss://")

    def test_https_serves_the_page_the_checks_and_the_metrics(self):
        server = self.server("--metrics", "/metrics")
        base = f"https://localhost:{server.port}"
        output = self.curl("-4", f"{base}/", f"{base}/healthz", f"{base}/metrics")
        self.assertEqual(output.count("HTTP/1.1 200 OK"), 3, output)
        self.assertIn("<!doctype html>", output.lower())
        self.assertIn('wsloop_tls_certificate_expiry_timestamp_seconds{name="localhost"}', output)
        self.assertEqual(self.curl("-4", "--http2", f"{base}/healthz").count("HTTP/1.1 200 OK"), 1)


def truncate(path):
    os.truncate(path, os.path.getsize(path) // 2)
