"""What each peer loses, silently or not, while Redis is away for 10 s; and how fast 10 000 topics are subscribed again."""

import asyncio
import base64
import json
import os
import resource
import signal
import struct
import tempfile
import time
from types import SimpleNamespace

from .processes import PEERS, Failed, Redis, Server, wait_until

BEFORE, FAULT, AFTER = 3, 10, 12
# Seconds between messages of a sender, and between echoes.
SENDING = 0.01
ECHOING = 0.005
# The code of a Close that announces a gap.
TRY_AGAIN = 1013


def measure():
    found = {}
    for fault in ('kill', 'stop', 'cut'):
        for peer in PEERS:
            figures = found.setdefault(fault, {})[peer] = run_one(fault, peer)
            print(f'{fault:6} {peer:10}', json.dumps(figures), flush=True)
    return {'faults': found}


def run_one(fault, peer):
    redis = Redis()
    try:
        return asyncio.run(Scenario(fault, peer, redis).run())
    finally:
        redis.kill()


class Member:
    """A client of a topic that sends numbered messages and records what it receives; connects again when it is closed."""

    def __init__(self, scenario, name, server):
        self.scenario, self.name, self.server = scenario, name, server
        self.generation = 0
        # name:generation:number -> when it was sent
        self.sent = {}
        # One entry for each connection: opened, ended (or None), received {key: [times]}, close code.
        self.connections = []

    async def run(self):
        while not self.scenario.is_over:
            try:
                client = await Client.connect(self.server, 1)
            except (OSError, EOFError, ConnectionError, asyncio.IncompleteReadError):
                await asyncio.sleep(0.1)
                continue
            await self.converse(client)

    async def converse(self, client):
        connection = SimpleNamespace(opened=time.monotonic(), ended=None, received={}, code=None)
        self.connections.append(connection)
        self.generation += 1
        sender = asyncio.create_task(self.send(client, self.generation))
        try:
            async for text in client.messages():
                connection.received.setdefault(text.rstrip('.'), []).append(time.monotonic())
        except (OSError, EOFError, asyncio.IncompleteReadError, Closed) as end:
            connection.code = getattr(end, 'code', None)
            connection.ended = time.monotonic()
        finally:
            sender.cancel()
            client.close()

    async def send(self, client, generation):
        number = 0
        while not self.scenario.is_quiet:
            key = f'{self.name}:{generation}:{number}'
            try:
                # Waits while the server does not read.
                await client.send(key.ljust(64, '.'))
            except (OSError, ConnectionError):
                return
            self.sent[key] = time.monotonic()
            number += 1
            await asyncio.sleep(SENDING)


