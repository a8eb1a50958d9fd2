"""Recovery of many topics, memory while Redis is away, slow members and stopped servers."""

import asyncio
import os
import signal
import struct
import time

from members import Topic
from servers import DESCRIPTORS_MAX, TestCase, WAIT_SECONDS

TOPICS = min(10_000, DESCRIPTORS_MAX - 200)
MIB = 1 << 20

# The frame with which members are closed after a gap.
CLOSE = b"\x88\x19\x03\xf5messages may be missing"


class Raw(asyncio.Protocol):
    """A WebSocket that costs little: it counts the bytes that it receives, and does not read them if `reads` is false."""

    def __init__(self, path, reads=True):
        self.path, self.reads = path, reads
        self.is_open = asyncio.get_running_loop().create_future()
        self.received = 0
        self.close = b""
        self.is_lost = False
        self.can_write = asyncio.Event()
        self.can_write.set()

    def connection_made(self, transport):
        self.transport = transport
        transport.write(
            f"GET {self.path} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
        )

    def data_received(self, data):
        if not self.is_open.done():
            self.is_open.set_result(data.startswith(b"HTTP/1.1 101"))
            if not self.reads:
                self.transport.pause_reading()
        else:
            self.received += len(data)
            self.close = data[-len(CLOSE):]

    def pause_writing(self):
        self.can_write.clear()

    def resume_writing(self):
        self.can_write.set()

    def connection_lost(self, _):
        self.is_lost = True
        self.can_write.set()
        if not self.is_open.done():
            self.is_open.set_result(False)


def frame(payload):
    """Returns a binary frame of a client, with a masking key of zeros."""
    header = b"\x82\xfe" + struct.pack("!H", len(payload)) if len(payload) < 1 << 16 else (
        b"\x82\xff" + struct.pack("!Q", len(payload)))
    return header + bytes(4) + payload


async def raw(server, path, **options):
    port = int(server.url.rpartition(":")[2])
    loop = asyncio.get_running_loop()
    _, client = await loop.create_connection(lambda: Raw(path, **options), "127.0.0.1", port)
    return client


class Recovery(TestCase):
    async def test_many_topics_are_whole_soon_after_redis_returns(self):
        broker = self.redis()
        server = self.server(broker.url())
        await self.eventually(server.is_whole, "the server is connected to Redis")
        clients = []
        for first in range(0, TOPICS, 500):
            some = [await raw(server, f"/topic/{number}") for number in range(first, min(first + 500, TOPICS))]
            self.assertTrue(all(await asyncio.gather(*(client.is_open for client in some))))
            clients += some

        def subscribed():
            return int(broker.cli("INFO", "stats").partition("pubsub_channels:")[2].split()[0])

        await self.eventually(lambda: subscribed() >= TOPICS, "all topics are subscribed")
        for pause in [0, 2]:
            connections = (await server.metrics())["connections"]
            broker.kill()
            await asyncio.sleep(pause)
            broker.start()
            accepts = time.monotonic()
            connected = None
            while True:
                metrics = await server.metrics()
                if connected is None and metrics["connections"] > connections:
                    connected = time.monotonic()
                if metrics["connected"] == 1 and connected:
                    break
                self.assertLess(time.monotonic() - accepts, WAIT_SECONDS)
                await asyncio.sleep(0.002)
            whole = time.monotonic()
            print(f"{TOPICS} topics, Redis away for {pause} s: connected {(connected - accepts) * 1000:.0f} ms after it accepts, "
                  f"subscribed {(whole - connected) * 1000:.0f} ms later")
            self.assertLess(whole - accepts, 5)
        # Each member is closed once, with 1013, and the closes are spread over 5 s.
        closed = await self.eventually(lambda: all(client.close == CLOSE for client in clients), "all members are closed")
        self.assertIn(round(closed), range(3, 8))
        print(f"all members closed {closed:.1f} s after that")
        for client in clients:
            client.transport.abort()


