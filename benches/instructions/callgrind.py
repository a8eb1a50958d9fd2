"""Counts a server's instructions with valgrind's callgrind."""

import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from lockstep import Failed

NEEDED = {'valgrind': 'valgrind', 'taskset': 'util-linux', 'chrt': 'util-linux'}
# Above these lengths glibc copies and fills with `rep movsb` and `rep stosb`: one instruction, which valgrind counts once
# for each byte. Without it glibc runs its loop of vectors, of which each instruction is counted once.
ENVIRONMENT = 'GLIBC_TUNABLES=' + ':'.join(
    f'glibc.cpu.x86_rep_{name}_threshold=0x7fffffff' for name in ('movsb', 'stosb'))
# Long enough to write the profile.
STOP_SECONDS = 30


def missing():
    """What is not installed, as a line for the user, or None."""
    absent = [tool for tool in NEEDED if shutil.which(tool) is None]
    packages = sorted({NEEDED[tool] for tool in absent})
    return f"{', '.join(absent)} not found. On Debian: apt-get install {' '.join(packages)}" if absent else None


def version():
    return subprocess.run(['valgrind', '--version'], capture_output=True, text=True).stdout.strip()


def per_message(peer, column):
    """Instructions per message, and polls per round or None.

    Two runs differ in nothing but the number of messages; what both have (start, handshakes, the end) cancels out.
    """
    short, long = (total(peer, column, rounds) for rounds in column.rounds)
    rounds = column.rounds[1] - column.rounds[0]
    polls = (long[1] - short[1]) / rounds if long[1] else None
    return (long[0] - short[0]) / column.messages(rounds), polls


def total(peer, column, rounds):
    """Instructions and polls of a whole run."""
    with tempfile.TemporaryDirectory() as folder:
        profile = Path(folder) / 'profile'
        under = ['env', ENVIRONMENT, 'chrt', '--batch', '0',
                 'valgrind', '--quiet', '--vgdb=no', '--tool=callgrind', f'--callgrind-out-file={profile}']
        with peer.start(under=under) as server:
            column.drive(server.port, peer.echo, rounds)
            server.process.terminate()
            try:
                server.process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                raise Failed(f'it did not end within {STOP_SECONDS} s of SIGTERM') from None
        text = profile.read_text()
    return int(re.search(r'^(?:totals|summary): (\d+)', text, re.MULTILINE)[1]), polls(text)


def polls(profile):
    """Calls of epoll_wait and its kin; 0 if the profile does not name them."""
    ids = re.findall(r'\((\d+)\) epoll_p?wait2?(?:@|$)', profile, re.MULTILINE)
    return sum(int(calls) for number in set(ids)
               for calls in re.findall(rf'^cfn=\({number}\).*\ncalls=(\d+)', profile, re.MULTILINE))
