"""Faults of Redis, and of the network before it: no message is missing without a Close, and none arrives twice.

Three servers, three members on each, of which one sends. In the tests of the network, the first server is behind a proxy.
A client of the first server's echo route is served as if nothing had happened.
"""

import asyncio
import collections
import os
import random
import signal
import time

from proxy import Proxy
from members import TRY_AGAIN, Echo, Topic
from servers import FakeRedis, TestCase

# What a person reads in the log about a gap.
ENDED = r"; a gap in all \d+ topics; \d+ batches of messages may be lost"
AGAIN = r"connected to the broker again after"
WHOLE = r"all topics are subscribed again, \d+\.\d+ s after the gap began"
GRACE_OVER = r"the broker has been away for .*: closing \d+ members with 1013, \d+ batches of messages are dropped"

# Closes after a gap are spread over 5 s.
SPREAD_SECONDS = 5


class Faults(TestCase):
    """`begin` starts the servers and the traffic, and `end` checks what a fault has done."""

    async def begin(self, *args, redis_args=(), proxy=None, unix=False, rate=50, size=0):
        self.broker = self.redis(*redis_args)
        self.proxy = None
        urls = [self.broker.unix_url() if unix else self.broker.url()] * 3
        if proxy is not None:
            self.proxy = Proxy(self.broker.port)
            for name, value in proxy.items():
                setattr(self.proxy, name, value)
            await self.proxy.start()
            self.addCleanup(self.proxy.close)
            urls[0] = self.proxy.url()
        self.servers = [self.server(url, *args) for url in urls]
        self.topic = Topic(self, self.servers)
        for number, server in enumerate(self.servers):
            await self.eventually(server.is_whole, "the server is connected to Redis")
            await self.topic.join(server, f"s{number}", rate=rate, size=size)
            for name in "ab":
                await self.topic.join(server, f"{name}{number}")
        self.echo = Echo(self, self.servers[0])
        await self.traffic(1)
        self.members_before = [session for session in self.topic.sessions() if session.is_open]

    async def traffic(self, seconds):
        await asyncio.sleep(seconds)

    async def whole(self, seconds=20):
        for server in self.servers:
            await self.eventually(server.is_whole, "all topics are subscribed again", seconds)

    async def end(self, gaps):
        """`gaps`: the number of gaps of each server; None: any number."""
        await self.whole()
        metrics = [await server.metrics() for server in self.servers]
        found = [one["gaps"] for one in metrics]
        if gaps is not None:
            self.assertEqual(found, gaps, [server.log for server in self.servers])
        # Until every member that may have missed messages is closed.
        if any(found):
            await asyncio.sleep(SPREAD_SECONDS + 0.5)
        await self.topic.settle()
        metrics = [await server.metrics() for server in self.servers]
        by_server = dict(zip(self.servers, (one["gaps"] for one in metrics)))
        if gaps is not None:
            self.assertEqual(list(by_server.values()), gaps, "there was no further gap")
        self.topic.check(by_server)
        for server, one in zip(self.servers, metrics):
            closed = [session for session in self.topic.sessions() if session.server is server and not session.is_open]
            self.assertEqual(len(closed), one["members_notified"], "members are closed because of gaps, and counted")
            before = [session for session in self.members_before if session.server is server]
            if one["gaps"]:
                self.assertFalse([session for session in before if session.is_open], "each member of before is closed")
            else:
                self.assertFalse(closed)
            self.check_log(server, one["gaps"])
            self.assertEqual((one["outbox_bytes"], one["waiting_sessions"], one["invalid"]), (0, 0, 0))
        total = collections.Counter()
        for one in metrics:
            total.update(one)
        lost = total["publications"] - len(self.topic.seen())
        counted = total["unacknowledged_batches"] + total["discarded_batches"]
        if not counted:
            self.assertEqual(lost, 0, "what is lost is counted")
        # A batch has one message at least.
        self.assertLessEqual(lost, counted + total["publications"] - total["batches"], "what is lost is counted")
        sent = sum(len(session.sent) for session in self.topic.sessions())
        print(f"{self._testMethodName}: {sent} sent, {total['publications']} published, {lost} lost, {counted} counted; "
              f"gaps {found}, {total['members_notified']} members closed; "
              f"echo p99 {self.echo.p99():.1f} ms, longest {max(self.echo.seconds) * 1000:.0f} ms")

    def check_log(self, server, gaps):
        lines = [line for line in server.lines("broker|topics|publications") if " refused, path " not in line]
        # The first connection, and for each gap: its end, at most three reasons and the end of the grace, and the return.
        self.assertLessEqual(len(lines), 1 + gaps * 7, "\n".join(lines))
        self.assertEqual(len(server.lines(ENDED)), gaps, "\n".join(lines))
        # A connection may end before all topics are subscribed again.
        for pattern in [AGAIN, WHOLE]:
            self.assertIn(len(server.lines(pattern)), range(gaps // 2, gaps + 1), "\n".join(lines))
        if os.environ.get("SHOW_LOG"):
            print("\n".join(lines))

    # Redis.

    async def test_no_fault(self):
        await self.begin()
        await self.traffic(2)
        await self.end([0, 0, 0])

    async def restart(self, seconds, *args):
        await self.begin(*args)
        self.broker.kill()
        await self.traffic(seconds)
        self.broker.start()
        took = await self.eventually(self.servers[0].is_whole, "all topics are subscribed again")
        self.assertLess(took, 5)
        await self.end([1, 1, 1])
        print(f"{self._testMethodName}: whole {took * 1000:.0f} ms after Redis accepts")

    async def test_kill_and_restart_at_once(self):
        await self.restart(0)

    async def test_kill_and_restart_after_2_s(self):
        await self.restart(2)
        self.assertEqual(self.servers[0].lines(GRACE_OVER), [])

    async def test_kill_and_restart_after_10_s(self):
        await self.restart(10)
        self.assertEqual(len(self.servers[0].lines(GRACE_OVER)), 1)

    async def test_kill_twice_over_a_unix_socket(self):
        await self.begin(unix=True)
        for _ in range(2):
            self.broker.kill()
            await self.traffic(0.5)
            self.broker.start()
            await self.whole()
            await self.traffic(1)
        await self.end([2, 2, 2])

    async def stop_redis(self, seconds, gaps, **options):
        await self.begin(**options)
        self.broker.signal(signal.SIGSTOP)
        await self.traffic(seconds)
        self.broker.signal(signal.SIGCONT)
        await self.end(gaps)

    async def test_sigstop_of_2_s_is_no_gap(self):
        await self.stop_redis(2, [0, 0, 0])

    async def test_sigstop_of_10_s(self):
        await self.stop_redis(10, [1, 1, 1])

    async def test_sigstop_of_10_s_over_a_unix_socket(self):
        await self.stop_redis(10, [1, 1, 1], unix=True)

    async def test_sigstop_of_a_server_for_12_s(self):
        await self.begin()
        self.servers[1].signal(signal.SIGSTOP)
        await self.traffic(12)
        self.servers[1].signal(signal.SIGCONT)
        await self.traffic(1)
        await self.end(None)
        for server in [self.servers[0], self.servers[2]]:
            self.assertEqual((await server.metrics())["gaps"], 0)

    async def test_client_kill(self):
        await self.begin()
        self.broker.cli("CLIENT", "KILL", "TYPE", "pubsub")
        await self.end([1, 1, 1])

    async def test_client_kill_of_one_server(self):
        await self.begin()
        names = [word for word in self.broker.cli("CLIENT", "LIST", "TYPE", "pubsub").split() if word.startswith("id=")]
        self.broker.cli("CLIENT", "KILL", "ID", names[0].removeprefix("id="))
        await self.end(None)
        self.assertEqual(sorted([(await server.metrics())["gaps"] for server in self.servers]), [0, 0, 1])

    async def test_client_pause_of_3_s_is_no_gap(self):
        await self.begin()
        self.broker.cli("CLIENT", "PAUSE", "3000")
        await self.traffic(3.5)
        await self.end([0, 0, 0])

    async def test_small_output_buffer_of_redis(self):
        await self.begin(proxy={}, redis_args=["--client-output-buffer-limit", "pubsub 4mb 0 0"])
        self.proxy.last().from_redis.stall()
        # The buffers of the kernel and of the proxy hold some megabytes as well.
        burst = "x" * (512 << 10)
        sender = self.topic.members[3].session
        for number in range(50):
            message = f"{sender.member.name}:burst:{number} {burst}"
            sender.sent.append(message)
            await sender.socket.send(message)
            await self.eventually(lambda: message in sender.log[-100:], "the other servers are served")
        await self.eventually(lambda: len(self.broker.cli("CLIENT", "LIST", "TYPE", "pubsub").splitlines()) <= 2,
                              "Redis has cut the first server off")
        self.proxy.last().from_redis.passes.set()
        await self.end(None)
        self.assertGreaterEqual((await self.servers[0].metrics())["gaps"], 1)

    async def test_password_changed_while_running(self):
        await self.begin("--broker-grace", "2")
        self.broker.cli("CONFIG", "SET", "requirepass", "other")
        self.broker.password = "other"
        await self.traffic(0.5)
        self.assertTrue(await self.servers[0].is_whole(), "an established connection remains")
        self.broker.cli("CLIENT", "KILL", "TYPE", "pubsub")
        await self.traffic(5)
        for server in self.servers:
            self.assertIsNone(server.process.poll(), "the server runs")
            self.assertEqual((await server.get("/readyz"))[0], 503)
            self.assertEqual(len(server.lines("NOAUTH")), 1)
        self.broker.cli("CONFIG", "SET", "requirepass", "")
        self.broker.password = None
        await self.end([1, 1, 1])

    async def test_each_failover_to_a_replica_is_logged(self):
        """A name or an address may lead to the former primary server after a failover."""
        await self.begin()
        warning = "the broker is a replica"
        for number in (1, 2):
            self.broker.cli("REPLICAOF", "127.0.0.1", "1")
            self.broker.cli("CLIENT", "KILL", "TYPE", "pubsub")
            for server in self.servers:
                await self.eventually(lambda: len(server.lines(warning)) == number, f"warning {number} about a replica")
            self.broker.cli("REPLICAOF", "NO", "ONE")
            self.broker.cli("CLIENT", "KILL", "TYPE", "pubsub")
            for server in self.servers:
                await self.eventually(server.is_whole, "the server is connected to the primary server")
            await self.traffic(0.5)
        await self.end([4, 4, 4])

    async def test_primary_that_becomes_a_replica_is_a_gap(self):
        """It closes no connection and accepts publications, which do not reach the new primary server."""
        await self.begin()
        self.broker.cli("REPLICAOF", "127.0.0.1", "1")
        for server in self.servers:
            await self.eventually(lambda: server.lines("has become a replica"), "the new role is noticed")
            await self.eventually(lambda: server.lines("the broker is a replica"), "the server is connected again")
        self.broker.cli("REPLICAOF", "NO", "ONE")
        for server in self.servers:
            await self.eventually(lambda: server.lines("has become a primary"), "the return is noticed")
        await self.end([2, 2, 2])

    async def test_maxclients(self):
        await self.begin("--broker-grace", "2")
        # The only client that Redis accepts is the test.
        reader, writer = await asyncio.open_connection("127.0.0.1", self.broker.port)
        for command in ["CONFIG SET maxclients 1", "CLIENT KILL TYPE pubsub"]:
            writer.write(command.encode() + b"\r\n")
            self.assertRegex(await reader.readline(), rb"\+OK|:3")
        await self.traffic(4)
        for server in self.servers:
            self.assertIsNone(server.process.poll(), "the server runs")
            self.assertEqual((await server.get("/readyz"))[0], 503)
            self.assertEqual(len(server.lines("max number of clients")), 1)
        writer.write(b"CONFIG SET maxclients 100\r\n")
        self.assertEqual(await reader.readline(), b"+OK\r\n")
        writer.close()
        await self.end([1, 1, 1])

    # The network between the first server and Redis.

    async def test_cut(self):
        await self.begin(proxy={})
        self.proxy.last().cut()
        await self.end([1, 0, 0])

    async def cut_for(self, seconds):
        await self.begin(proxy={})
        self.proxy.refuses = True
        self.proxy.last().cut()
        await self.traffic(seconds)
        self.proxy.refuses = False
        await self.end([1, 0, 0])

    async def test_cut_for_3_s(self):
        await self.cut_for(3)

    async def test_cut_for_10_s(self):
        await self.cut_for(10)

    async def test_ten_cuts_in_a_row(self):
        await self.begin(proxy={})
        for _ in range(10):
            await self.traffic(0.2)
            self.proxy.last().cut()
            await self.whole()
        await self.end([10, 0, 0])

    async def test_half_closed_by_redis(self):
        await self.begin(proxy={})
        self.proxy.last().near.write_eof()
        await self.end([1, 0, 0])

    async def test_half_closed_to_redis(self):
        await self.begin(proxy={})
        self.proxy.last().far.write_eof()
        await self.end([1, 0, 0])

    async def stall(self, *directions, seconds=12):
        """Stalls directions of the first connection, and passes what has waited at the end: the ghost of a connection."""
        await self.begin(proxy={})
        first = self.proxy.last()
        for name in directions:
            getattr(first, name).stall()
        async def is_detected():
            return (await self.servers[0].metrics())["gaps"] == 1
        took = await self.eventually(is_detected, "the stall is detected", seconds)
        print(f"{self._testMethodName}: detected after {took:.1f} s")
        await self.whole()
        for name in directions:
            getattr(first, name).passes.set()
        await self.end([1, 0, 0])

    async def test_stalled_to_redis(self):
        await self.stall("to_redis")

    async def test_stalled_from_redis(self):
        await self.stall("from_redis")

    async def test_stalled_both_ways(self):
        await self.stall("to_redis", "from_redis")

    async def test_stalled_for_2_s_is_no_gap(self):
        await self.begin(proxy={})
        link = self.proxy.last()
        link.to_redis.stall()
        link.from_redis.stall()
        await self.traffic(2)
        link.to_redis.passes.set()
        link.from_redis.passes.set()
        await self.end([0, 0, 0])

    async def test_64_kb_a_second(self):
        await self.begin(proxy={"chunk": 4096}, size=1000)
        link = self.proxy.last()
        link.to_redis.rate = link.from_redis.rate = 64_000
        await self.traffic(6)
        link.to_redis.rate = link.from_redis.rate = None
        # A connection so slow may end, but is not to lose anything silently.
        await self.end(None)

    async def test_random_faults_in_a_row(self):
        """Property: whatever happens, no message is missing silently and none arrives twice."""
        seed = int(os.environ.get("SEED") or random.randrange(1 << 32))
        choose = random.Random(seed)
        await self.begin(proxy={})

        def restart():
            self.broker.kill()
            self.broker.start()

        faults = {
            "cut": lambda: self.proxy.last().cut(),
            "half-close": lambda: self.proxy.last().near.write_eof(),
            "half-close to Redis": lambda: self.proxy.last().far.write_eof(),
            "stall": lambda: self.proxy.last().from_redis.stall(),
            "stall to Redis": lambda: self.proxy.last().to_redis.stall(),
            "continue": lambda: [direction.passes.set() for link in self.proxy.connections
                                 for direction in (link.to_redis, link.from_redis)],
            "kill of a client": lambda: self.broker.cli("CLIENT", "KILL", "TYPE", "pubsub"),
            "pause": lambda: self.broker.cli("CLIENT", "PAUSE", "500"),
            "restart": restart,
        }
        done = []
        end = time.monotonic() + (60 if os.environ.get("LONG") else 12)
        while time.monotonic() < end:
            done.append(choose.choice(list(faults)))
            faults[done[-1]]()
            await self.traffic(choose.choice([0, 0.02, 0.1, 0.5, 1, 3]))
        print(f"SEED={seed}: {', '.join(done)}")
        faults["continue"]()
        # A stall may still be noticed.
        await self.traffic(6)
        await self.end(None)

    async def test_byte_by_byte(self):
        await self.begin(proxy={"chunk": 1}, rate=20)
        await self.traffic(2)
        await self.end([0, 0, 0])


class Wedge(TestCase):
    async def test_broker_that_answers_and_delivers_nothing_is_detected_within_two_probes(self):
        fake = await FakeRedis().start()
        server = self.server(fake.url())
        topic = Topic(self, [server])
        await self.eventually(server.is_whole, "the server is connected")
        member = await topic.join(server, "idle")
        # Two probes that come back.
        await asyncio.sleep(0.5)
        fake.delivers = False
        async def is_detected():
            return (await server.metrics())["gaps"] == 1
        took = await self.eventually(is_detected, "no delivery is detected", 15)
        self.assertLess(took, 11)
        await self.eventually(lambda: member.sessions[0].code == TRY_AGAIN, "the member is closed", 15)
        print(f"{self._testMethodName}: after {took:.1f} s; {server.lines(ENDED)[0]}")
        fake.delivers = True
        await self.eventually(server.is_whole, "the server is connected again")

    async def test_loading_is_waited_for(self):
        fake = await FakeRedis().start()
        fake.hello = b"-LOADING Redis is loading the dataset in memory\r\n"
        server = self.server(fake.url())
        await asyncio.sleep(2)
        self.assertEqual((await server.get("/readyz"))[0], 503)
        self.assertEqual(len(server.lines("LOADING")), 1, server.log)
        fake.hello = None
        took = await self.eventually(server.is_whole, "the server is connected")
        self.assertEqual((await server.get("/readyz"))[0], 200)
        print(f"{self._testMethodName}: {fake.connections} attempts, then connected after {took * 1000:.0f} ms")
