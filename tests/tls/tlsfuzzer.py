"""Runs the scripts of tlsfuzzer that apply to this server: tlsfuzzer.py DIRECTORY [SCRIPT...]

DIRECTORY is a checkout of https://github.com/tlsfuzzer/tlsfuzzer, which is on no package index. Prints the failed
conversations of each script. The failures of a script in EXPECTED are not errors of the server, for the reason there. A
failure of another script is an error.
"""

import collections
import concurrent.futures
import os
import re
import subprocess
import sys

from server import Server, certificate, pair

# The scripts and their options. Not included are scripts whose own check of a normal handshake fails, because they need what
# the server does not support: cipher suites with RSA or DHE key exchange, TLS 1.2 without signature algorithms, other answers
# than HTTP.
ECDHE = ["-C", "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"]
SCRIPTS = {
    # TLS 1.3
    "test-tls13-0rtt-garbage": [],
    "test-tls13-ccs": [],
    "test-tls13-connection-abort": [],
    "test-tls13-conversation": [],
    "test-tls13-count-tickets": ["-t", "1"],
    "test-tls13-crfg-curves": [],
    "test-tls13-ecdhe-curves": [],
    "test-tls13-empty-alert": [],
    "test-tls13-finished": [],
    "test-tls13-finished-plaintext": [],
    "test-tls13-hrr": [],
    "test-tls13-invalid-ciphers": [],
    "test-tls13-keyshare-omitted": [],
    "test-tls13-keyupdate": [],
    "test-tls13-large-number-of-extensions": [],
    "test-tls13-legacy-version": [],
    "test-tls13-multiple-ccs-messages": [],
    "test-tls13-no-unknown-groups": [],
    "test-tls13-nociphers": [],
    "test-tls13-obsolete-curves": [],
    "test-tls13-pkcs-signature": [],
    "test-tls13-record-layer-limits": [],
    "test-tls13-record-padding": [],
    "test-tls13-rsa-signatures": [],
    "test-tls13-session-resumption": [],
    "test-tls13-shuffled-extentions": [],
    "test-tls13-signature-algorithms": [],
    "test-tls13-symetric-ciphers": [],
    "test-tls13-unencrypted-alert": [],
    "test-tls13-unrecognised-groups": [],
    "test-tls13-version-negotiation": [],
    "test-tls13-zero-content-type": [],
    "test-tls13-zero-length-data": [],
    # TLS 1.2
    "test-ccs": ECDHE,
    "test-connection-abort": ECDHE,
    "test-conversation": ECDHE,
    "test-cve-2016-6309": ECDHE,
    "test-early-application-data": ECDHE,
    "test-fuzzed-ciphertext": ECDHE,
    "test-hello-request-by-client": ECDHE,
    "test-interleaved-CKE-with-CCS": ECDHE,
    "test-invalid-compression-methods": ECDHE,
    "test-invalid-content-type": ECDHE,
    "test-large-hello": ECDHE,
    "test-point-extension": ECDHE,
    "test-record-layer-fragmentation": ECDHE,
    "test-renegotiation-disabled": ECDHE,
    "test-sslv2-connection": [],
    "test-truncating-of-client-hello": ECDHE,
    "test-version-numbers": ECDHE,
    "test-zero-length-data": ECDHE,
}

