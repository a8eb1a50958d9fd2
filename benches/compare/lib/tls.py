"""The TLS tables: each server with TLS and without it, in the same rounds."""

import json
import os
import random
import statistics
import subprocess
import tempfile
from pathlib import Path

from . import columns, peers, report
from .columns import Failed
from .peers import HERE, LOAD_CORE, ROOT, TARGET, WSLOOP, Peer

REFERENCE = 'bare rustls loop'
SESSIONS = 5000
STORM_CLIENTS = 5000


class Pair:
    """A server program, started with TLS and without it. `plain` is None for a program without WebSocket."""

    def __init__(self, name, what, plain, tls, make, version):
        self.name, self.what, self.make, self.get_version = name, what, make, version
        self.plain = plain and Peer(name, plain, '', what)
        self.tls = Peer(name, tls, '', what, is_tls=True)
        self.version, self.negotiated, self.failure, self.failures = '', '', None, {}

    def facts(self):
        return {'version': self.version, 'what': self.what, 'negotiated': self.negotiated, 'failure': self.failure}


class Both:
    """A run of `wsloop bench` with TLS and one without, in random order: the server's CPU time per message."""

    rounds_max = 1000

    def __init__(self, group, load, wanted=None):
        self.group, self.load, self.wanted = group, load, wanted
        self.key, self.title = load.key, load.title

    def measure(self, pair, seconds):
        if pair.plain is None:
            return None
        found = {peer: self.load.measure(peer, seconds) for peer in random.sample([pair.plain, pair.tls], 2)}
        plain, tls = found[pair.plain], found[pair.tls]
        return {'plain_cpu_us': plain['cpu_us'], 'cpu_us': tls['cpu_us'], 'ratio': tls['cpu_us'] / plain['cpu_us'],
                'plain_per_second': plain['per_second'], 'per_second': tls['per_second']}

    def line(self, figures):
        return f"{figures['cpu_us']:10.4f} us CPU, {figures['ratio']:6.2f} of plain"


