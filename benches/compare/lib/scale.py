"""Many connections: what each costs, what the active ones notice, and how fast they come."""

import json
import subprocess
import time

from .peers import LOAD_CORE, WSLOOP

OPEN = [100, 1000, 10_000, 18_000]
ACTIVE = 100
# Each is pinged once in it, with the defaults.
IDLE_SECONDS = 60


def measure(peers):
    parts = [storm(peers)]
    own = [peer for peer in peers if peer.name == 'wsloop']
    return parts + [part for peer in own for part in [crowd(peer)]]


class Crowd:
    """Idle connections, held by a load that sends one message and waits."""

    def __init__(self, port, count):
        self.load = subprocess.Popen(
            ['taskset', '-c', LOAD_CORE, str(WSLOOP), 'bench', f'ws://127.0.0.1:{port}/', '-c', str(count),
             '--rate', '1', '-d', '1h', '--warmup', '0', '--connect-rate', '5000'],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.load.kill()
        self.load.wait()


def wait_for(server, count):
    from pathlib import Path
    for _ in range(600):
        if len(list(Path(f'/proc/{server.pid}/fd').iterdir())) >= count:
            return
        time.sleep(0.1)
    raise RuntimeError(f'{count} connections did not come')


def bench(port, pid, *flags):
    done = subprocess.run(['taskset', '-c', LOAD_CORE, str(WSLOOP), 'bench', f'ws://127.0.0.1:{port}/', *flags,
                           '--json', '--pid', str(pid)], capture_output=True, text=True, timeout=120)
    return json.loads(done.stdout)


def crowd(peer):
    """100 active connections among more and more idle ones, at the same rate of messages."""
    rows = []
    for count in OPEN:
        with peer.start() as server:
            before = server.rss()
            with Crowd(server.port, count - ACTIVE if count > ACTIVE else 1):
                wait_for(server, count - ACTIVE)
                time.sleep(2)
                resident = server.rss()
                cpu, start = server.cpu_seconds(), time.monotonic()
                time.sleep(IDLE_SECONDS if count >= 10_000 else 5)
                idle = (server.cpu_seconds() - cpu) / (time.monotonic() - start)
                active = bench(server.port, server.pid, '-c', str(ACTIVE), '--rate', '20000', '-d', '4s')
        rows.append([f'{count:,}'.replace(',', ' '), round((resident - before) / max(1, count - ACTIVE)) if count > 1000 else '-',
                     f'{100 * idle:.2f} %', f"{active['server']['cpu_us_per_message']:.2f}",
                     f"{active['latency_us']['p50']:.0f}", f"{active['latency_us']['p99']:.0f}"])
    return {'title': 'wsloop: 100 active connections at 20 000 messages/s, among idle ones that are pinged every 60 s',
            'head': ['open', 'resident bytes each', 'CPU when idle', 'CPU us per message', 'p50 us', 'p99 us'], 'rows': rows}


def storm(peers):
    """2 000 connections at once, three times."""
    rows = []
    for peer in peers:
        found, failed = [], 0
        for _ in range(3):
            with peer.start() as server:
                cpu = server.cpu_seconds()
                try:
                    got = bench(server.port, server.pid, '-c', '2000', '-d', '100ms', '--warmup', '0', '--rate', '1')
                except ValueError:
                    failed += 2000
                    continue
                failed += got['errors']['connect'] + got['errors']['timeout']
                found.append((got['connect']['per_second'], 1e6 * (server.cpu_seconds() - cpu) / 2000,
                              got['connect']['latency_us']['p99']))
        if not found:
            rows.append([peer.name, '-', '-', '-', failed])
            continue
        middle = sorted(found)[len(found) // 2]
        rows.append([peer.name, f'{middle[0]:.0f}', f'{middle[1]:.1f}', f'{middle[2] / 1000:.0f}', failed])
    return {'title': 'A storm of 2 000 connects at once',
            'head': ['peer', 'handshakes/s', 'CPU us per handshake', 'p99 ms', 'refused or timed out'], 'rows': rows}
