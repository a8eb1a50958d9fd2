"""The measurements: one class instance for each column of the tables."""

import json
import subprocess
import time

from .peers import LOAD_CORE, WSLOOP
from .wire import BINARY, Client, Ended, Refused, frame


class Failed(Exception):
    """The peer could not be measured; the text has the reason."""


class Load:
    """A run of `wsloop bench`: the server's CPU time per message, and messages per second."""

    rounds_max = 1000

    def __init__(self, key, title, *flags):
        self.key, self.title, self.flags = key, title, flags

    def measure(self, peer, seconds):
        path = peer.broadcast if 'broadcast' in self.flags else peer.echo
        if path is None:
            raise Failed('this peer has no broadcast')
        scheme, trust = ('wss', ['--insecure']) if peer.is_tls else ('ws', [])
        with peer.start() as server:
            done = subprocess.run(
                ['taskset', '-c', LOAD_CORE, str(WSLOOP), 'bench', f'{scheme}://127.0.0.1:{server.port}{path}',
                 *self.flags, *trust, '-d', f'{seconds}s', '--warmup', '400ms', '--json', '--pid', str(server.pid)],
                capture_output=True, text=True, timeout=seconds + 60,
            )
        try:
            found = json.loads(done.stdout)
        except ValueError:
            raise Failed(done.stderr.strip().splitlines()[-1:] or 'no figures') from None
        errors = {name: count for name, count in found['errors'].items() if count}
        if errors or not found['messages']:
            raise Failed(f'errors: {errors}')
        if found['server'] is None:
            raise Failed('the server process ended during the run')
        return {'cpu_us': found['server']['cpu_us_per_message'], 'per_second': found['messages_per_second'],
                'p99_us': found['latency_us']['p99']}

    def line(self, figures):
        return f"{figures['cpu_us']:10.4f} us CPU {figures['per_second']:14.0f}/s"


class Memory:
    """Resident bytes of the server for each of 1 000 connections that are idle after one echo."""

    # The figure hardly varies, and the measurement is slow.
    rounds_max = 2

    def __init__(self, key, title, size):
        self.key, self.title, self.size = key, title, size

    CONNECTIONS = 1000

    def measure(self, peer, _):
        try:
            return self.resident(peer)
        except (Ended, Refused, OSError) as error:
            raise Failed(str(error)) from None

    def resident(self, peer):
        with peer.start() as server:
            # A warm-up, so that allocations which happen only once are not counted per connection.
            warm = [Client(server.port, peer.echo) for _ in range(10)]
            for client in warm:
                echo(client, 20)
                client.close()
            before = server.rss()
            clients = [Client(server.port, peer.echo) for _ in range(self.CONNECTIONS)]
            for client in clients:
                echo(client, self.size)
            wait_until_idle(server)
            after = server.rss()
            for client in clients:
                client.close()
        return {'bytes': (after - before) / self.CONNECTIONS}

    def line(self, figures):
        return f"{figures['bytes']:10.0f} B a connection"


class Start:
    """Time from the start of the process until it listens, and resident bytes at that time."""

    key, title = 'start', 'Start: milliseconds until it listens, resident bytes'
    rounds_max = 1000

    def measure(self, peer, _):
        with peer.start() as server:
            return {'milliseconds': server.start_seconds * 1000, 'bytes': server.rss()}

    def line(self, figures):
        return f"{figures['milliseconds']:10.1f} ms {figures['bytes'] / 1024:10.0f} KiB"


def wait_until_idle(server):
    """Waits until the server uses almost no CPU time, so that it has returned memory to the system."""
    for _ in range(20):
        cpu = server.cpu_seconds()
        time.sleep(0.25)
        if server.cpu_seconds() - cpu < 0.002:
            break
    time.sleep(1.2)


def echo(client, size):
    """Sends a message and reads its echo."""
    client.socket.sendall(frame(BINARY, b'x' * size))
    if client.message() != (BINARY, b'x' * size):
        raise Refused('an echo differs from the message')


def broadcast(key, title, *flags):
    return Load(key, title, '--mode', 'broadcast', *flags)


ALL = [
    Load('echo-20', 'Echo, 20 B, 1 in flight, 100 connections', '-c', '100', '-s', '20', '-p', '1'),
    Load('echo-20x32', 'Echo, 20 B, 32 in flight, 100 connections', '-c', '100', '-s', '20', '-p', '32'),
    Load('echo-1k', 'Echo, 1 KiB, 1 in flight, 100 connections', '-c', '100', '-s', '1K', '-p', '1'),
    Load('echo-64k', 'Echo, 64 KiB, 1 in flight, 10 connections', '-c', '10', '-s', '64K', '-p', '1'),
    Load('echo-1m', 'Echo, 1 MiB, 1 in flight, 4 connections', '-c', '4', '-s', '1M', '-p', '1'),
    broadcast('broadcast-50', 'Broadcast, 50 members, each sends 1 x 20 B a round', '-c', '50', '-s', '20'),
    broadcast('broadcast-50x16', 'Broadcast, 50 members, each sends 16 x 20 B a round',
              '-c', '50', '-s', '20', '--burst', '16'),
    broadcast('broadcast-200', 'Broadcast, 200 members, 10 of them send 1 x 64 B a round',
              '-c', '200', '-s', '64', '--senders', '10'),
    broadcast('broadcast-1000', 'Broadcast, 1 000 members, one of them sends 1 x 64 B a round',
              '-c', '1000', '-s', '64', '--senders', '1'),
    broadcast('broadcast-1000x16', 'Broadcast, 1 000 members, one of them sends 16 x 1 KiB a round',
              '-c', '1000', '-s', '1K', '--senders', '1', '--burst', '16'),
    Memory('memory-20', 'Memory of an idle connection after an echo of 20 B', 20),
    Memory('memory-256k', 'Memory of an idle connection after an echo of 256 KiB', 256 * 1024),
    Start(),
]
