"""Three servers, one Redis: every member receives the same messages in the same order, and junk disturbs no member."""

import asyncio
import collections
import os
import ssl

from members import OPTIONS, Topic
from servers import TestCase
from websockets.asyncio.client import connect

# Both sides of each length of a frame's header, of a batch, and the maximum.
SIZES = [0, 1, 2, 125, 126, 127, 4_096, 65_535, 65_536, 65_537, (256 << 10) - 1, 256 << 10, (256 << 10) + 1, 1 << 20]


class Order(TestCase):
    async def everything_arrives_in_one_order(self, url):
        servers = [self.server(url, "--lag-bytes-max", "64M") for _ in range(3)]
        topic = Topic(self, servers)
        for server in servers:
            await self.eventually(server.is_whole, "the server is connected to Redis")
            for number in range(3):
                await topic.join(server, f"member {number} of {server.url}")
        senders = [member.session for member in topic.members if "member 2" not in member.name]
        # The subscription of each server is confirmed.
        await asyncio.gather(*(sender.socket.send("ready") for sender in senders))
        await self.eventually(lambda: all(session.log.count("ready") >= 1 for session in topic.sessions()), "readiness")
        await asyncio.sleep(0.2)
        for session in topic.sessions():
            session.log.clear()
        sent = []

        async def send(index, session):
            for number in range(600):
                message = f"{index}:{number}"
                sent.append(message)
                await session.socket.send(message)
                if number % 100 == 0:
                    await asyncio.sleep(0.05)
            for size in SIZES:
                for message in ["é" * (size // 2) + str(index) * (size % 2), bytes([index]) + os.urandom(size)][:2]:
                    message = message[:size] if isinstance(message, bytes) else message
                    sent.append(message)
                    await session.socket.send(message)
                    # At most one long message of each sender waits for Redis.
                    if size > 65_537:
                        await self.eventually(lambda: message in session.log[-2000:], "the sender's own message")
            # Several batches, if a server reads them in one turn.
            for number in range(150):
                message = f"{index}:burst:{number}".ljust(4_000, "y")
                sent.append(message)
                await session.socket.send(message)

        await asyncio.gather(*(send(index, session) for index, session in enumerate(senders)))
        await self.eventually(lambda: all(len(session.log) >= len(sent) for session in topic.sessions()), "all messages", 60)
        await asyncio.sleep(0.1)
        first, *others = topic.sessions()
        self.assertEqual(collections.Counter(first.log), collections.Counter(sent))
        for other in others:
            self.assertTrue(first.log == other.log, "the logs are different")
        for index in range(len(senders)):
            own = [message for message in first.log if isinstance(message, str) and message.startswith(f"{index}:")]
            self.assertEqual(own, [message for message in sent if message in set(own)])
        metrics = [await server.metrics() for server in servers]
        batches, messages = (sum(one[name] for one in metrics) for name in ["batches", "publications"])
        for one in metrics:
            self.assertEqual((one["gaps"], one["refused"], one["invalid"], one["outbox_bytes"]), (0, 0, 0, 0))
        print(f"{len(sent)} messages of {len(senders)} senders, {batches} publications for {messages} messages: "
              f"{len(others) + 1} equal logs on 3 servers")

    async def test_order_over_tcp(self):
        await self.everything_arrives_in_one_order(self.redis().url())

    async def test_order_over_a_unix_socket(self):
        await self.everything_arrives_in_one_order(self.redis().unix_url())

    async def test_longest_message_and_one_byte_more(self):
        servers = [self.server(self.redis().url()) for _ in range(1)]
        topic = Topic(self, servers)
        for name in ["sender", "other"]:
            await topic.join(servers[0], name)
        await self.eventually(servers[0].is_whole, "the server is connected to Redis")
        sender, other = topic.sessions()
        await sender.socket.send(b"a" * (1 << 20))
        await self.eventually(lambda: len(other.log) == 1, "the longest message")
        await sender.socket.send(b"a" * ((1 << 20) + 1))
        await self.eventually(lambda: not sender.is_open, "the sender is closed")
        self.assertEqual(sender.code, 1009)
        self.assertTrue(other.is_open)
        self.assertEqual((await servers[0].metrics())["refused"], 1)

    async def test_what_a_client_sends_after_its_join_arrives(self):
        """The first message follows the upgrade at once, to a topic that the server does not know or has just left."""
        redis = self.redis()
        servers = [self.server(redis.url()) for _ in range(2)]
        for server in servers:
            await self.eventually(server.is_whole, "the server is connected to Redis")

        async def join_and_send(server, path, text):
            async with connect(server.url + path, **OPTIONS) as socket:
                await socket.send(text)
                async with asyncio.timeout(10):
                    while await socket.recv() != text:
                        pass

        for number in range(300):
            # Each topic twice per server: the second time it is subscribed, or about to be unsubscribed.
            clients = [join_and_send(server, f"/topic/{number // 2}", f"{number} {index}")
                       for index, server in enumerate(servers)]
            await asyncio.gather(*clients)

    async def test_client_with_tls_waits_for_a_slow_broker_and_loses_nothing(self):
        """The limits of the outbox apply to it, also to what a record holds."""
        redis = self.redis()
        server = self.server(redis.url(), "--tls-self-signed", "--broker-outbox", "2M", listen="tls:127.0.0.1:0")
        await self.eventually(server.is_whole, "the server is connected to Redis")
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        messages = [f"{number} ".ljust(50_000, "x") for number in range(200)]
        async with connect(server.url + "/chat", ssl=context, **OPTIONS) as socket:
            redis.cli("CLIENT", "PAUSE", "2000", "ALL")
            sender = asyncio.create_task(self.send_all(socket, messages))

            async def is_waiting():
                return (await server.metrics())["waiting_sessions"] == 1
            await self.eventually(is_waiting, "the sender waits")
            self.assertLessEqual((await server.metrics())["outbox_bytes"], 2 << 20)
            for message in messages:
                async with asyncio.timeout(20):
                    self.assertEqual(await socket.recv(), message)
            await sender
        metrics = await server.metrics()
        self.assertEqual((metrics["gaps"], metrics["refused"], metrics["waiting_sessions"]), (0, 0, 0))

    async def send_all(self, socket, messages):
        for message in messages:
            await socket.send(message)

    async def test_other_paths_and_prefixes_are_separate(self):
        redis = self.redis()
        servers = [self.server(redis.url(), "--redis-prefix", prefix) for prefix in ["a:", "a:", "b:"]]
        logs = []
        for server in servers:
            for path in ["/chat", "/topic/1"]:
                await self.eventually(server.is_whole, "the server is connected to Redis")
                topic = Topic(self, [server], path)
                logs.append((await topic.join(server, path)).session)
        await asyncio.sleep(0.2)
        for number, session in enumerate(logs):
            await session.socket.send(str(number))
        await asyncio.sleep(0.5)
        found = [sorted(session.log) for session in logs]
        self.assertEqual(found, [["0", "2"], ["1", "3"], ["0", "2"], ["1", "3"], ["4"], ["5"]])
        self.assertEqual(redis.cli("PUBSUB", "CHANNELS", "?:/*").split(), redis.cli("PUBSUB", "CHANNELS", "?:/*").split())

    async def test_topic_without_members_is_unsubscribed_after_a_second(self):
        redis = self.redis()
        server = self.server(redis.url())
        await self.eventually(server.is_whole, "the server is connected to Redis")
        async with connect(server.url + "/chat", **OPTIONS):
            await self.eventually(lambda: redis.cli("PUBSUB", "NUMSUB", "wsloop:/chat").endswith("1"), "it is subscribed")
        self.assertTrue(redis.cli("PUBSUB", "NUMSUB", "wsloop:/chat").endswith("1"), "for a second")
        took = await self.eventually(lambda: redis.cli("PUBSUB", "NUMSUB", "wsloop:/chat").endswith("0"), "it is not", 3)
        self.assertGreater(took, 0.7)


class Foreign(TestCase):
    """Another program publishes."""

    async def asyncSetUp(self):
        await super().asyncSetUp()
        self.broker = self.redis()
        self.servers = [self.server(self.broker.url()) for _ in range(2)]
        self.topic = Topic(self, self.servers)
        for server in self.servers:
            await self.eventually(server.is_whole, "the server is connected to Redis")
            await self.topic.join(server, f"member of {server.url}")
        await asyncio.sleep(0.2)

    async def test_text_of_redis_cli_is_a_text_message(self):
        for text in ["hello", "žluťoučký kůň 🐎", "", "*1\r\n$4\r\nPING\r\n", "x" * (1 << 20)]:
            self.broker.cli("PUBLISH", "wsloop:/chat", data=text.encode())
            for session in self.topic.sessions():
                await self.eventually(lambda: text in session.log, f"{text[:20]!r} arrives")
        first, second = self.topic.sessions()
        self.assertEqual(first.log, second.log)

    async def test_junk_of_another_publisher_is_dropped_and_counted(self):
        junk = {
            "bad UTF-8": b"\xff\xfe",
            "a surrogate": b"\xed\xa0\x80",
            "the beginning of a frame": b"\x81",
            "a frame that is cut": b"\x81\x05abc",
            "a masked frame": b"\x81\x81\x00\x00\x00\x00a",
            "a Close": b"\x88\x02\x03\xe8",
            "text behind a frame": b"\x81\x01atext",
            "a frame with bad UTF-8": b"\x81\x01\xff",
            "a good frame and a bad one": b"\x81\x01a\x82\x7f\xff\xff\xff\xff\xff\xff\xff\xff",
            "a length in too many bytes": b"\x81\x7e\x00\x01a",
            "a reserved byte": b"\x87\x00",
            "a note that is cut": b"\x83\xff\x00",
            "text of 5 MiB": b"a" * (5 << 20),
            "5 MiB of no text": b"\xc0" * (5 << 20),
            "frames with a message of 1 MiB and a byte": b"\x82\x7f" + ((1 << 20) + 1).to_bytes(8, "big") + b"a" * ((1 << 20) + 1),
        }
        for data in junk.values():
            self.broker.cli("PUBLISH", "wsloop:/chat", data=data)
        # Nothing is subscribed to these.
        for name in ["", "wsloop:", "/chat", "wsloop:/chat ", "wsloop:/chat\r\n", "wsloop:\xff"]:
            self.broker.cli("PUBLISH", name, "junk")
        self.broker.cli("PUBLISH", "wsloop:/chat", "the end")
        for session in self.topic.sessions():
            await self.eventually(lambda: "the end" in session.log, "the text behind the junk arrives")
            self.assertEqual(session.log, ["the end"])
            self.assertTrue(session.is_open)
        for server in self.servers:
            metrics = await server.metrics()
            self.assertEqual((metrics["invalid"], metrics["gaps"]), (len(junk), 0))
            lines = server.lines("dropped")
            self.assertIn(len(lines), range(1, 8), "some lines, and not one for each")

    async def test_flood_of_junk_does_not_fill_the_log(self):
        commands = b"".join(b"*3\r\n$7\r\nPUBLISH\r\n$12\r\nwsloop:/chat\r\n$1\r\n\xff\r\n" for _ in range(20_000))
        reader, writer = await asyncio.open_connection("127.0.0.1", self.broker.port)
        writer.write(commands)
        await self.eventually(lambda: len(reader._buffer) >= 4 * 20_000, "Redis has processed all")
        writer.close()
        for server in self.servers:
            async def is_counted():
                return (await server.metrics())["invalid"] == 20_000
            await self.eventually(is_counted, "all are counted")
            self.assertLessEqual(len(server.lines("dropped")), 16)
        self.assertTrue(all(session.is_open for session in self.topic.sessions()))
