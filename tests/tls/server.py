"""Runs the server under test as a process, and reads its output.

The tests read the addresses of a server from its announcement. A server is killed at the end of its test, also if the test
fails. tests/tls/run sets the variables CERTIFICATES, the directory of the certificates, and WSLOOP, the path of the binary.
"""

import os
import re
import shutil
import signal
import subprocess
import tempfile
import threading
import time
import unittest
import urllib.parse

CERTIFICATES = os.environ["CERTIFICATES"]
WSLOOP = os.environ["WSLOOP"]
WAIT_SECONDS = 15


def certificate(name):
    """Returns the path of a file that make_certificates.sh has made."""
    return os.path.join(CERTIFICATES, name)


def pair(name):
    """Returns the flags of a certificate."""
    return ["--tls-cert", certificate(f"{name}.pem"), "--tls-key", certificate(f"{name}.key")]


class Server:
    """A running `wsloop echo`. `ports` contains the port of each listener, `port` the first."""

    def __init__(self, *args, listen=("tls:127.0.0.1:0",), certificates=("main",), log="info"):
        command = [WSLOOP, "echo"]
        for address in listen:
            command += ["-l", address]
        for name in certificates:
            command += pair(name)
        # Variables of the caller must not change the log level or limits.
        env = {name: value for name, value in os.environ.items() if not name.startswith("WSLOOP")}
        env["RUST_LOG"] = log
        self.process = subprocess.Popen(
            command + [*args],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=env,
        )
        self.log = []
        self._changed = threading.Condition()
        self._reader = threading.Thread(target=self._read_log, daemon=True)
        self._reader.start()
        self.urls = []
        for _ in listen:
            line = self.process.stdout.readline()
            found = re.match(r"listening on (wss?://\S+)", line)
            if not found:
                self.kill()
                raise AssertionError(f"not an announcement: {line!r}\n{self.text()}")
            self.urls.append(found[1])
        self.ports = [urllib.parse.urlsplit(url).port for url in self.urls]
        self.port = self.ports[0]

    def _read_log(self):
        for line in self.process.stderr:
            with self._changed:
                self.log.append(line.rstrip("\n"))
                self._changed.notify_all()
        with self._changed:
            self._changed.notify_all()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.kill()

    def kill(self):
        self.process.kill()
        self.process.wait()
        self._reader.join(WAIT_SECONDS)
        self.process.stdout.close()
        self.process.stderr.close()

    def text(self):
        """Returns the log so far."""
        with self._changed:
            return "\n".join(self.log)

    def logged(self, pattern, seconds=WAIT_SECONDS, after=0):
        """Waits until a line of the log, after the first `after` lines, matches. Returns the line."""
        deadline = time.monotonic() + seconds
        with self._changed:
            while True:
                for line in self.log[after:]:
                    if re.search(pattern, line):
                        return line
                left = deadline - time.monotonic()
                if left <= 0 or (self.process.poll() is not None and not self._reader.is_alive()):
                    raise AssertionError(f"no line of the log matches {pattern!r}:\n" + "\n".join(self.log))
                self._changed.wait(min(left, 1))

    def signal(self, number):
        """Sends a signal. Returns the number of lines that the log had before."""
        with self._changed:
            count = len(self.log)
        self.process.send_signal(number)
        return count

    def reload(self, pattern):
        """Sends SIGHUP, and waits for the line of the log that reports the result."""
        return self.logged(pattern, after=self.signal(signal.SIGHUP))

    def stop(self):
        """Stops the server gracefully, and returns its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(WAIT_SECONDS)

    def rss(self):
        """Returns the resident memory in bytes."""
        with open(f"/proc/{self.process.pid}/statm") as statm:
            return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def cpu_seconds(self):
        with open(f"/proc/{self.process.pid}/stat") as stat:
            fields = stat.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Files:
    """A certificate and a key that a test replaces while the server runs."""

    def __init__(self, test):
        directory = tempfile.mkdtemp()
        test.addCleanup(shutil.rmtree, directory)
        self.certificate = os.path.join(directory, "certificate.pem")
        self.key = os.path.join(directory, "key.pem")
        self.put("main", "main")

    def put(self, certificate_name, key_name):
        for path, name in [(self.certificate, f"{certificate_name}.pem"), (self.key, f"{key_name}.key")]:
            shutil.copy(certificate(name), path)

    def flags(self):
        return ["--tls-cert", self.certificate, "--tls-key", self.key]


class TestCase(unittest.TestCase):
    """A test with servers."""

    maxDiff = None

    def server(self, *args, **options):
        server = Server(*args, **options)
        self.addCleanup(server.kill)
        return server

    def eventually(self, condition, what, seconds=WAIT_SECONDS):
        """Waits until a condition holds."""
        deadline = time.monotonic() + seconds
        while not condition():
            self.assertLess(time.monotonic(), deadline, f"not within {seconds} s: {what}")
            time.sleep(0.02)
