"""The servers that are compared: how each is built and started, and its version."""

import os
import re
import signal
import subprocess
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent
ROOT = HERE.parent.parent
TARGET = Path(os.environ.get('CARGO_TARGET_DIR') or HERE / 'target')
SERVER_CORE, LOAD_CORE = '0', '1'


class Peer:
    """A server program to compare.

    `command` returns the command line for a port. `echo` and `broadcast` are paths, or None without such a service.
    `checks` is whether the server validates UTF-8, `is_tls` whether it speaks TLS. `failure` is the reason why it could not be built or started, or None.
    """

    def __init__(self, name, command, version, what, echo='/', broadcast='/broadcast', checks=True,
                 is_tls=False):
        self.name, self.command, self.version, self.what = name, command, version, what
        self.echo, self.broadcast, self.checks, self.is_tls = echo, broadcast, checks, is_tls
        self.failure = None
        self.failures = {}

    def facts(self):
        return {'version': self.version, 'what': self.what, 'failure': self.failure}

    def start(self, stderr=subprocess.DEVNULL, under=()):
        """Starts the server; `under` is a command that runs it, such as valgrind."""
        return Running(self, stderr, under)


class Running:
    """A running peer, pinned to one core. Use it in a `with` statement, which kills it at the end."""

    def __init__(self, peer, stderr, under):
        self.port = free_port()
        started = time.monotonic()
        self.process = subprocess.Popen(
            ['taskset', '-c', SERVER_CORE, *under, *peer.command(self.port)],
            stdout=subprocess.PIPE, stderr=stderr, cwd=HERE,
            # Without RUST_LOG wsloop writes a line for each connection; the other peers write none. If the second variable
            # is set, wsloop does not execute itself again at start, which valgrind would not follow (src/allocator.rs).
            env={**os.environ, 'RUST_LOG': 'off', 'MIMALLOC_PURGE_DELAY': '0'},
        )
        line = self.process.stdout.readline()
        self.start_seconds = time.monotonic() - started
        if b'listening' not in line:
            self.process.kill()
            raise RuntimeError(f'{peer.name} does not listen: {line!r}')
        self.pid = self.process.pid

    def rss(self):
        status = Path(f'/proc/{self.pid}/status').read_text()
        return int(re.search(r'VmRSS:\s+(\d+) kB', status)[1]) * 1024

    def cpu_seconds(self):
        """Returns the CPU time of all threads, as counted by the scheduler."""
        tasks = Path(f'/proc/{self.pid}/task').iterdir()
        return sum(int((task / 'schedstat').read_text().split()[0]) for task in tasks) / 1e9

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self.process.stdout.close()


def free_port():
    import socket
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        return probe.getsockname()[1]


def cargo_version(package, manifest):
    """Returns the version of a package in the lock file."""
    lock = (manifest.parent / 'Cargo.lock').read_text()
    return re.search(rf'name = "{package}"\nversion = "([^"]+)"', lock)[1]


def sh(*command, cwd=HERE, env=None):
    """Runs a build step; its output is shown only if it fails."""
    done = subprocess.run([str(word) for word in command], cwd=cwd, capture_output=True, text=True,
                          env={**os.environ, **(env or {})})
    if done.returncode != 0:
        tail = (done.stdout + done.stderr).strip().splitlines()[-12:]
        raise RuntimeError(' | '.join(tail) or f'{command[0]} failed')


def build(wanted):
    """Builds the peers in `wanted` (names up to a comma; None: all) and returns them.

    A peer that cannot be built or started is returned with its `failure`."""
    def rust(binary, *more):
        return lambda port: [str(TARGET / 'release' / binary), str(port), *more]

    def wsloop(port):
        # Its announcement is longer than that of the other peers, but also contains "listening".
        return [str(WSLOOP), 'serve', '-l', f'127.0.0.1:{port}']

    manifest = HERE / 'Cargo.toml'
    cargo = lambda: sh('cargo', 'build', '--release', '--locked', env={'CARGO_TARGET_DIR': str(TARGET)})
    own = lambda: sh('cargo', 'build', '--release', '--locked', '--bin', 'wsloop', cwd=ROOT,
                     env={'CARGO_TARGET_DIR': str(TARGET / 'wsloop')})
    table = [
        ('ceiling', rust('ceiling'), cargo, lambda: 'this folder',
         'epoll, one recv, unmask, one send; no checks, no UTF-8'),
        ('wsloop', wsloop, own, lambda: cargo_version('wsloop', ROOT / 'Cargo.toml'), 'this project'),
        ('uWebSockets', lambda port: [str(TARGET / 'uws' / 'uws'), str(port)],
         lambda: sh('c/uws.sh', TARGET / 'uws'), lambda: (TARGET / 'uws' / 'version').read_text().strip(),
         'C++, its own epoll loop, -O3 -flto'),
        ('fastwebsockets', rust('fastwebsockets'), cargo, lambda: cargo_version('fastwebsockets', manifest),
         'hyper, one tokio thread'),
        ('tokio-tungstenite', rust('tokio_tungstenite'), cargo,
         lambda: cargo_version('tokio-tungstenite', manifest), 'one tokio thread, its defaults; its own example\'s echo'),
        ('tokio-tungstenite, 8 KiB buffer', rust('tokio_tungstenite', '8192'), cargo,
         lambda: cargo_version('tokio-tungstenite', manifest), 'the same with a read buffer of 8 KiB, not 128'),
        ('npm ws', lambda port: ['node', 'node/ws_server.mjs', str(port)],
         lambda: sh('npm', 'ci', '--no-audit', '--no-fund', cwd=HERE / 'node'), node_version, 'node'),
        ('libwebsockets', lambda port: [str(TARGET / 'lws' / 'lws'), str(port), 'uv'],
         lambda: sh('c/lws.sh', TARGET / 'lws'), lambda: (TARGET / 'lws' / 'version').read_text().strip(),
         'Debian\'s library with libuv, one service thread'),
    ]
    # The load tool is part of this binary, so it is always built.
    own()
    found = []
    for name, command, make, version, what in table:
        if wanted and name.split(',')[0] not in wanted:
            continue
        print(f'building {name}', flush=True)
        peer = Peer(name, command, '', what, checks=name != 'ceiling')
        try:
            make()
            peer.version = version()
            with peer.start():
                pass
        except (RuntimeError, OSError, TypeError) as error:
            peer.failure = str(error)
            print(f'  {name} cannot be built or started, and is left out: {error}', flush=True)
        found.append(peer)
    return found


def node_version():
    import json
    ws = json.loads((HERE / 'node/node_modules/ws/package.json').read_text())['version']
    node = subprocess.run(['node', '--version'], capture_output=True, text=True).stdout.strip()
    return f'{ws}, node {node}'


WSLOOP = TARGET / 'wsloop' / 'release' / 'wsloop'
