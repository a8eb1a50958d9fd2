"""Runs Redis and the server under test as processes, and a Redis that misbehaves in this process.

The path of the binary is in WSLOOP, which tests/backplane/run sets. A process ends with its test, also if the test fails.
"""

import asyncio
import contextlib
import os
import re
import resource
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
import unittest

WSLOOP = os.environ["WSLOOP"]
REDIS = os.environ.get("REDIS_SERVER", "redis-server")
CLI = REDIS.replace("-server", "-cli")
WAIT_SECONDS = 20
ROUTES = ["/chat=broadcast", "/topic/*=broadcast", "/echo=echo"]

# Clients and connections in one process.
_soft, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (_hard, _hard))
DESCRIPTORS_MAX = _hard


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Redis:
    """A redis-server on a free port and on a Unix socket."""

    def __init__(self, *args):
        self.port = free_port()
        self.directory = tempfile.mkdtemp()
        self.socket = os.path.join(self.directory, "socket")
        self.args = args
        self.password = None
        self.process = None
        self.start()

    def spawn(self):
        """Starts the process, without waiting until it accepts."""
        self.process = subprocess.Popen(
            [REDIS, "--port", str(self.port), "--bind", "127.0.0.1", "--unixsocket", self.socket]
            + ["--save", "", "--appendonly", "no", "--dir", self.directory, *self.args],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )

    def start(self):
        self.spawn()
        self.until_it_accepts()

    def until_it_accepts(self):
        deadline = time.monotonic() + WAIT_SECONDS
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port)):
                return
            if time.monotonic() > deadline or self.process.poll() is not None:
                raise AssertionError("redis-server does not start")
            time.sleep(0.002)

    def kill(self):
        self.process.kill()
        self.process.wait()

    def close(self):
        self.kill()
        shutil.rmtree(self.directory, ignore_errors=True)

    def signal(self, number):
        self.process.send_signal(number)

    def url(self):
        return f"redis://127.0.0.1:{self.port}"

    def unix_url(self):
        return f"unix:{self.socket}"

    def cli(self, *words, check=True, data=None):
        """Sends a command with redis-cli, with `data` as its last argument, and returns the answer."""
        command = [CLI, "-p", str(self.port)] + (["-x"] if data is not None else [])
        env = {**os.environ, "REDISCLI_AUTH": self.password} if self.password else None
        done = subprocess.run([*command, *words], input=data, capture_output=True, timeout=WAIT_SECONDS, env=env)
        answer = (done.stdout + done.stderr).decode().strip()
        if check and (done.returncode != 0 or re.match(r"[A-Z]+ .*[a-z]", answer)):
            raise AssertionError(f"redis-cli {words}: {answer}")
        return answer


def environment(log="info", **variables):
    """Returns the variables of a server: those of this process, without limits for the server."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("WSLOOP")}
    return {**env, "RUST_LOG": log, **variables}


class Server:
    """A running `wsloop serve`. `url` is that of its WebSockets, without a path."""

    def __init__(self, redis=None, *args, listen="127.0.0.1:0", log="info", variables=None):
        routes = [word for route in ROUTES for word in ("-r", route)]
        self.process = subprocess.Popen(
            [WSLOOP, "serve", "-l", listen, "-l", "metrics:127.0.0.1:0", *routes]
            + (["--redis", redis] if redis else [])
            + list(args),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment(log, **(variables or {})),
        )
        self.pid = self.process.pid
        self.log = []
        self.reader = threading.Thread(target=self.read_log, daemon=True)
        self.reader.start()
        found = [re.match(r"(?:listening|metrics) on (\S+)/$", self.process.stdout.readline()) for _ in range(2)]
        if not all(found):
            self.kill()
            raise AssertionError("no announcement:\n" + "\n".join(self.log))
        self.url = found[0][1]
        self.metrics_port = int(found[1][1].rpartition(":")[2])

    def read_log(self):
        for line in self.process.stderr:
            self.log.append(line.rstrip("\n"))

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.reader.join(WAIT_SECONDS)
        self.process.stdout.close()
        self.process.stderr.close()

    def signal(self, number):
        self.process.send_signal(number)

    def rss(self):
        """Returns the resident memory in bytes."""
        with open(f"/proc/{self.pid}/statm") as statm:
            return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def lines(self, pattern):
        """Returns the lines of the log that match."""
        return [line for line in self.log if re.search(pattern, line)]

    async def get(self, path):
        """Sends GET to the listener for metrics. Returns the status and the body."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.metrics_port)
        try:
            writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
            answer = (await reader.read()).decode()
        finally:
            writer.close()
        return int(answer.split()[1]), answer.partition("\r\n\r\n")[2]

    async def metrics(self):
        """Returns the metrics of the broker, without `wsloop_broker_` and `_total`."""
        _, text = await self.get("/metrics")
        found = re.findall(r"^wsloop_broker_(\w+?)(?:_total)? (\d+)$", text, re.MULTILINE)
        return {name: int(value) for name, value in found}

    async def is_whole(self):
        return (await self.metrics())["connected"] == 1


