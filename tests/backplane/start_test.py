"""The start of a server at Redis: errors, passwords, permissions, and what /readyz answers."""

import asyncio
import os
import re
import subprocess
import tempfile
import time

from members import OPTIONS, Topic
from servers import WSLOOP, FakeRedis, TestCase, environment, failed_start
from websockets import InvalidStatus
from websockets.asyncio.client import connect

GUIDE = os.path.join(os.path.dirname(__file__), "../../src/guide/processes.md")


class Start(TestCase):
    """Errors that every attempt would have end the server at once, with one line that names the remedy."""

    async def refused(self, pattern, *args, variables=None):
        code, log, seconds = await asyncio.to_thread(failed_start, *args, variables=variables)
        errors = [line for line in log if "test page" not in line]
        self.assertEqual((code, len(errors)), (1, 1), log)
        self.assertRegex(errors[0], pattern)
        self.assertLess(seconds, 5)
        print(f"{self._testMethodName}: {errors[0]}")

    async def test_no_password(self):
        redis = self.redis("--requirepass", "S3cret")
        await self.refused("password.*NOAUTH", "--redis", redis.url())

    async def test_wrong_password(self):
        redis = self.redis("--requirepass", "S3cret")
        url = f"redis://:Wr0ng@127.0.0.1:{redis.port}"
        await self.refused("WRONGPASS", variables={"WSLOOP_REDIS": url})

    async def test_missing_permission(self):
        redis = self.redis("--user", *"wsloop on >S3cret resetchannels &other:* -@all +hello +publish +subscribe".split())
        await self.refused("NOPERM", "--redis", f"redis://wsloop:S3cret@127.0.0.1:{redis.port}")

    async def test_server_that_knows_resp2_only(self):
        for error in [b"-ERR unknown command 'HELLO', with args beginning with: '3'\r\n",
                      b"-NOPROTO unsupported protocol version\r\n"]:
            fake = await FakeRedis().start()
            fake.hello = error
            await self.refused("RESP3|lacks a command", "--redis", fake.url())
            self.assertEqual(fake.connections, 1)
            fake.server.close()

    async def test_password_file_that_does_not_exist(self):
        await self.refused("/no/such/file", "--redis", "redis://127.0.0.1:1", "--redis-password-file", "/no/such/file")

    async def test_sigterm_ends_a_server_that_waits_for_its_password(self):
        with tempfile.TemporaryDirectory() as directory:
            pipe = os.path.join(directory, "password")
            os.mkfifo(pipe)
            server = subprocess.Popen(
                [WSLOOP, "serve", "-l", "127.0.0.1:0", "-r", "/chat=broadcast", "--redis", "redis://127.0.0.1:1",
                 "--redis-password-file", pipe],
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment(),
            )
            self.addCleanup(server.kill)
            await asyncio.sleep(0.5)
            self.assertIsNone(server.poll())
            server.terminate()
            await self.eventually(lambda: server.poll() is not None, "the server has ended", 5)


