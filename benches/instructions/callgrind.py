"""Counts a server's instructions with valgrind's callgrind."""

import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from lockstep import Failed

NEEDED = {'valgrind': 'valgrind', 'taskset': 'util-linux', 'chrt': 'util-linux'}
# Above these lengths glibc copies and fills with `rep movsb` and `rep stosb`. Each is one instruction, but valgrind counts
# it once for each byte. With the thresholds out of reach, glibc uses a loop of vector instructions.
ENVIRONMENT = 'GLIBC_TUNABLES=' + ':'.join(
    f'glibc.cpu.x86_rep_{name}_threshold=0x7fffffff' for name in ('movsb', 'stosb'))
# Maximum time from SIGTERM until callgrind has written the profile and the server has ended.
STOP_SECONDS = 30


def missing():
    """Returns a message about tools that are not installed, or None if all are."""
    absent = [tool for tool in NEEDED if shutil.which(tool) is None]
    packages = sorted({NEEDED[tool] for tool in absent})
    return f"{', '.join(absent)} not found. On Debian: apt-get install {' '.join(packages)}" if absent else None


def version():
    return subprocess.run(['valgrind', '--version'], capture_output=True, text=True).stdout.strip()


def per_message(peer, column):
    """Returns instructions per message, and polls per round or None if the profile has no polls.

    The two runs differ only in the number of messages, so start, handshakes and the end cancel out.
    """
    short, long = (total(peer, column, rounds) for rounds in column.rounds)
    rounds = column.rounds[1] - column.rounds[0]
    polls = (long[1] - short[1]) / rounds if long[1] else None
    return (long[0] - short[0]) / column.messages(rounds), polls


def total(peer, column, rounds):
    """Returns the instructions and polls of a complete run."""
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
                raise Failed(f'the server did not end within {STOP_SECONDS} s of SIGTERM') from None
        text = profile.read_text()
    return int(re.search(r'^(?:totals|summary): (\d+)', text, re.MULTILINE)[1]), polls(text)


def polls(profile):
    """Returns the number of calls of epoll_wait and its variants; 0 if the profile does not name them."""
    ids = re.findall(r'\((\d+)\) epoll_p?wait2?(?:@|$)', profile, re.MULTILINE)
    return sum(int(calls) for number in set(ids)
               for calls in re.findall(rf'^cfn=\({number}\).*\ncalls=(\d+)', profile, re.MULTILINE))