class Scenario:
    """Two servers with two members each. `fault` is kill, stop or cut."""

    def __init__(self, fault, peer, redis):
        self.fault, self.peer, self.redis = fault, peer, redis
        self.is_over = self.is_quiet = False
        self.echoes = []

    async def run(self):
        proxy = await Proxy.start(self.redis.port)
        broker = f'redis://127.0.0.1:{proxy.port}'
        with Server(self.peer, broker) as one, Server(self.peer, broker) as two:
            await asyncio.sleep(1)
            members = [Member(self, f'{index}', server) for index, server in enumerate([one, one, two, two])]
            tasks = [asyncio.create_task(member.run()) for member in members]
            tasks.append(asyncio.create_task(self.echo(one)))
            await asyncio.sleep(BEFORE)
            began = time.monotonic()
            ended = await self.disturb(proxy)
            await asyncio.sleep(AFTER)
            self.is_quiet = True
            await asyncio.sleep(2)
            self.is_over = True
            alive = [process.process.poll() is None for process in (one, two)]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        proxy.close()
        return self.evaluated(members, began, ended) | {'servers_alive': alive.count(True)}

    async def disturb(self, proxy):
        """Returns when Redis accepts again."""
        loop = asyncio.get_running_loop()
        if self.fault == 'kill':
            port = self.redis.port
            self.redis.kill()
            await asyncio.sleep(FAULT)
            new = await loop.run_in_executor(None, lambda: Redis(port))
            accepted = time.monotonic()
            vars(self.redis).update(vars(new))
            return accepted
        if self.fault == 'stop':
            os.kill(self.redis.pid, signal.SIGSTOP)
            await asyncio.sleep(FAULT)
            os.kill(self.redis.pid, signal.SIGCONT)
            return time.monotonic()
        proxy.cut()
        await asyncio.sleep(FAULT)
        proxy.mend()
        return time.monotonic()

    async def echo(self, server):
        """Measures an echo of the same process, which needs no broker."""
        client = await Client.connect(server, None)
        messages = client.messages()
        while not self.is_over:
            sent = time.monotonic()
            await client.send('x' * 64, 'echo')
            await anext(messages)
            self.echoes.append((sent, time.monotonic() - sent))
            await asyncio.sleep(ECHOING)

    def evaluated(self, members, began, ended):
        sent = {key: at for member in members for key, at in member.sent.items()}
        losses = twice = missed_across_closes = 0
        for member in members:
            for connection in member.connections:
                end = connection.ended or float('inf')
                twice += sum(len(times) > 1 for times in connection.received.values())
                # Published by a connection that is still there, and not received by one that was there before and is
                # still there: no member was informed. A second for joining. A member that was closed with 1013 was informed that
                # messages may be missing, also of before the Close.
                if connection.ended is None:
                    losses += sum(1 for key, at in sent.items() if at > connection.opened + 1 and key not in connection.received
                                  and self.is_sender_open(members, key))
                elif connection.code != TRY_AGAIN:
                    losses += holes(connection.received)
        whole = self.whole(members, ended)
        during = [delay for at, delay in self.echoes if began <= at <= ended]
        before = [delay for at, delay in self.echoes if at < began]
        return {
            'sent': len(sent), 'silent_losses': losses, 'twice': twice,
            'closed': sum(connection.ended is not None for member in members for connection in member.connections),
            'codes': sorted({connection.code for member in members for connection in member.connections if connection.code}),
            'whole_ms': whole and whole * 1000,
            'echo_p99_before_ms': percentile(before, 0.99) * 1000, 'echo_p99_during_ms': percentile(during, 0.99) * 1000,
            'echo_max_during_ms': max(during, default=0) * 1000,
        }

    @staticmethod
    def is_sender_open(members, key):
        name, generation, _ = key.split(':')
        return members[int(name)].connections[int(generation) - 1].ended is None

    @staticmethod
    def whole(members, ended):
        """Returns the seconds from when Redis accepts until a message has arrived from each server at the other one."""
        firsts = []
        for receivers, senders in ((members[:2], members[2:]), (members[2:], members[:2])):
            sent = {key: at for sender in senders for key, at in sender.sent.items()}
            arrived = [times[0] for receiver in receivers for connection in receiver.connections
                       for key, times in connection.received.items() if key in sent and times[0] > ended]
            if not arrived:
                return None
            firsts.append(min(arrived))
        return max(firsts) - ended


def holes(received):
    """Counts the numbers that are missing between the first and the last of each sender."""
    numbers = {}
    for key in received:
        sender, number = key.rsplit(':', 1)
        numbers.setdefault(sender, []).append(int(number))
    return sum(max(found) - min(found) + 1 - len(found) for found in numbers.values())


def percentile(values, part):
    values = sorted(values)
    return values[int(len(values) * part)] if values else 0.0


class Closed(Exception):
    """The server has closed the connection."""

    def __init__(self, code):
        super().__init__(code)
        self.code = code


class Client:
    """A WebSocket client over plain frames or Socket.IO."""

    def __init__(self, reader, writer, is_socketio):
        self.reader, self.writer, self.is_socketio = reader, writer, is_socketio

    @classmethod
    async def connect(cls, server, topic):
        """Connects to a topic, or to the echo if `topic` is None."""
        reader, writer = await asyncio.open_connection('127.0.0.1', server.port)
        is_socketio = server.peer == 'Socket.IO'
        target = '/echo' if topic is None else f'/topic/{topic}'
        if is_socketio:
            target = f'/socket.io/?EIO=4&transport=websocket&topic={topic or "none"}'
        key = base64.b64encode(os.urandom(16)).decode()
        writer.write(f'GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n'
                     f'Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n'.encode())
        try:
            head = await reader.readuntil(b'\r\n\r\n')
            if b' 101 ' not in head:
                raise ConnectionError(head.split(b'\r\n')[0].decode())
            client = cls(reader, writer, is_socketio)
            if is_socketio:
                await client.frame()
                client.write(1, b'40')
                await client.frame()
        except BaseException:
            writer.close()
            raise
        return client

    async def frame(self):
        first, length = await self.reader.readexactly(2)
        if length == 126:
            length, = struct.unpack('>H', await self.reader.readexactly(2))
        return first & 15, await self.reader.readexactly(length)

    async def messages(self):
        while True:
            opcode, payload = await self.frame()
            if opcode == 8:
                raise Closed(int.from_bytes(payload[:2], 'big') or None)
            if opcode == 9:
                self.write(10, payload)
            elif self.is_socketio:
                if payload == b'2':
                    self.write(1, b'3')
                elif payload.startswith(b'42'):
                    yield json.loads(payload[2:])[1]
            elif opcode == 1:
                yield payload.decode()

    def write(self, opcode, payload):
        length = bytes([0x80 | len(payload)]) if len(payload) < 126 else b'\xfe' + struct.pack('>H', len(payload))
        # A masking key of zeros, which leaves the payload as it is.
        self.writer.write(bytes([0x80 | opcode]) + length + bytes(4) + payload)

    async def send(self, text, event='m'):
        self.write(1, f'42["{event}","{text}"]'.encode() if self.is_socketio else text.encode())
        await self.writer.drain()

    def close(self):
        self.writer.close()