# Scripts of which some conversations fail, and why. If another conversation of such a script fails, this counts as expected,
# too: compare the printed numbers after a change of the server.
EXPECTED = {
    "test-tls13-0rtt-garbage": "the server offers no early data, so no client sends any; rustls does not skip it",
    "test-tls13-connection-abort": "the script expects two tickets, the server sends one",
    "test-tls13-count-tickets": "the script counts the ticket after the answer, the server sends it before",
    "test-tls13-crfg-curves": "rustls refuses with handshake_failure groups and cipher suites that it does not have (x448, secp521r1, ffdhe, CCM)",
    "test-tls13-ecdhe-curves": "rustls refuses with handshake_failure groups and cipher suites that it does not have (x448, secp521r1, ffdhe, CCM)",
    "test-tls13-symetric-ciphers": "rustls refuses with handshake_failure groups and cipher suites that it does not have (x448, secp521r1, ffdhe, CCM)",
    "test-tls13-unrecognised-groups": "rustls refuses with handshake_failure groups and cipher suites that it does not have (x448, secp521r1, ffdhe, CCM); hellos above 16 KiB are refused",
    "test-tls13-empty-alert": "another alert than the script demands; the connection ends",
    "test-tls13-finished": "another alert than the script demands; the connection ends; a message above 16 KiB is refused without one",
    "test-tls13-finished-plaintext": "another alert than the script demands; the connection ends",
    "test-tls13-keyshare-omitted": "another alert than the script demands; the connection ends",
    "test-ccs": "another alert than the script demands; the connection ends",
    "test-tls13-keyupdate": "a KeyUpdate in parts with data between them: another alert than the script demands; the connection ends",
    "test-tls13-large-number-of-extensions": "a ClientHello above 16 KiB is refused",
    "test-cve-2016-6309": "a ClientHello above 16 KiB is refused",
    "test-large-hello": "a ClientHello above 16 KiB is refused",
    "test-record-layer-fragmentation": "a ClientHello above 16 KiB is refused",
    "test-truncating-of-client-hello": "a ClientHello above 16 KiB is refused",
    "test-tls13-signature-algorithms": "a ClientHello above 16 KiB is refused; the alert of rustls is another one",
    "test-tls13-record-layer-limits": "another alert than the script demands; the connection ends; rustls accepts records of 2^14 to 2^14 + 2048 bytes without encryption",
    "test-tls13-legacy-version": "rustls ignores legacy_version if supported_versions is there",
    "test-tls13-multiple-ccs-messages": "rustls tolerates two ChangeCipherSpec, and refuses the third",
    "test-tls13-obsolete-curves": "rustls ignores groups that it does not know, also obsolete ones",
    "test-tls13-pkcs-signature": "rustls refuses after its ServerHello, the script expects it before",
    "test-tls13-rsa-signatures": "the script needs a certificate with RSASSA-PSS",
    "test-tls13-session-resumption": "rustls refuses with handshake_failure groups and cipher suites that it does not have (x448, secp521r1, ffdhe, CCM); the script expects two tickets",
    "test-tls13-shuffled-extentions": "rustls does not compare the order of extensions in the two hellos",
    "test-tls13-version-negotiation": "the fallback to TLS 1.2 offers only RSA key exchange",
    "test-tls13-zero-content-type": "rustls ends the handshake without an alert",
    "test-tls13-zero-length-data": "rustls ends the handshake without an alert",
    "test-interleaved-CKE-with-CCS": "rustls ends the handshake without an alert",
    "test-point-extension": "rustls sends no ec_point_formats, which means uncompressed",
}


def run(directory, name, arguments, port):
    """Runs a script. Returns its name, whether it succeeded, and lines about its failures."""
    script = [sys.executable, os.path.join(directory, "scripts", f"{name}.py"), "-h", "localhost", "-p", str(port)]
    env = {**os.environ, "PYTHONPATH": directory}
    # Not all scripts have the option -C. Those that have -d use ECDHE with it.
    for options in [arguments, ["-d"], []]:
        try:
            done = subprocess.run([*script, *options], env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                  stderr=subprocess.STDOUT, text=True, timeout=240)
        except subprocess.TimeoutExpired as error:
            return name, False, [f"timeout: {(error.stdout or b'')[-300:]}"]
        if not re.search("GetoptError|Unknown option", done.stdout):
            break
    summary = done.stdout.rpartition("Test end")[2]
    failed = re.findall(r"(?m)^\t(.*)$", summary.rpartition("FAILED:")[2]) if "FAILED" in summary else []
    counts = re.findall(r"(?m)^(TOTAL|PASS|FAIL|SKIP|XFAIL|XPASS): *(\d+)", done.stdout)
    is_ok = done.returncode == 0
    errors = collections.Counter(re.findall(r"(?m)^(?:AssertionError|[\w.]+Error): (.*)$", done.stdout))
    details = [
        " ".join(f"{name} {count}" for name, count in counts) or done.stdout[-600:],
        *(f"{count} x {error[:160]}" for error, count in errors.most_common(4)),
        *list(dict.fromkeys(failed))[:8],
    ]
    return name, is_ok, details


def main():
    directory, names = os.path.abspath(sys.argv[1]), sys.argv[2:] or list(SCRIPTS)
    failures = 0
    with Server("--host", "*", "--no-page", certificates=["rsa"], log="error") as server:
        with concurrent.futures.ThreadPoolExecutor(3) as pool:
            jobs = [pool.submit(run, directory, name, SCRIPTS[name], server.port) for name in names]
            for job in jobs:
                name, is_ok, details = job.result()
                state = "ok" if is_ok else "expected" if name in EXPECTED else "FAILED"
                print(f"{state:8} {name}: {details[0]}", flush=True)
                for line in details[1:] if not is_ok else []:
                    print(f"           {line}")
                if name in EXPECTED and not is_ok:
                    print(f"           because {EXPECTED[name]}")
                failures += state == "FAILED"
        assert server.process.poll() is None, "the server has ended"
        log = server.text()
    if log:
        print(log[-2000:])
    print(f"{len(names)} scripts, {failures} failed")
    return 1 if failures or log else 0


if __name__ == "__main__":
    sys.exit(main())
