"""Clients of a broadcast that log what they receive, and the checks of their logs.

Each message of a sender has a number, so the logs show what is missing, repeated or out of order. All members share one
order, of which each log is a part without gaps, unless the server has closed the session with 1013.
"""

import asyncio
import collections
import contextlib
import itertools
import time

import websockets
from websockets.asyncio.client import connect

TRY_AGAIN = 1013
OPTIONS = {"compression": None, "ping_interval": None, "max_size": None, "max_queue": None, "proxy": None,
           "open_timeout": 30, "close_timeout": 2}


async def end(*tasks):
    """Cancels tasks, again if one of them was about to end a wait and has not noticed."""
    while left := [task for task in tasks if not task.done()]:
        for task in left:
            task.cancel()
        await asyncio.wait(left, timeout=1)


class Session:
    """One WebSocket: what it has sent and received, and how it has ended."""

    def __init__(self, member, socket):
        self.member = member
        self.server = member.server
        self.socket = socket
        self.sent = []
        self.log = []
        self.code = None
        self.opened_at = time.monotonic()
        self.closed_at = None

    @property
    def is_open(self):
        return self.closed_at is None

    def __repr__(self):
        return f"{self.member.name}#{self.member.sessions.index(self)}({self.code}, {len(self.log)} messages)"


class Member:
    """A client that connects again when it is closed, as a page does. Sends `rate` messages of `size` bytes a second."""

    def __init__(self, topic, server, name, rate=0, size=0):
        self.topic, self.server, self.name = topic, server, name
        self.rate, self.size = rate, size
        self.sessions = []
        self.refusals = collections.Counter()
        self.number = itertools.count()
        self.is_stopped = False
        self.task = asyncio.create_task(self.run())

    @property
    def session(self):
        """The session that is open, or None."""
        return self.sessions[-1] if self.sessions and self.sessions[-1].is_open else None

    async def run(self):
        while not self.is_stopped:
            try:
                socket = await connect(self.server.url + self.topic.path, **OPTIONS)
            except websockets.InvalidStatus as error:
                self.refusals[error.response.status_code] += 1
                await asyncio.sleep(0.1)
                continue
            except (OSError, websockets.InvalidHandshake, EOFError) as error:
                self.refusals[type(error).__name__] += 1
                await asyncio.sleep(0.1)
                continue
            session = Session(self, socket)
            self.sessions.append(session)
            sender = asyncio.create_task(self.send(session)) if self.rate else None
            with contextlib.suppress(websockets.ConnectionClosed):
                while True:
                    session.log.append(await socket.recv())
            session.closed_at = time.monotonic()
            session.code = socket.close_code
            if sender:
                sender.cancel()

    async def send(self, session):
        with contextlib.suppress(websockets.ConnectionClosed):
            while True:
                if self.topic.is_sending:
                    await self.send_one(session)
                await asyncio.sleep(1 / self.rate)

    async def send_one(self, session):
        message = f"{self.name}:{next(self.number)} ".ljust(self.size, "x")
        # Before the send, which may wait for the server and then fail although the server has received the message.
        session.sent.append(message)
        await session.socket.send(message)

    async def stop(self):
        self.is_stopped = True
        if self.session:
            await self.session.socket.close()
        await end(self.task)


