"""Workers on one port are replaced one after the other under load, and each message is accounted for."""

import asyncio
import signal
import time

from members import Topic
from servers import TestCase, free_port

GOING_AWAY = 1001


class Worker:
    """The shared port, as a server that members connect to."""

    def __init__(self, port):
        self.url = f"ws://127.0.0.1:{port}"


class RollingRestart(TestCase):
    async def worker(self):
        server = self.server(self.broker.url(), "--reuse-port", "--stop-spread", "0.5", "--shutdown-grace", "2",
                             listen=f"127.0.0.1:{self.port}")
        async def is_ready():
            return (await server.get("/readyz"))[0] == 200
        await self.eventually(is_ready, "the worker is ready")
        return server

    async def test_rolling_restart_under_load(self):
        self.broker = self.redis()
        self.port = free_port()
        workers = [await self.worker() for _ in range(3)]
        shared = Worker(self.port)
        topic = Topic(self, [shared])
        for number in range(8):
            await topic.join(shared, f"s{number}", rate=50)
        for number in range(8):
            await topic.join(shared, f"m{number}")
        await asyncio.sleep(1)
        published = 0
        for index in range(3):
            old = workers[index]
            workers[index] = await self.worker()
            old.signal(signal.SIGTERM)
            code = await asyncio.to_thread(old.process.wait, 10)
            self.assertEqual(code, 0, old.log)
            self.assertEqual(old.lines("gap"), [])
            await asyncio.sleep(0.5)
        await topic.settle()
        # Each log has no hole, whatever the session's end: the server closes with 1001 and did not lose anything before.
        topic.check(codes=(GOING_AWAY,))
        seen = topic.seen()
        sent = back = seen_by_others = unknown = 0
        for session in topic.sessions():
            log = set(session.log)
            returned = [message in log for message in session.sent]
            sent += len(returned)
            back += sum(returned)
            # What came back is what was sent first: all that follows the last of it is to be sent again.
            self.assertEqual(returned, sorted(returned, reverse=True), f"{session}: a hole in what came back")
            for message in session.sent[sum(returned):]:
                self.assertFalse(session.is_open)
                seen_by_others += message in seen
                unknown += message not in seen
        refused = {str(reason): count for member in topic.members for reason, count in member.refusals.items()}
        self.assertEqual(seen_by_others, 0, "published, and not returned before the Close")
        closed = sum(not session.is_open for session in topic.sessions())
        print(f"{sent} sent: {back} came back; {unknown} did not before a Close with 1001, and were not published; "
              f"{closed} sessions closed, {refused or 'no'} refusals")
        self.assertGreater(closed, 8)
        for worker in workers:
            self.assertEqual((await worker.metrics())["gaps"], 0)

    async def test_sigterm_with_publications_in_flight(self):
        await self.sigterm_with_publications_in_flight(2_000, 500)

    async def test_sigterm_with_long_publications_in_flight(self):
        """Redis 7.2 and later acknowledge a publication before they deliver it, which takes several reads."""
        await self.sigterm_with_publications_in_flight(12, 1_000_000)

    async def sigterm_with_publications_in_flight(self, messages, size):
        """What the server has read before it stops is published, and comes back to the sender before its Close."""
        self.broker = self.redis()
        servers = [self.server(self.broker.url(), "--lag-bytes-max", "64M") for _ in range(2)]
        topic = Topic(self, servers)
        for number, server in enumerate(servers):
            await self.eventually(server.is_whole, "the server is connected to Redis")
            await topic.join(server, f"m{number}")
        sender = (await topic.join(servers[0], "sender")).session
        await asyncio.sleep(0.3)
        for number in range(messages):
            message = f"sender:{number} ".ljust(size, "x")
            sender.sent.append(message)
            await sender.socket.send(message)
        servers[0].signal(signal.SIGTERM)
        self.assertEqual(await asyncio.to_thread(servers[0].process.wait, 15), 0)
        await self.eventually(lambda: not sender.is_open, "the sender is closed")
        self.assertEqual(sender.code, GOING_AWAY)
        await asyncio.sleep(0.5)
        other = next(session for session in topic.sessions() if session.server is servers[1])
        count = len(other.log)
        self.assertGreater(count, 0)
        self.assertEqual(other.log, sender.sent[:count], "the first messages, without a hole")
        self.assertEqual(sender.log, other.log)
        print(f"SIGTERM behind {len(sender.sent)} messages: {count} published, and as many came back to the sender")
