"""CPU, latency and throughput: interleaved rounds of all peers, with and without the broker."""

import statistics
from concurrent.futures import ThreadPoolExecutor

from .processes import PEERS, Failed, Redis, Server, before_others, load

LINKS = [None, 'tcp', 'unix']
# Publications of 64 B: the title, and what the load does.
CPU_CASES = {
    'alone': ('one client, one message in flight', {'topics': 1}),
    'alone x16': ('one client, bursts of 16', {'topics': 1, 'burst': 16}),
    'topics': ('50 topics, in each one message in flight', {'topics': 50}),
    'busy': ('1 000 topics, in each one message in flight', {'topics': 1000}),
    'topics x16': ('50 topics, in each a burst of 16', {'topics': 50, 'burst': 16}),
}
FAN_CASES = {
    '1 to 1 000': {'burst': 1, 'all': 1000},
    '1 to 1 000, bursts of 16': {'burst': 16, 'all': 1000},
}
# Bursts in several topics with one member on each of two servers, both of which publish.
THROUGHPUT_CASES = {
    'bursts of 16': {'topics': 50, 'senders': 2, 'burst': 16},
    'bursts of 64': {'topics': 20, 'senders': 2, 'burst': 64},
    'bursts of 256': {'topics': 10, 'senders': 2, 'burst': 256},
}


def started(peer, link, count, measured):
    """Starts `count` servers that use one Redis, or none, and returns what `measured` returns for them and Redis."""
    if link is None:
        return with_servers(peer, None, count, lambda servers: measured(servers, None))
    with Redis() as redis:
        return with_servers(peer, redis.address(link, peer), count, lambda servers: measured(servers, redis))


def with_servers(peer, broker, count, measured):
    servers = []
    try:
        for _ in range(count):
            servers.append(Server(peer, broker))
        return measured(servers)
    finally:
        for server in servers:
            server.kill()


def one_round(number, seconds, found):
    """Measures everything once."""
    for case, (_, options) in CPU_CASES.items():
        for peer in PEERS:
            for link in LINKS:
                note(found, number, ('cpu', case, peer, link or 'none'),
                     lambda: started(peer, link, 1, lambda servers, redis: cpu(servers, redis, seconds, options)))
    for peer in PEERS:
        # Half of what the peer has managed with the broker in this round, also without the broker.
        rates = {link: found.get((number, 'cpu', 'topics', peer, link), {}).get('per_second') for link in ('tcp', 'unix')}
        rate = min([rate for rate in rates.values() if rate], default=2000) / 2
        with before_others():
            for link in LINKS:
                note(found, number, ('latency', 'half', peer, link or 'none'),
                     lambda: started(peer, link, 1, lambda servers, _: latency(servers, seconds, rate)))
    for case, options in FAN_CASES.items():
        for peer in PEERS:
            for link, count in ((None, 1), ('tcp', 2)):
                members = {'burst': options['burst'], 'members': options['all'] // count}
                note(found, number, ('fan', case, peer, link or 'none'),
                     lambda: started(peer, link, count, lambda servers, redis: cpu(servers, redis, seconds, members)))
            note(found, number, ('fan', case, peer, 'apart'),
                 lambda: started(peer, None, 2, lambda servers, _: apart(servers, seconds, members)))
    for case, options in THROUGHPUT_CASES.items():
        for peer in PEERS:
            for link in LINKS[1:]:
                note(found, number, ('throughput', case, peer, link),
                     lambda: started(peer, link, 2, lambda servers, redis: cpu(servers, redis, seconds, options)))


def note(found, number, key, measure):
    try:
        found[(number, *key)] = figures = measure()
    except (Failed, OSError) as failure:
        figures = {'failure': str(failure)}
        found.setdefault('failures', []).append(f"{' / '.join(key)}: {failure}")
    print(f"{number} {' / '.join(key):44}", ' '.join(f'{name} {shown(value)}' for name, value in figures.items()), flush=True)


def shown(value):
    return f'{value:.3f}' if isinstance(value, float) else str(value)


def cpu(servers, redis, seconds, options):
    pids = [server.pid for server in servers] + ([redis.pid] if redis else [])
    figures = load('rounds', servers, pids, seconds=seconds, **options)
    own = sum(figures['cpu'][:len(servers)])
    # Of publications, the beginning of a round is counted, which for a slow peer is not precise.
    publications = figures['delivered'] / (options.get('members', 1) * len(servers))
    return {
        'us': own / publications * 1e6,
        'us_delivery': own / figures['delivered'] * 1e6,
        'redis_us': figures['cpu'][-1] / publications * 1e6 if redis else 0.0,
        'per_second': publications / figures['seconds'],
    }


def apart(servers, seconds, options):
    """Measures servers that have nothing to do with each other at the same time."""
    with ThreadPoolExecutor() as pool:
        found = list(pool.map(lambda server: load('rounds', [server], [server.pid], seconds=seconds, **options), servers))
    return {'us_delivery': sum(figures['cpu'][0] for figures in found) / sum(figures['delivered'] for figures in found) * 1e6}


def latency(servers, seconds, rate):
    figures = load('paced', servers, [], seconds=max(seconds, 1), topics=50, rate=rate)
    return {'p50': figures['p50_us'], 'p99': figures['p99_us'], 'rate': rate}


def summary(found, rounds):
    """Returns medians. Differences and ratios are taken between measurements of the same round."""
    def values(key, link, name):
        return {number: found[(number, *key, link)][name] for number in range(rounds) if (number, *key, link) in found}

    def paired(key, link, name, compare):
        plain, broker = values(key, 'none', name), values(key, link, name)
        both = [compare(broker[number], plain[number]) for number in plain.keys() & broker.keys()]
        return statistics.median(both) if both else None

    def median(key, link, name):
        all_rounds = values(key, link, name).values()
        return statistics.median(all_rounds) if all_rounds else None

    result = {'cpu': {}, 'latency': {}, 'fan': {}, 'throughput': {}}
    for peer in PEERS:
        for case in CPU_CASES:
            key = ('cpu', case, peer)
            result['cpu'].setdefault(case, {})[peer] = {'none': median(key, 'none', 'us')} | {
                link: {'added_us': paired(key, link, 'us', lambda broker, plain: broker - plain),
                       'us': median(key, link, 'us'), 'redis_us': median(key, link, 'redis_us'),
                       'per_second': median(key, link, 'per_second')} for link in LINKS[1:]}
        key = ('latency', 'half', peer)
        result['latency'][peer] = {'none': {name: median(key, 'none', name) for name in ('p50', 'p99', 'rate')}} | {
            link: {name: median(key, link, name) for name in ('p50', 'p99', 'rate')} | {
                f'added_{name}': paired(key, link, name, lambda broker, plain: broker - plain) for name in ('p50', 'p99')}
            for link in LINKS[1:]}
        for case in FAN_CASES:
            key = ('fan', case, peer)
            result['fan'].setdefault(case, {})[peer] = {
                'one_us': median(key, 'none', 'us_delivery'), 'two_us': median(key, 'tcp', 'us_delivery'),
                'apart_us': median(key, 'apart', 'us_delivery'),
                'ratio': paired(key, 'tcp', 'us_delivery', lambda broker, plain: broker / plain)}
        for case in THROUGHPUT_CASES:
            key = ('throughput', case, peer)
            result['throughput'].setdefault(case, {})[peer] = {
                link: {name: median(key, link, name) for name in ('per_second', 'us', 'redis_us')} for link in LINKS[1:]}
    return result