class Topic:
    """Members of one path on several servers."""

    def __init__(self, test, servers, path="/chat"):
        self.test, self.servers, self.path = test, servers, path
        self.is_sending = True
        self.members = []

    async def join(self, server, name, **options):
        member = Member(self, server, name, **options)
        self.members.append(member)
        self.test.addAsyncCleanup(member.stop)
        await self.test.eventually(lambda: member.session, f"{name} is connected")
        return member

    def sessions(self):
        return [session for member in self.members for session in member.sessions]

    async def settle(self):
        """Stops the traffic, and waits until every open session has received everything that is still to come."""
        test = self.test
        await test.eventually(lambda: all(member.session for member in self.members), "every member is connected", 30)
        self.is_sending = False
        await asyncio.sleep(0.05)
        senders = [member for member in self.members if member.rate]
        for sender in senders:
            await sender.send_one(sender.session)
        last = {sender.session.sent[-1] for sender in senders}

        def missing():
            return [member.session or member for member in self.members
                    if not member.session or not last.issubset(member.session.log[-100:])]

        deadline = time.monotonic() + 20
        while missing():
            test.assertLess(time.monotonic(), deadline, f"the last messages do not arrive: {missing()}")
            await asyncio.sleep(0.01)

    def check(self, gaps=None, codes=(TRY_AGAIN,)):
        """Checks the logs of all sessions. `gaps`: the number of gaps of each server, if a session may have several."""
        test, sessions = self.test, self.sessions()
        places = {}
        for session in sessions:
            places[session] = {message: place for place, message in enumerate(session.log)}
            repeated = [message for message, count in collections.Counter(session.log).items() if count > 1]
            test.assertFalse(repeated[:3], f"{session} has received messages twice")
            if not session.is_open:
                test.assertIn(session.code, codes, f"{session} has ended")
        whole = [session for session in sessions if session.code != TRY_AGAIN]
        torn = [session for session in sessions if session.code == TRY_AGAIN]
        for a, b in itertools.combinations(whole, 2):
            self.check_same(a, b, places)
        for a, b in itertools.product(torn, sessions):
            if a is not b:
                self.check_order(a, b, places, gaps)
        for session in whole:
            if session.is_open:
                lost = [message for message in session.sent if message not in places[session]]
                test.assertFalse(lost[:3], f"{session} was not closed and misses {len(lost)} of its own messages")

    def check_same(self, a, b, places):
        """Where two logs without gaps overlap, they are the same."""
        if not a.log or not b.log:
            return
        if a.log[0] in places[b]:
            first, second = b.log[places[b][a.log[0]]:], a.log
        elif b.log[0] in places[a]:
            first, second = a.log[places[a][b.log[0]]:], b.log
        else:
            self.test.assertFalse(places[a].keys() & places[b].keys(), f"{a} and {b} have different orders")
            return
        for number, (one, other) in enumerate(zip(first, second)):
            if one != other:
                self.test.fail(f"{a} and {b} differ after {number} common messages: {one[:40]!r}, {other[:40]!r}")

    def check_order(self, torn, other, places, gaps):
        """A log with a gap has the order of the others, and no more holes than its server has had gaps."""
        common = [places[other][message] for message in torn.log if message in places[other]]
        self.test.assertEqual(common, sorted(common), f"{torn} and {other} have different orders")
        if gaps is not None and other.code != TRY_AGAIN:
            holes = sum(after - before != 1 for before, after in itertools.pairwise(common))
            self.test.assertLessEqual(holes, gaps[torn.server], f"{torn} has more holes than gaps, compared to {other}")

    def seen(self):
        return set().union(*(session.log for session in self.sessions()))


class Echo:
    """A client of the echo route that measures each round trip, and GET /healthz."""

    def __init__(self, test, server):
        self.test, self.server = test, server
        self.seconds = []
        self.health = collections.Counter()
        self.tasks = [asyncio.create_task(self.measure()), asyncio.create_task(self.watch())]
        test.addAsyncCleanup(self.stop)

    async def measure(self):
        async with connect(self.server.url + "/echo", **OPTIONS) as socket:
            for number in itertools.count():
                begin = time.monotonic()
                await socket.send(str(number))
                async with asyncio.timeout(10):
                    answer = await socket.recv()
                self.test.assertEqual(answer, str(number))
                self.seconds.append(time.monotonic() - begin)
                await asyncio.sleep(0.01)

    async def watch(self):
        while True:
            status, _ = await self.server.get("/healthz")
            self.health[status] += 1
            await asyncio.sleep(0.2)

    async def stop(self):
        await end(*self.tasks)

    def p99(self):
        """Checks that the route was served all the time. Returns the 99th percentile in milliseconds."""
        for task in self.tasks:
            self.test.assertFalse(task.done(), f"the echo has ended: {task}")
        self.test.assertEqual(set(self.health), {200})
        p99 = sorted(self.seconds)[len(self.seconds) * 99 // 100]
        self.test.assertLess(p99, 1)
        return p99 * 1000
