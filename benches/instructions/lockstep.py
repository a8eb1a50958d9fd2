"""A load generator that works in lockstep with the server, so that its own speed does not affect the counts.

Each round sends the same bytes on all connections and waits for all echoes before the next round begins. The load runs on
the server's core, and the server has the policy SCHED_BATCH, in which a wake-up does not preempt another process. The
server therefore does not run before the load has sent everything and waits, and a round of small messages is one turn of
the server's loop.
"""

import os
import select
import sys

sys.path.append(os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'compare'))
from lib.wire import TEXT, Client, frame

# The example key of RFC 6455 section 5.7. It is not zero, so the server cannot skip unmasking.
MASKING_KEY = b'\x37\xfa\x21\x3d'
TIMEOUT_MILLISECONDS = 60_000


class Failed(Exception):
    """The server did not answer as expected; the text describes the difference."""


class Column:
    """A column of the table: `in_flight` messages of `size` bytes on each of `connections`. `rounds` has the numbers of
    rounds of the short and of the long run."""

    def __init__(self, key, title, connections, size, in_flight, rounds):
        self.key, self.title, self.connections, self.size, self.in_flight = key, title, connections, size, in_flight
        self.rounds = rounds

    def messages(self, rounds):
        return self.connections * self.in_flight * rounds

    def drive(self, port, path, rounds):
        """Connects, compares the echoes of one round with the messages, and runs `rounds` more, counting bytes only."""
        text = (b'abcdefghijklmnopqrstuvwxyz' * (self.size // 26 + 1))[:self.size]
        burst = frame(TEXT, text, key=MASKING_KEY) * self.in_flight
        clients = [Client(port, path) for _ in range(self.connections)]
        for client in clients:
            sender = client.send(burst)
            for _ in range(self.in_flight):
                if client.message() != (TEXT, text):
                    raise Failed('an echo differs from the message')
            sender.join()
            client.socket.setblocking(False)
        sockets = {client.socket.fileno(): client.socket for client in clients}
        answer = (len(text) + header_length(len(text))) * self.in_flight
        for _ in range(rounds):
            one_round(sockets, memoryview(burst), answer)
        for client in clients:
            client.close()


def header_length(payload_length):
    """Returns the length of the header of a server's frame."""
    return 2 if payload_length < 126 else 4 if payload_length < 65536 else 10


def one_round(sockets, burst, answer):
    """Sends `burst` on each socket, and waits until `answer` bytes have arrived on each."""
    poll = select.poll()
    unsent, missing = {}, {}
    for fd, socket in sockets.items():
        sent = socket.send(burst)
        missing[fd] = answer
        if sent < len(burst):
            unsent[fd] = burst[sent:]
        poll.register(fd, select.POLLIN | (select.POLLOUT if fd in unsent else 0))
    while missing:
        ready = poll.poll(TIMEOUT_MILLISECONDS)
        if not ready:
            raise Failed(f'no answer within {TIMEOUT_MILLISECONDS} ms')
        for fd, events in ready:
            if events & select.POLLOUT:
                unsent[fd] = unsent[fd][sockets[fd].send(unsent[fd]):]
                if not unsent[fd]:
                    poll.modify(fd, select.POLLIN)
            if events & ~select.POLLOUT:
                missing[fd] -= received(sockets[fd])
                if missing[fd] < 0:
                    raise Failed('more bytes arrived than expected')
                if missing[fd] == 0:
                    del missing[fd]
                    poll.unregister(fd)


def received(socket):
    try:
        count = socket.recv_into(INPUT)
    except ConnectionError:
        count = 0
    if count == 0:
        raise Failed('the server closed the connection')
    return count


INPUT = bytearray(1 << 20)

COLUMNS = [
    Column('20', '20 B', 20, 20, 1, (200, 1000)),
    Column('20x32', '20 B, 32 in flight', 20, 20, 32, (10, 60)),
    Column('1k', '1 KiB', 20, 1024, 1, (100, 600)),
    Column('64k', '64 KiB', 4, 65536, 1, (20, 120)),
    Column('1m', '1 MiB', 2, 1 << 20, 1, (8, 32)),
]