class Sessions:
    """Resident bytes of the server for each of 5 000 idle sessions, with TLS and without."""

    # The figure hardly varies, and the measurement is slow.
    rounds_max = 2
    group = 'memory'

    def __init__(self, key, title, size):
        self.key, self.title, self.size = key, title, size

    def measure(self, pair, _):
        if pair.plain is None:
            return None
        plain, tls = self.resident(pair.plain), self.resident(pair.tls)
        return {'plain_bytes': plain, 'bytes': tls, 'more_bytes': tls - plain}

    def resident(self, peer):
        with peer.start() as server:
            # A warm-up, so that allocations which happen only once are not counted per session.
            with self.open(server, peer, 50):
                pass
            columns.wait_until_idle(server)
            before = server.rss()
            with self.open(server, peer, SESSIONS):
                columns.wait_until_idle(server)
                return (server.rss() - before) / SESSIONS

    def open(self, server, peer, count):
        """Returns the process that holds the sessions open; its `with` statement closes its stdin at the end."""
        load = subprocess.Popen(
            ['taskset', '-c', LOAD_CORE, str(LOAD), 'sessions', str(server.port), str(count), str(self.size),
             'tls' if peer.is_tls else 'plain'], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        if load.stdout.readline() != b'open\n':
            load.kill()
            raise Failed('not all sessions could be opened')
        return load

    def line(self, figures):
        return f"{figures['bytes']:10.0f} B a session, plain {figures['plain_bytes']:.0f}"


class Handshakes:
    """Connections that are opened and closed, 32 at a time: the server's CPU time for each."""

    rounds_max = 1000
    group = 'handshakes'

    def __init__(self, kind, until, title, wanted=None):
        self.kind, self.until, self.title, self.wanted = kind, until, title, wanted
        self.key = f'{kind}-{until}'

    def measure(self, pair, seconds):
        if pair.plain is None and self.until == 'upgrade':
            return None
        with pair.tls.start() as server:
            found = run_load('handshakes', server.port, server.pid, self.kind, self.until, seconds)
        if self.kind == 'resumed' and found['resumed'] < found['handshakes']:
            raise Failed(f"only {found['resumed']} of {found['handshakes']} were resumed")
        if self.kind == 'full' and self.until == 'tls':
            pair.negotiated = found['facts']
        return {key: found[key] for key in ('cpu_us', 'per_second', 'cpu_share')}

    def line(self, figures):
        return (f"{figures['cpu_us']:10.1f} us CPU, {figures['per_second']:8.0f}/s, the server used "
                f"{figures['cpu_share']:.0%} of its core")


class Storm:
    """Latency of paced echoes on 50 sessions while 5 000 clients begin their handshakes at once."""

    rounds_max = 1000
    group = 'storm'
    key = 'storm'
    title = 'Echo of 20 B on 50 open sessions while 5 000 clients begin their handshakes'

    def measure(self, pair, _):
        if pair.plain is None:
            return None
        with pair.tls.start() as server:
            found = run_load('storm', server.port, STORM_CLIENTS)
        if not found['has_priority']:
            print('the load may not use SCHED_FIFO: latencies include those of the load itself', flush=True)
        figures = {f'{when}_{key}': found[when][key] for when in ('quiet', 'storm') for key in ('p50_ms', 'p99_ms', 'max_ms')}
        return {**figures, 'seconds': found['seconds'], 'opened': found['opened'], 'unanswered': found['unanswered']}

    def line(self, figures):
        return (f"p50 {figures['storm_p50_ms']:.2f} ms, p99 {figures['storm_p99_ms']:.2f} ms, max {figures['storm_max_ms']:.2f} ms; "
                f"before p99 {figures['quiet_p99_ms']:.2f} ms; {figures['opened']} opened in {figures['seconds']:.2f} s")


def run_load(*words):
    done = subprocess.run(['taskset', '-c', LOAD_CORE, str(LOAD), *map(str, words)], capture_output=True, text=True, timeout=120)
    try:
        return json.loads(done.stdout)
    except ValueError:
        lines = [line for line in done.stderr.splitlines() if line and not line.startswith(('note:', 'thread '))]
        raise Failed((lines or ['no figures'])[0]) from None


def plain_column(key):
    return next(column for column in columns.ALL if column.key == key)


# The ratios to plain that wsloop shall not exceed.
ALL = [
    Both('echo', plain_column('echo-20'), 1.1),
    Both('echo', plain_column('echo-20x32'), 1.7),
    Both('echo', plain_column('echo-1k')),
    Both('echo', plain_column('echo-64k'), 1.7),
    Both('echo', plain_column('echo-1m')),
    Both('broadcast', plain_column('broadcast-1000'), 1.1),
    Both('broadcast', plain_column('broadcast-1000x16'), 1.4),
    Handshakes('full', 'tls', 'full', 0.9),
    Handshakes('resumed', 'tls', 'resumed', 0.9),
    Handshakes('full', 'upgrade', 'full, with the WebSocket handshake'),
    Handshakes('resumed', 'upgrade', 'resumed, with the WebSocket handshake'),
    Storm(),
    Sessions('sessions-20', 'after an echo of 20 B', 20),
    Sessions('sessions-256k', 'after an echo of 256 KiB', 256 * 1024),
]


def measure(args):
    """Builds, measures and writes `tls.json` and `tls.md`."""
    wanted = args.only.split(',') if args.only else None
    chosen = [column for column in ALL if args.columns in column.key]
    with tempfile.TemporaryDirectory() as folder:
        all_pairs = build(wanted, make_certificate(folder))
        results = {'machine': {**report.machine(), 'load_average': os.getloadavg()[0]}, 'rounds': args.rounds,
                   'seconds': args.seconds, 'columns': {}}
        measured = {(pair.name, column.key): {} for pair in all_pairs for column in chosen}
        for number in range(args.rounds):
            for column in chosen:
                for pair in random.sample(all_pairs, len(all_pairs)):
                    if pair.failure or number >= column.rounds_max:
                        continue
                    try:
                        figures = column.measure(pair, args.seconds)
                    except (Failed, RuntimeError, OSError, subprocess.SubprocessError) as failure:
                        print(f'{column.key:18} {pair.name:18} {failure}', flush=True)
                        pair.failures[column.key] = str(failure)
                        continue
                    if figures is not None:
                        measured[pair.name, column.key][number] = figures
                        print(f'{column.key:18} {pair.name:18} {column.line(figures)}', flush=True)
            for column in chosen:
                row = results['columns'][column.key] = {'title': column.title, 'peers': {}}
                for pair in all_pairs:
                    rounds = measured[pair.name, column.key]
                    row['peers'][pair.name] = summary(rounds, measured.get((REFERENCE, column.key), {}))
                    if column.key in pair.failures:
                        row['peers'][pair.name]['failure'] = pair.failures[column.key]
            results['peers'] = {pair.name: pair.facts() for pair in all_pairs}
            results['rounds_done'] = number + 1
            write(results, args.results)


def summary(rounds, reference):
    """Returns the median of each figure with its minimum and maximum, and all rounds."""
    figures = [dict(figures) for figures in rounds.values()]
    for number, found in zip(rounds, figures):
        if number in reference:
            found['of_reference'] = reference[number]['cpu_us'] / found['cpu_us']
    keys = set.intersection(*map(set, figures)) if figures else []
    values = {key: [found[key] for found in figures] for key in keys}
    return {**{key: {'median': statistics.median(values[key]), 'min': min(values[key]), 'max': max(values[key])}
               for key in sorted(keys)}, 'rounds': figures}


def make_certificate(folder):
    """Makes a certificate with an ECDSA key (P-256), and returns the names of both files."""
    certificate, key = f'{folder}/certificate.pem', f'{folder}/key.pem'
    peers.sh('openssl', 'req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '30',
             '-subj', '/CN=localhost', '-addext', 'subjectAltName=DNS:localhost,IP:127.0.0.1',
             '-addext', 'basicConstraints=critical,CA:FALSE', '-keyout', key, '-out', certificate)
    return certificate, key


def build(wanted, pem):
    manifest = HERE / 'Cargo.toml'
    release = TARGET / 'release'
    cargo = lambda: peers.sh('cargo', 'build', '--release', '--locked', env={'CARGO_TARGET_DIR': str(TARGET)})
    own = lambda: peers.sh('cargo', 'build', '--release', '--locked', '--bin', 'wsloop', '--features', 'full', cwd=ROOT,
                           env={'CARGO_TARGET_DIR': str(TARGET / 'wsloop')})
    # The default limit of unfinished handshakes, 4 096, is below the number of clients that begin one at once.
    wsloop = [str(WSLOOP), 'serve', '--handshakes-max', str(2 * STORM_CLIENTS), '-l']
    uws, tungstenite, node = str(TARGET / 'uws-tls' / 'uws'), str(release / 'tokio_tungstenite'), ['node', 'node/ws_server.mjs']
    table = [
        Pair(REFERENCE, 'this folder: accept, handshake, close', None,
             lambda port: [str(release / 'bare_rustls'), str(port), *pem],
             cargo, lambda: f"rustls {peers.cargo_version('rustls', manifest)}"),
        Pair('wsloop', 'this project, with --features full', lambda port: [*wsloop, f'127.0.0.1:{port}'],
             lambda port: [*wsloop, f'tls:127.0.0.1:{port}', '--tls-cert', pem[0], '--tls-key', pem[1]], own,
             lambda: f"{peers.cargo_version('wsloop', ROOT / 'Cargo.toml')}, rustls {peers.cargo_version('rustls', ROOT / 'Cargo.toml')}"),
        Pair('uWebSockets', 'with OpenSSL, -O3 -flto', lambda port: [uws, str(port)], lambda port: [uws, str(port), *pem],
             lambda: peers.sh('c/uws.sh', TARGET / 'uws-tls', 'tls'),
             lambda: (TARGET / 'uws-tls' / 'version').read_text().strip()),
        Pair('tokio-tungstenite', 'with tokio-rustls, one tokio thread, read buffer of 8 KiB',
             lambda port: [tungstenite, str(port), '8192'], lambda port: [tungstenite, str(port), '8192', *pem], cargo,
             lambda: f"{peers.cargo_version('tokio-tungstenite', manifest)}, tokio-rustls "
                     f"{peers.cargo_version('tokio-rustls', manifest)}, rustls {peers.cargo_version('rustls', manifest)}"),
        Pair('npm ws', 'on node\'s https', lambda port: [*node, str(port)], lambda port: [*node, str(port), *pem],
             lambda: peers.sh('npm', 'ci', '--no-audit', '--no-fund', cwd=HERE / 'node'), node_version),
    ]
    # The loads are always built.
    own()
    cargo()
    found = []
    for pair in table:
        if wanted and pair.name not in wanted:
            continue
        print(f'building {pair.name}', flush=True)
        try:
            pair.make()
            pair.version = pair.get_version()
            with pair.tls.start():
                pass
        except (RuntimeError, OSError, TypeError) as error:
            pair.failure = str(error)
            print(f'  {pair.name} cannot be built or started, and is left out: {error}', flush=True)
        found.append(pair)
    return found


def node_version():
    openssl = subprocess.run(['node', '-p', 'process.versions.openssl'], capture_output=True, text=True).stdout.strip()
    return f'{peers.node_version()}, OpenSSL {openssl}'


def write(results, folder):
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / 'tls.json').write_text(json.dumps(results, indent=1) + '\n')
    (folder / 'tls.md').write_text(tables(results))
    print(f'written: {folder}/tls.json, tls.md', flush=True)


