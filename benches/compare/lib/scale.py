"""Measurements with many connections: memory per connection, latency of active ones, and rate of new ones."""

import json
import statistics
import subprocess
import time
from pathlib import Path

from .peers import LOAD_CORE, WSLOOP

OPEN = [100, 1000, 10_000, 18_000]
ACTIVE = 100
# wsloop pings each idle connection every 25 s (default): three times in this time.
IDLE_SECONDS = 75
ROUNDS = 15
SECONDS = 0.6


def measure(peers):
    parts = [storm(peers)]
    own = [peer for peer in peers if peer.name == 'wsloop']
    return parts + [part for peer in own for part in [active_among_idle(peer)]]


class Setup:
    """A server with idle connections, which a load tool holds open while it sends almost nothing."""

    def __init__(self, peer, count):
        self.count, self.idle = count, count - ACTIVE
        self.server = peer.start()
        self.before = self.server.rss()
        self.load = None
        if self.idle:
            self.load = subprocess.Popen(
                ['taskset', '-c', LOAD_CORE, str(WSLOOP), 'bench', f'ws://127.0.0.1:{self.server.port}/',
                 '-c', str(self.idle), '--rate', '1', '-d', '1h', '--warmup', '0', '--connect-rate', '5000'],
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.found = {}

    def wait(self):
        """Waits until all connections are open, according to the server's number of descriptors."""
        for _ in range(600):
            if len(list(Path(f'/proc/{self.server.pid}/fd').iterdir())) > self.idle:
                return
            time.sleep(0.1)
        raise RuntimeError(f'not all of {self.idle} connections were open after 60 s')

    def round(self):
        """Measures active connections in a closed loop: 100 of them, then one alone."""
        for active in (ACTIVE, 1):
            got = bench(self.server.port, self.server.pid, '-c', str(active), '-d', f'{SECONDS}s', '--warmup', '200ms')
            for key, value in [('cpu', got['server']['cpu_us_per_message']), ('p50', got['latency_us']['p50']),
                               ('p99', got['latency_us']['p99'])]:
                self.found.setdefault((active, key), []).append(value)

    def end(self):
        if self.load:
            self.load.kill()
            self.load.wait()
        self.server.__exit__()


def bench(port, pid, *flags):
    done = subprocess.run(['taskset', '-c', LOAD_CORE, str(WSLOOP), 'bench', f'ws://127.0.0.1:{port}/', *flags,
                           '--json', '--pid', str(pid)], capture_output=True, text=True, timeout=120)
    return json.loads(done.stdout)


def active_among_idle(peer):
    """Measures active connections among increasing numbers of idle ones.

    One server for each number runs during the whole measurement, with its idle connections. Each round measures all
    servers one after the other, so that other load on the machine affects all of them alike."""
    setups = []
    try:
        for count in OPEN:
            setups.append(Setup(peer, count))
            setups[-1].wait()
        time.sleep(2)
        resident = [setup.server.rss() for setup in setups]
        cpu, start = [setup.server.cpu_seconds() for setup in setups], time.monotonic()
        time.sleep(IDLE_SECONDS)
        elapsed = time.monotonic() - start
        idle = [(setup.server.cpu_seconds() - before) / elapsed for setup, before in zip(setups, cpu)]
        for number in range(ROUNDS):
            turn = number % len(setups)
            for setup in setups[turn:] + setups[:turn]:
                setup.round()
                print(f'scale {setup.count:6} open: ' + ', '.join(
                    f'{active} active {key} {values[-1]:.1f}' for (active, key), values in setup.found.items()), flush=True)
    finally:
        for setup in setups:
            setup.end()
    rows = []
    for setup, bytes_now, share in zip(setups, resident, idle):
        each = round((bytes_now - setup.before) / setup.idle) if setup.idle >= 5000 else '-'
        row = [f'{setup.count:,}'.replace(',', ' '), each, f'{100 * share:.2f} %']
        for active in (ACTIVE, 1):
            for key in ('cpu', 'p50', 'p99'):
                row.append(cell(setup.found[active, key], setups[0].found[active, key], 2 if key == 'cpu' else 0))
        rows.append(row)
    return {'title': f'wsloop: active connections in a closed loop, among idle ones that are pinged every 25 s; medians of '
                     f'{ROUNDS} interleaved rounds, in brackets the median of the ratios to the first row in the same round',
            'head': ['open', 'resident bytes each', 'CPU when idle',
                     *(f'{active} active: {what}' for active in (ACTIVE, 1) for what in ('CPU us per message', 'p50 us', 'p99 us'))],
            'rows': rows}


def cell(values, first, digits):
    """Formats the median, and in brackets the median of the ratios to `first` in the same round."""
    ratio = statistics.median(value / base for value, base in zip(values, first))
    return f'{statistics.median(values):.{digits}f} ({ratio:.2f})'


def storm(peers):
    """Measures 2 000 simultaneous connects, three times for each peer."""
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
    return {'title': '2 000 simultaneous connects',
            'head': ['peer', 'handshakes/s', 'CPU us per handshake', 'p99 ms', 'refused or timed out'], 'rows': rows}
