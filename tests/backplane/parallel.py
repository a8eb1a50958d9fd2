"""Runs tests as processes of their own, several at the same time, because most of them wait: parallel.py JOBS MODULE..."""

import concurrent.futures
import subprocess
import sys
import time
import unittest


def names(suite):
    for test in suite:
        yield from names(test) if isinstance(test, unittest.TestSuite) else [test.id()]


def run(name):
    begin = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "unittest", name], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    return name, done.returncode, done.stdout, time.monotonic() - begin


def main(jobs, *modules):
    tests = list(names(unittest.defaultTestLoader.loadTestsFromNames(modules)))
    failures = []
    with concurrent.futures.ThreadPoolExecutor(int(jobs)) as pool:
        for done in concurrent.futures.as_completed([pool.submit(run, name) for name in tests]):
            name, code, output, seconds = done.result()
            if code:
                failures.append(name)
                print(output)
            else:
                # What the test has printed, without the report of unittest, which has a dot before or behind it.
                printed = output.partition("-" * 70)[0].strip(".\n")
                if printed:
                    print(printed, flush=True)
            print(f"{'FAILED' if code else 'ok'} {name} {seconds:.1f} s", flush=True)
    print(f"{len(tests)} tests, {len(failures)} failures {failures or ''}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