def tables(results):
    machine = results['machine']
    lines = [
        '# Results with TLS', '',
        f"{machine['date']}, {machine['cpu']}, {machine['cores']} cores, Linux {machine['kernel']}, load average at the start "
        f"{machine['load_average']:.2f}; {results['rounds_done']} interleaved rounds of {results['seconds']:g} s. Medians, and the "
        'smallest and largest figure of all rounds. Server on one core, load on the other. The same certificate (ECDSA P-256) for '
        'all. Written by `benches/compare/run --tls`.', '',
        '| server | version | what | negotiated |', '|---|---|---|---|',
    ]
    for name, facts in results['peers'].items():
        version = facts['version'] or f"not measured: {facts['failure']}"
        lines.append(f"| {name} | {version} | {facts['what']} | {facts['negotiated']} |")
    lines += wanted_table(results)
    for group, title in [('echo', 'Echo: server CPU with TLS, as a multiple of the same server\'s without TLS in the same round'),
                         ('broadcast', 'Broadcast: server CPU per delivery, likewise')]:
        lines += table(results, group, title, lambda found: spread(found, 'ratio', 2))
    for group, title in [('echo', 'Echo: server CPU microseconds per message with TLS, and without'),
                         ('broadcast', 'Broadcast: server CPU microseconds per delivery with TLS, and without')]:
        lines += table(results, group, title,
                       lambda found: f"{micros(found['cpu_us'])}; {micros(found['plain_cpu_us'])}")
    for group, title in [('echo', 'Echo: messages per second with TLS'), ('broadcast', 'Broadcast: deliveries per second with TLS')]:
        lines += table(results, group, title, lambda found: report.rate_cell(found['per_second']['median'], None))
    lines += table(results, 'handshakes', 'Handshakes: server CPU microseconds for a connection that opens and closes',
                   lambda found: spread(found, 'cpu_us', 0))
    lines += table(results, 'handshakes', 'Handshakes per second of server CPU',
                   lambda found: f"{1e6 / found['cpu_us']['median']:.0f}")
    lines += table(results, 'handshakes', f'The same as a share of the {REFERENCE}\'s in the same round',
                   lambda found: spread(found, 'of_reference', 2))
    lines += table(results, 'handshakes', 'Measured handshakes per second, and the part of its core that the server used',
                   lambda found: f"{found['per_second']['median']:.0f}; {found['cpu_share']['median']:.0%}")
    lines += storm_table(results)
    lines += table(results, 'memory', 'Memory: resident bytes for each of 5 000 idle sessions with TLS, and without',
                   lambda found: f"{report.bytes_cell(found['bytes']['median'], None)}; "
                                 f"{report.bytes_cell(found['plain_bytes']['median'], None)}")
    failed = [f"- {name}, {column['title']}: {found['failure']}" for column in results['columns'].values()
              for name, found in column['peers'].items() if 'failure' in found]
    if failed:
        lines += ['', '## Failed measurements', ''] + failed
    return '\n'.join(lines) + '\n'