class Secrets(TestCase):
    async def use(self, broker, *args, **variables):
        """Runs a server, also while the password is wrong. Returns everything that others can see of it."""
        server = self.server(None, *args, log="trace", variables=variables)
        topic = Topic(self, [server])
        await self.eventually(server.is_whole, "the server is connected to Redis")
        member = await topic.join(server, "member")
        await member.session.socket.send("hello")
        await self.eventually(lambda: member.session.log == ["hello"], "the echo")
        broker.cli("CONFIG", "SET", "requirepass", "0ther")
        broker.password = "0ther"
        broker.cli("CLIENT", "KILL", "TYPE", "pubsub")
        await self.eventually(lambda: server.lines("WRONGPASS"), "the reason is logged")
        with open(f"/proc/{server.pid}/cmdline") as cmdline:
            seen = [*server.log, cmdline.read(), (await server.get("/metrics"))[1]]
        for command in [["--help"], ["serve", "--help"]]:
            seen.append(subprocess.run([WSLOOP, *command], env=environment(**variables), capture_output=True, text=True).stdout)
        return "\n".join(seen)

    async def test_secret_of_the_variable_is_never_shown(self):
        broker = self.redis("--requirepass", "S3cret")
        broker.password = "S3cret"
        seen = await self.use(broker, WSLOOP_REDIS=f"redis://default:S3cret@127.0.0.1:{broker.port}")
        self.assertNotIn("S3cret", seen)

    async def test_secret_of_the_file_is_never_shown(self):
        broker = self.redis("--requirepass", "S3cret")
        broker.password = "S3cret"
        path = os.path.join(broker.directory, "password")
        with open(path, "w") as file:
            file.write("S3cret\n")
        seen = await self.use(broker, "--redis", broker.url(), "--redis-password-file", path)
        self.assertNotIn("S3cret", seen)

    async def test_secret_of_a_wrong_url_is_never_shown(self):
        for url in ["redis://user:S3cret@", "redis://user:S3cret@host:x", "rediss://user:S3cret@host", "redis//:S3cret@host",
                    "redis://user:S3cret@host/7", "redis://user:S3cret@host?x=y"]:
            for args, variables in [([], {"WSLOOP_REDIS": url}), (["--redis", url], {})]:
                code, log, _ = await asyncio.to_thread(failed_start, *args, variables=variables)
                self.assertEqual(code, 2, (url, log))
                self.assertNotIn("S3cret", "\n".join(log))


class Permissions(TestCase):
    async def test_permissions_of_the_guide_are_enough(self):
        with open(GUIDE) as guide:
            words = re.search(r"^user (wsloop on >SECRET .*)$", guide.read(), re.MULTILINE)[1].split()
        broker = self.redis("--user", *words)
        server = self.server(f"redis://wsloop:SECRET@127.0.0.1:{broker.port}")
        await self.eventually(server.is_whole, "the server is connected to Redis")
        topic = Topic(self, [server])
        await topic.join(server, "member", rate=20)
        await asyncio.sleep(0.5)
        broker.cli("CLIENT", "KILL", "TYPE", "pubsub")
        await asyncio.sleep(0.2)
        await self.eventually(server.is_whole, "the server is connected to Redis again")
        await self.eventually(lambda: topic.sessions()[0].code == 1013, "the member is closed")
        await topic.settle()
        topic.check()
        self.assertEqual(server.lines("NOPERM|permission"), [])


class Readiness(TestCase):
    async def test_readiness_follows_the_broker_and_health_does_not(self):
        broker = self.redis()
        broker.kill()
        server = self.server(broker.url(), "--broker-grace", "2")

        async def answers(ready, seconds):
            begin = time.monotonic()
            while time.monotonic() < begin + seconds:
                self.assertEqual((await server.get("/healthz"))[0], 200)
                self.assertEqual((await server.get("/readyz"))[0], ready)
                async with connect(server.url + "/echo", **OPTIONS) as socket:
                    await socket.send("hello")
                    self.assertEqual(await socket.recv(), "hello")
                await asyncio.sleep(0.1)

        async def has_status(status):
            return (await server.get("/readyz"))[0] == status

        await answers(503, 0.5)
        broker.start()
        await self.eventually(lambda: has_status(200), "/readyz after the first connection")
        await answers(200, 0.5)
        broker.kill()
        await answers(200, 1.5)
        took = await self.eventually(lambda: has_status(503), "/readyz after the grace period")
        self.assertLess(took, 1)
        await answers(503, 0.5)
        with self.assertRaises(InvalidStatus) as refused:
            await connect(server.url + "/chat", **OPTIONS)
        self.assertEqual(refused.exception.response.status_code, 503)
        broker.start()
        await self.eventually(lambda: has_status(200), "/readyz after the return")
        async with connect(server.url + "/chat", **OPTIONS) as socket:
            await socket.send("hello")
            self.assertEqual(await socket.recv(), "hello")