def failed_start(*args, variables=None, seconds=WAIT_SECONDS):
    """Runs a server that is expected to stop at once. Returns the exit code, the log, and the seconds that it ran."""
    begin = time.monotonic()
    done = subprocess.run(
        [WSLOOP, "serve", "-l", "127.0.0.1:0", "-r", "/chat=broadcast", *args],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=seconds,
        env=environment(**(variables or {})),
    )
    return done.returncode, done.stderr.splitlines(), time.monotonic() - begin


class TestCase(unittest.IsolatedAsyncioTestCase):
    """A test with servers."""

    maxDiff = None

    async def asyncSetUp(self):
        # unittest turns this on. It slows everything down.
        asyncio.get_running_loop().set_debug(False)

    def redis(self, *args):
        redis = Redis(*args)
        self.addCleanup(redis.close)
        return redis

    def server(self, redis=None, *args, **options):
        server = Server(redis, *args, **options)
        self.addCleanup(server.kill)
        return server

    async def eventually(self, condition, what, seconds=WAIT_SECONDS):
        """Waits until a condition holds, which may be a coroutine function. Returns the seconds that it took."""
        begin = time.monotonic()
        while True:
            result = condition()
            if asyncio.iscoroutine(result):
                result = await result
            took = time.monotonic() - begin
            if result:
                return took
            self.assertLess(took, seconds, f"not within {seconds} s: {what}")
            await asyncio.sleep(0.005)


class FakeRedis:
    """A Redis without memory that does what a test wants. Commands are answered by `answer`."""

    def __init__(self):
        self.delivers = True
        self.hello = None  # The error with which HELLO is answered.
        self.connections = 0
        self.commands = []

    async def start(self):
        self.server = await asyncio.start_server(self.serve, "127.0.0.1", 0)
        self.port = self.server.sockets[0].getsockname()[1]
        return self

    def url(self):
        return f"redis://127.0.0.1:{self.port}"

    async def serve(self, reader, writer):
        self.connections += 1
        channels = set()
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while True:
                count = int((await reader.readuntil(b"\r\n"))[1:])
                words = []
                for _ in range(count):
                    length = int((await reader.readuntil(b"\r\n"))[1:])
                    words.append((await reader.readexactly(length + 2))[:-2])
                self.commands.append(words[0])
                writer.write(self.answer(words, channels))
        writer.close()

    def answer(self, words, channels):
        name = words[0].upper()
        if name == b"HELLO":
            return self.hello or b"%2\r\n$5\r\nproto\r\n:3\r\n$2\r\nid\r\n:7\r\n"
        if self.hello:
            return self.hello
        if name == b"SUBSCRIBE":
            channels.update(words[1:])
            return b"".join(push(b"subscribe", channel) + b":1\r\n" for channel in words[1:])
        if name == b"PUBLISH":
            delivered = words[1] in channels and self.delivers
            return (push(b"message", words[1]) + string(words[2]) if delivered else b"") + b":1\r\n"
        if name == b"PING":
            return b"+PONG\r\n"
        return b"$0\r\n\r\n"


def string(data):
    return b"$%d\r\n%s\r\n" % (len(data), data)


def push(kind, channel):
    return b">3\r\n" + string(kind) + string(channel)


__all__ = [
    "DESCRIPTORS_MAX", "FakeRedis", "Redis", "Server", "TestCase", "WAIT_SECONDS", "WSLOOP", "environment", "failed_start",
    "free_port", "signal",
]