def wanted_table(results):
    rows = []
    for column in ALL:
        found = results['columns'].get(column.key, {}).get('peers', {}).get('wsloop', {})
        wanted = getattr(column, 'wanted', None)
        if column.group in ('echo', 'broadcast') and wanted and 'ratio' in found:
            rows.append((f'{column.title}: CPU, multiple of plain', f'<= {wanted:.2f}', spread(found, 'ratio', 2),
                         found['ratio']['median'] <= wanted))
        if column.group == 'handshakes' and wanted and 'of_reference' in found:
            rows.append((f'Handshakes, {column.title}: share of the {REFERENCE}\'s', f'>= {wanted:.2f}',
                         spread(found, 'of_reference', 2), found['of_reference']['median'] >= wanted))
        if column.group == 'storm' and 'storm_p99_ms' in found:
            rows.append((f'{column.title}: p99', '<= 10 ms', f"{spread(found, 'storm_p99_ms', 1)} ms",
                         found['storm_p99_ms']['median'] <= 10))
    if not rows:
        return []
    lines = ['', '## What is wanted of wsloop', '', '| figure | wanted | measured | met |', '|---|---|---|---|']
    return lines + [f"| {title} | {wanted} | {got} | {'yes' if met else '**no**'} |" for title, wanted, got, met in rows]