class Pair:
    """The two ends of a forwarded connection."""

    is_dead = False

    def __init__(self, *writers):
        self.writers = writers

    def reset(self):
        for writer in self.writers:
            writer.transport.abort()


class Proxy:
    """Forwards connections to Redis. While it is cut, no byte and no end of a connection passes. Then it resets all
    connections of before."""

    @classmethod
    async def start(cls, target):
        self = cls()
        self.target, self.is_cut, self.connections = target, False, set()
        self.server = await asyncio.start_server(self.accept, '127.0.0.1', 0)
        self.port = self.server.sockets[0].getsockname()[1]
        return self

    async def accept(self, reader, writer):
        if self.is_cut:
            # Accepted by the kernel; without an answer.
            while self.is_cut:
                await asyncio.sleep(0.01)
            writer.transport.abort()
            return
        try:
            to_reader, to_writer = await asyncio.open_connection('127.0.0.1', self.target)
        except OSError:
            writer.transport.abort()
            return
        pair = Pair(writer, to_writer)
        self.connections.add(pair)
        try:
            await asyncio.gather(self.forward(pair, reader, to_writer), self.forward(pair, to_reader, writer))
        except asyncio.CancelledError:
            # The scenario is over.
            pass
        self.connections.discard(pair)
        pair.reset()

    @staticmethod
    async def forward(pair, reader, writer):
        try:
            while data := await reader.read(1 << 16):
                if not pair.is_dead:
                    writer.write(data)
                    await writer.drain()
        except OSError:
            pass
        finally:
            # A connection that was cut stays silent. Otherwise its end is forwarded.
            if not pair.is_dead:
                writer.close()

    def cut(self):
        self.is_cut = True
        for pair in self.connections:
            pair.is_dead = True

    def mend(self):
        self.is_cut = False
        for pair in list(self.connections):
            pair.reset()

    def close(self):
        self.server.close()


class Resubscription:
    """10 000 topics with one member each on one server: the time until Redis has all subscriptions again."""

    COUNT = 10_000

    @classmethod
    def measure(cls):
        descriptors = cls.COUNT + 1000
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, descriptors)), hard))
        found = {}
        for peer in PEERS:
            if peer == 'Socket.IO':
                # It has one pattern for all topics.
                continue
            figures = found[peer] = cls.run_one(peer)
            print(f'resubscription {peer:10}', json.dumps(figures), flush=True)
        return {'peers': found}

    @classmethod
    def run_one(cls, peer):
        redis = Redis()
        clients = []
        with tempfile.TemporaryFile('w+') as log, Server(peer, f'redis://127.0.0.1:{redis.port}', log=log) as server:
            try:
                clients = asyncio.run(cls.connect(server))
                wait_until(lambda: channels(redis) >= cls.COUNT, 20, 'all topics are subscribed')
                port = redis.port
                redis.kill()
                time.sleep(2)
                redis = Redis(port)
                accepted = time.monotonic()
                # The first subscription marks the end of the delay before the attempt and of the greeting.
                first = wait_until(lambda: channels(redis) >= 2, 10, 'the server is back')
                last = wait_until(lambda: channels(redis) >= cls.COUNT, 10, 'all topics are subscribed again')
                log.seek(0)
                lines = [line.strip() for line in log if 'subscribed again' in line or 'connected to the broker again' in line]
                return {'first_ms': (first - accepted) * 1000, 'whole_ms': (last - accepted) * 1000, 'log': lines}
            except Failed as failure:
                return {'failure': str(failure)}
            finally:
                redis.kill()
                for client in clients:
                    os.close(client)

    @classmethod
    async def connect(cls, server):
        """Returns descriptors of connections whose handshake is complete, each in its own topic."""
        descriptors = []
        for topic in range(cls.COUNT):
            client = await Client.connect(server, topic)
            socket = client.writer.get_extra_info('socket')
            descriptors.append(os.dup(socket.fileno()))
            client.writer.transport.abort()
        return descriptors


def channels(redis):
    try:
        answer = redis.command('INFO', 'stats').decode()
        return int(answer.split('pubsub_channels:')[1].split('\r\n')[0])
    except (OSError, IndexError):
        return 0


