"""Scanners for weak settings and known vulnerabilities: sslyze, and with LONG also testssl.sh, which needs a minute."""

import json
import os
import subprocess
import sys
import tempfile
import unittest

from server import TestCase, certificate

# What testssl.sh reports above "info", and why it stays.
ANSWERED = {
    "engine_problem": "about the program openssl that testssl.sh uses",
    "sessionresumption_ticket": "testssl.sh closes the connection before the ticket arrives; openssl_test.py resumes",
    "cipher_order": "the client's order, as Mozilla recommends: all cipher suites have forward secrecy and AEAD, and "
    "clients without instructions for AES prefer ChaCha20",
    "cert_chain_of_trust": "the CA of the test is none of those of testssl.sh; openssl_test.py verifies the chain",
    "cert_revocation": "a property of the certificate, which the test makes",
    "DNS_CAArecord": "a property of the name localhost",
    "HSTS": "applies to all ports of a host, so that it is up to its web server",
}


class Scanners(TestCase):
    def test_sslyze_finds_nothing_that_mozillas_intermediate_settings_forbid(self):
        for arguments, name in [([], "intermediate"), (["--tls-min", "1.3"], "modern")]:
            with self.subTest(name):
                server = self.server(*arguments)
                done = subprocess.run(
                    [os.path.join(os.path.dirname(sys.executable), "sslyze"), f"localhost:{server.port}",
                     f"--mozilla_config={name}", f"--certinfo_ca_file={certificate('root.pem')}"],
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    text=True,
                    timeout=60,
                )
                self.assertIn("OK - Compliant.", done.stdout)
                self.assertEqual(done.returncode, 0, done.stdout)
                for wanted in [
                    "Compression disabled",
                    "Not vulnerable to OpenSSL CCS injection",
                    "Not vulnerable to Heartbleed",
                    "Not vulnerable, RSA cipher suites not supported",
                    "Client Renegotiation DoS Attack:   OK - Not vulnerable",
                    "Received Chain Order:              OK - Order is valid",
                ]:
                    self.assertIn(wanted, done.stdout)
                for unwanted in ["VULNERABLE -", "WARNING -", "Traceback"]:
                    self.assertNotIn(unwanted, done.stdout)

    @unittest.skipUnless("LONG" in os.environ, "with --long")
    def test_testssl_finds_nothing_unanswered(self):
        server = self.server()
        with tempfile.TemporaryDirectory() as directory:
            path = os.path.join(directory, "findings.json")
            subprocess.run(
                ["testssl", "--quiet", "--color", "0", "--warnings", "batch", "--jsonfile", path, "--ip", "127.0.0.1",
                 f"localhost:{server.port}"],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                timeout=300,
            )
            with open(path) as file:
                findings = json.load(file)
        self.assertGreater(len(findings), 50)
        above = {f["id"].split()[0]: (f["severity"], f["finding"]) for f in findings if f["severity"] not in ("OK", "INFO")}
        for name, finding in above.items():
            print(f"testssl.sh: {name} {finding}: {ANSWERED.get(name, 'UNANSWERED')}")
        self.assertEqual(sorted(set(above) - set(ANSWERED)), [])