def table(results, group, title, cell):
    chosen = [(column.key, report.short(column.title)) for column in ALL
              if column.group == group and column.key in results['columns']]
    if not chosen:
        return []
    lines = ['', f'## {title}', '', '| | ' + ' | '.join(short for _, short in chosen) + ' |', '|---' * (len(chosen) + 1) + '|']
    for name in results['peers']:
        cells = []
        for key, _ in chosen:
            found = results['columns'][key]['peers'][name]
            cells.append(cell(found) if found['rounds'] else '-')
        if any(text != '-' for text in cells):
            lines.append(f'| {name} | ' + ' | '.join(cells) + ' |')
    return lines


def storm_table(results):
    column = results['columns'].get('storm')
    if column is None:
        return []
    lines = ['', f"## {column['title']}", '',
             '| | p50 ms | p99 ms | max ms | before: p99 ms | seconds until all are open | opened |', '|---|---|---|---|---|---|---|']
    for name, found in column['peers'].items():
        if found['rounds']:
            cells = [spread(found, key, 1) for key in ('storm_p50_ms', 'storm_p99_ms', 'storm_max_ms', 'quiet_p99_ms')]
            lines.append(f"| {name} | {' | '.join(cells)} | {spread(found, 'seconds', 2)} | {found['opened']['min']:.0f} |")
    return lines


def spread(found, key, digits):
    if key not in found:
        return '-'
    figure = found[key]
    return f"{figure['median']:.{digits}f} ({figure['min']:.{digits}f} to {figure['max']:.{digits}f})"


def micros(figure):
    return f"{figure['median']:.3g}" if figure['median'] < 100 else f"{figure['median']:.0f}"


LOAD = TARGET / 'release' / 'tls_load'
