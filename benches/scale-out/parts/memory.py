"""Resident memory while Redis does not answer and 200 clients publish as fast as the server reads."""

import json
import os
import signal
import threading
import time

from .processes import PEERS, Failed, Redis, Server, load

FAULT = 10
OUTBOX = 8 * 1024 * 1024


def measure():
    found = {}
    for fault in ('stop', 'kill'):
        for peer in PEERS:
            figures = found.setdefault(fault, {})[peer] = run_one(fault, peer)
            print(f'memory {fault:5} {peer:10}', json.dumps(figures), flush=True)
    return {'memory': found, 'outbox': OUTBOX}


def run_one(fault, peer):
    redis = Redis()
    try:
        with Server(peer, redis.address('tcp', peer)) as server:
            return flooded(fault, server, redis)
    except Failed as failure:
        return {'failure': str(failure)}
    finally:
        redis.kill()


def flooded(fault, server, redis):
    # A warm-up with the same load and with Redis, so that growth which does not depend on the fault is not counted.
    load('flood', [server], seconds=2, **FLOOD)
    time.sleep(3)
    before = server.rss()
    port = redis.port
    if fault == 'stop':
        os.kill(redis.pid, signal.SIGSTOP)
    else:
        redis.kill()
    highest = [0]
    flood = threading.Thread(target=lambda: load('flood', [server], seconds=FAULT - 2, **FLOOD))
    flood.start()
    until = time.monotonic() + FAULT
    while time.monotonic() < until and server.process.poll() is None:
        highest[0] = max(highest[0], server.rss())
        time.sleep(0.05)
    flood.join()
    if server.process.poll() is not None:
        raise Failed('the server has ended')
    if fault == 'stop':
        os.kill(redis.pid, signal.SIGCONT)
    else:
        vars(redis).update(vars(Redis(port)))
    samples = []
    for _ in range(100):
        time.sleep(0.1)
        samples.append(server.rss())
    return {'before': before, 'growth': highest[0] - before, 'growth_after_return': max(samples) - before,
            'back': samples[-1] - before}


# Few topics, so that deliveries do not dominate; the senders of the last two seconds of the fault are gone.
FLOOD = {'topics': 200, 'burst': 16, 'size': 1024, 'warmup': 0.1}