class Memory(TestCase):
    """Clients publish as fast as they can while Redis is away."""

    async def publishers(self, count, size, outbox, *args):
        broker = self.redis()
        server = self.server(broker.url(), "--broker-grace", "60", *args)
        await self.eventually(server.is_whole, "the server is connected to Redis")
        message = frame(os.urandom(size))
        clients = [await raw(server, "/chat") for _ in range(count)]
        self.assertTrue(all(await asyncio.gather(*(client.is_open for client in clients))))

        async def publish(client):
            while not client.is_lost and not stop.is_set():
                client.transport.write(message)
                await client.can_write.wait()
                await asyncio.sleep(0.001)

        await asyncio.sleep(0.5)
        before = server.rss()
        broker.kill()
        await asyncio.sleep(0.2)
        stop = asyncio.Event()
        tasks = [asyncio.create_task(publish(client)) for client in clients]
        highest = 0
        for _ in range(25):
            highest = max(highest, server.rss())
            await asyncio.sleep(0.1)
        away = await server.metrics()
        self.assertLessEqual(away["outbox_bytes"], outbox)
        stop.set()
        for client in clients:
            client.transport.abort()
        await asyncio.gather(*tasks)
        broker.start()
        await self.eventually(server.is_whole, "all topics are subscribed again")
        async def is_empty():
            return (await server.metrics())["outbox_bytes"] == 0
        await self.eventually(is_empty, "the outbox is empty")
        await asyncio.sleep(2)
        after = server.rss()
        print(f"{count} clients, {size} B, outbox {outbox >> 10} KiB: RSS {before >> 10} KiB, while Redis is away "
              f"+{(highest - before) >> 10} KiB ({away['outbox_bytes'] >> 10} KiB in the outbox, {away['waiting_sessions']} "
              f"waiting, {away['refused']} refused), after {(after - before) >> 10:+} KiB")
        self.assertLess(highest - before, outbox + 4 * MIB)
        self.assertLess(after - before, 3 * MIB)
        return away

    async def test_each_client_waits_with_its_second_message(self):
        away = await self.publishers(200, 1_000, 8 * MIB)
        self.assertEqual((away["waiting_sessions"], away["refused"]), (200, 0))

    async def test_outbox_is_full(self):
        away = await self.publishers(900, 10_000, 8 * MIB)
        self.assertGreater(away["outbox_bytes"], 8 * MIB - 12_000)

    async def test_small_outbox_is_full(self):
        away = await self.publishers(200, 10_000, MIB, "--broker-outbox", "1M", "--broker-message-bytes-max", "256K")
        self.assertGreater(away["outbox_bytes"], MIB - 12_000)


class Slow(TestCase):
    async def asyncSetUp(self):
        await super().asyncSetUp()
        self.broker = self.redis()
        self.servers = [self.server(self.broker.url()) for _ in range(3)]
        self.topic = Topic(self, self.servers)
        for number, server in enumerate(self.servers):
            await self.eventually(server.is_whole, "the server is connected to Redis")
            await self.topic.join(server, f"s{number}", rate=100, size=2_000)
            await self.topic.join(server, f"a{number}")
        await asyncio.sleep(0.5)

    async def test_slow_member_of_one_server_is_the_only_one_that_notices(self):
        slow = await raw(self.servers[0], "/chat", reads=False)
        self.assertTrue(await slow.is_open)
        fast = self.topic.sessions()
        publisher = fast[2].socket
        # The backlog of a member is limited to 8 MiB, besides what the kernel holds.
        for number in range(80):
            await publisher.send(f"big {number} ".ljust(256 << 10, "z"))
            await asyncio.sleep(0.02)
        await asyncio.sleep(0.5)
        await self.topic.settle()
        self.topic.check()
        self.assertTrue(all(session.is_open for session in fast))
        slow.transport.resume_reading()
        await self.eventually(lambda: slow.is_lost, "the slow member was closed")
        for server in self.servers:
            self.assertEqual((await server.metrics())["gaps"], 0)

    async def test_stopped_server_disturbs_the_others_not(self):
        stopped, *running = self.servers
        stopped.signal(signal.SIGSTOP)
        logs = [session.log for session in self.topic.sessions() if session.server in running]
        counts = [len(log) for log in logs]
        await asyncio.sleep(5)
        for log, count in zip(logs, counts):
            self.assertGreater(len(log) - count, 500, "members of the other servers receive messages all the time")
        stopped.signal(signal.SIGCONT)
        await asyncio.sleep(1)
        gaps = [(await server.metrics())["gaps"] for server in self.servers]
        self.assertEqual(gaps[1:], [0, 0])
        if gaps[0]:
            await asyncio.sleep(5.5)
        await self.topic.settle()
        self.topic.check()
        print(f"a server that was stopped for 5 s: gaps {gaps}")
