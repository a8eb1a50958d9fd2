"""Redis, the servers and the load: how each is started and ended."""

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent
ROOT = HERE.parent.parent
TARGET = Path(os.environ.get('CARGO_TARGET_DIR') or ROOT / 'target')
WSLOOP = Path(os.environ.get('WSLOOP') or TARGET / 'release' / 'wsloop')
LOAD = TARGET / 'scale-out' / 'release' / 'scale-out-load'
SERVER_CORE, LOAD_CORE = '0', '1'
PEERS = ['wsloop', 'npm ws', 'Socket.IO']


# A command under which all processes run; see `before_others`.
UNDER = []


class Failed(Exception):
    """A measurement is not possible; the text has the reason."""


def build():
    """Builds the server and the load, and installs the peers."""
    absent = [tool for tool in ('cargo', 'node', 'npm', 'redis-server', 'redis-cli', 'taskset') if not shutil.which(tool)]
    if absent:
        raise SystemExit(f"benches/scale-out: {', '.join(absent)} not found. On Debian: apt-get install redis-server")
    if 'WSLOOP' not in os.environ:
        sh('cargo', 'build', '--locked', '--release', '--bin', 'wsloop', '--features', 'redis', cwd=ROOT,
           env={'CARGO_TARGET_DIR': str(TARGET)})
    sh('cargo', 'build', '--locked', '--release', cwd=HERE / 'load', env={'CARGO_TARGET_DIR': str(TARGET / 'scale-out')})
    sh('npm', 'ci', '--no-audit', '--no-fund', cwd=HERE / 'node')


def sh(*command, cwd, env=None):
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, env={**os.environ, **(env or {})})
    if done.returncode != 0:
        raise SystemExit('\n'.join((done.stdout + done.stderr).splitlines()[-12:]))


def versions():
    def package(name):
        return json.loads((HERE / 'node/node_modules' / name / 'package.json').read_text())['version']

    def first_line(*command):
        return subprocess.run(command, capture_output=True, text=True).stdout.splitlines()[0]

    redis = re.search(r'v=(\S+)', first_line('redis-server', '--version'))[1]
    node = first_line('node', '--version')
    return {
        'redis-server': redis,
        'wsloop': first_line(str(WSLOOP), '--version'),
        'npm ws': f"{package('ws')} with ioredis {package('ioredis')}, node {node}",
        'Socket.IO': f"{package('socket.io')} with @socket.io/redis-adapter {package('@socket.io/redis-adapter')}, "
                     f"ioredis {package('ioredis')}, node {node}",
    }


@contextlib.contextmanager
def before_others():
    """Lets all processes run before those of other users of the machine, if that is permitted."""
    command = ['chrt', '--rr', '1']
    if shutil.which('chrt') and subprocess.run([*command, 'true'], capture_output=True).returncode == 0:
        UNDER[:] = command
    try:
        yield
    finally:
        UNDER.clear()


class Process:
    """A process that is pinned to one core. Use it in a `with` statement, which kills it at the end."""

    def __init__(self, core, command, **options):
        self.process = subprocess.Popen([*UNDER, 'taskset', '-c', core, *command], **options)
        self.pid = self.process.pid

    def rss(self):
        status = Path(f'/proc/{self.pid}/status').read_text()
        return int(re.search(r'VmRSS:\s+(\d+) kB', status)[1]) * 1024

    def kill(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
        if self.process.stdout:
            self.process.stdout.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.kill()


class Redis(Process):
    """redis-server on loopback and on a Unix socket, without persistence."""

    def __init__(self, port=None):
        self.port = port or free_port()
        self.folder = tempfile.mkdtemp(prefix='scale-out-')
        self.path = f'{self.folder}/redis.sock'
        super().__init__(LOAD_CORE, [
            'redis-server', '--port', str(self.port), '--bind', '127.0.0.1', '--unixsocket', self.path, '--save', '',
            '--appendonly', 'no', '--dir', self.folder, '--client-output-buffer-limit', 'pubsub', '256mb', '64mb', '60',
            '--maxclients', '1000',
        ], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_until(lambda: accepts(self.port), 5, 'redis-server accepts connections')

    def kill(self):
        super().kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def address(self, link, peer):
        """Returns the address as the peer's command line has it. `link` is tcp or unix."""
        if link == 'tcp':
            return f'redis://127.0.0.1:{self.port}'
        return f'unix:{self.path}' if peer == 'wsloop' else self.path

    def command(self, *words):
        """Sends a command and returns the first bytes of the answer."""
        with socket.create_connection(('127.0.0.1', self.port), timeout=2) as connection:
            connection.sendall((' '.join(words) + '\r\n').encode())
            return connection.recv(1 << 16)


class Server(Process):
    """One of PEERS; `broker` is the address of Redis or None."""

    def __init__(self, peer, broker=None, flags=(), log=subprocess.DEVNULL, core=SERVER_CORE):
        self.peer, self.port = peer, free_port()
        if peer == 'wsloop':
            redis = ['--redis', broker] if broker else []
            command = [str(WSLOOP), 'serve', '-l', f'127.0.0.1:{self.port}', '-r', '/topic/*=broadcast', '-r', '/echo=echo',
                       *redis, *flags]
        else:
            script = {'npm ws': 'ws.mjs', 'Socket.IO': 'socketio.mjs'}[peer]
            command = ['node', f'node/{script}', str(self.port), *([broker] if broker else [])]
        # wsloop logs each connection by default; the other peers log nothing.
        rust_log = 'off' if log == subprocess.DEVNULL else 'warn,wsloop::backplane=info'
        super().__init__(core, command, stdout=subprocess.PIPE, stderr=log, cwd=HERE,
                         env={**os.environ, 'RUST_LOG': rust_log, 'NODE_ENV': 'production'})
        if b'listening' not in self.process.stdout.readline():
            self.kill()
            raise Failed(f'{peer} does not listen')


def load(mode, servers, pids=(), timeout=60, **options):
    """Runs the load on all servers. Returns its figures."""
    command = [*UNDER, 'taskset', '-c', LOAD_CORE, str(LOAD), mode, 'ports=' + ','.join(str(server.port) for server in servers),
               'pids=' + ','.join(str(pid) for pid in pids)]
    if servers[0].peer == 'Socket.IO':
        command.append('protocol=socketio')
    command += [f'{key}={value}' for key, value in options.items()]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout)
    except subprocess.TimeoutExpired:
        raise Failed('the load did not end') from None
    if done.returncode != 0:
        raise Failed(' '.join(done.stderr.split('\n')[:3]) or 'the load failed')
    figures = json.loads(done.stdout)
    if mode != 'flood' and not figures['delivered']:
        raise Failed('nothing was delivered')
    return figures


def free_port():
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        return probe.getsockname()[1]


def accepts(port):
    try:
        with socket.create_connection(('127.0.0.1', port), timeout=1) as connection:
            connection.sendall(b'PING\r\n')
            return connection.recv(16).startswith(b'+PONG')
    except OSError:
        return False


def wait_until(condition, seconds, what):
    until = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > until:
            raise Failed(f'not within {seconds} s: {what}')
        time.sleep(0.002)
    return time.monotonic()
