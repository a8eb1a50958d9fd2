"""HAProxy in front of the server: in TCP mode, with the header of the PROXY protocol before TLS."""

import os
import shutil
import subprocess
import tempfile
import time

from raw import VERSIONS, Client, connect, context
from server import WAIT_SECONDS, TestCase


class Haproxy(TestCase):
    def haproxy(self, config):
        directory = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, directory)
        path = os.path.join(directory, "front")
        file = os.path.join(directory, "haproxy.cfg")
        with open(file, "w") as out:
            out.write(config.replace("FRONT", path))
        process = subprocess.Popen(["haproxy", "-db", "-f", file], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.addCleanup(lambda: (process.kill(), process.wait()))
        return process

    def test_the_header_precedes_tls(self):
        server = self.server(listen=["proxy:tls:127.0.0.1:0"])
        port = free_port()
        for version in [1, 2]:
            with self.subTest(f"version {version}"):
                send = "send-proxy-v2" if version == 2 else "send-proxy"
                process = self.haproxy(
                    "defaults\n mode tcp\n timeout connect 5s\n timeout client 30s\n timeout server 30s\n"
                    f"listen front\n bind 127.0.0.1:{port}\n server wsloop 127.0.0.1:{server.port} {send}\n"
                )
                client = self.connected(port)
                address = "{}:{}".format(*client.socket.getsockname())
                client.handshake().upgrade()
                client.echoes(b"through the proxy" * 10_000)
                server.logged(rf"{address}.* connected")
                client.socket.close()
                for version in VERSIONS:
                    with connect(port, context(version)) as client:
                        client.echoes(b"again")
                process.kill()
                process.wait()

    def connected(self, port):
        """Connects once HAProxy listens."""
        deadline = time.monotonic() + WAIT_SECONDS
        while True:
            try:
                return Client(port)
            except ConnectionRefusedError:
                self.assertLess(time.monotonic(), deadline, "haproxy does not listen")
                time.sleep(0.05)

    def test_the_header_at_every_split(self):
        server = self.server(listen=["proxy:tls:127.0.0.1:0"])
        header = b"PROXY TCP4 192.0.2.7 127.0.0.1 4711 443\r\n"
        for split in range(len(header) + 1):
            with Client(server.port) as client:
                bytes_ = header + client.hello()
                client.socket.sendall(bytes_[:split])
                time.sleep(0.002)
                client.socket.sendall(bytes_[split:])
                client.handshake().upgrade().echoes(b"split")
        server.logged(r"192\.0\.2\.7:4711.* connected")

    def test_tls_without_the_header_and_a_header_without_tls_are_refused(self):
        server = self.server(listen=["proxy:tls:127.0.0.1:0"])
        with Client(server.port) as client:
            client.socket.sendall(client.hello())
            self.assertEqual(client.socket.recv(100), b"")
        with Client(server.port, before=b"PROXY TCP4 192.0.2.7 127.0.0.1 4711 443\r\nGET / HTTP/1.1\r\n\r\n") as client:
            self.assertRegex(client.socket.recv(1000), rb"^HTTP/1.1 400 ")


def free_port():
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
