"""Counts the user-space instructions of wsloop per publication, with and without the broker."""

import os
import sys
from types import SimpleNamespace

from .processes import HERE, SERVER_CORE, WSLOOP, Failed, Redis, free_port

sys.path.append(str(HERE.parent / 'instructions'))

CASES = {
    # Topics, burst, rounds of the short and of the long run.
    'alone': (1, 1, (200, 1200)),
    'alone x16': (1, 16, (100, 600)),
    'topics': (50, 1, (20, 120)),
    'busy': (1000, 1, (2, 8)),
    'topics x16': (50, 16, (5, 30)),
}
SIZE = 64


def measure():
    import callgrind
    if absent := callgrind.missing():
        return {'failure': absent, 'cases': {}}
    # As in benches/instructions, the load runs on the core of the server, which does not preempt it.
    own = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {int(SERVER_CORE)})
    try:
        cases = {}
        for case, (topics, burst, rounds) in CASES.items():
            column = SimpleNamespace(rounds=rounds, messages=lambda rounds: rounds * topics * burst,
                                     drive=lambda port, _, rounds: drive(port, topics, burst, rounds))
            plain, _ = callgrind.per_message(peer(None), column)
            with Redis() as redis:
                shared, polls = callgrind.per_message(peer(redis.address('unix', 'wsloop')), column)
            cases[case] = {'none': plain, 'broker': shared, 'added': shared - plain, 'polls': polls}
            print(f"instructions {case:12} {plain:9.0f} without, {shared:9.0f} with the broker, {polls:.2f} polls a round",
                  flush=True)
        return {'cases': cases}
    finally:
        os.sched_setaffinity(0, own)


def peer(broker):
    return SimpleNamespace(echo='/', start=lambda under: Counted(broker, under))


class Counted:
    """wsloop under callgrind."""

    def __init__(self, broker, under):
        import subprocess
        self.port = free_port()
        redis = ['--redis', broker] if broker else []
        self.process = subprocess.Popen(
            ['taskset', '-c', SERVER_CORE, *under, str(WSLOOP), 'serve', '-l', f'127.0.0.1:{self.port}',
             '-r', '/topic/*=broadcast', *redis],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            # See benches/compare/lib/peers.py.
            env={**os.environ, 'RUST_LOG': 'off', 'MIMALLOC_PURGE_DELAY': '0'})
        if b'listening' not in self.process.stdout.readline():
            raise Failed('wsloop does not listen')

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()


def drive(port, topics, burst, rounds):
    import lockstep
    from lib.wire import TEXT, Client, frame
    message = frame(TEXT, b'abcdefgh' * (SIZE // 8), key=lockstep.MASKING_KEY) * burst
    clients = [Client(port, f'/topic/{topic}') for topic in range(topics)]
    answer = (SIZE + lockstep.header_length(SIZE)) * burst
    sockets = {client.socket.fileno(): client.socket for client in clients}
    for client in clients:
        client.socket.setblocking(False)
    for _ in range(rounds):
        lockstep.one_round(sockets, memoryview(message), answer)
    for client in clients:
        client.close()
