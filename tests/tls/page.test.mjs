// The built-in page over https:// in a real browser, with the real binary. Runs once in Chromium and once in Firefox.

import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import { connect, lines, sendText, visit } from '../browser/browser.mjs';
import { serve } from '../interop/server.mjs';

const DIRECTORY = process.env.CERTIFICATES;
assert.ok(DIRECTORY, 'the variable CERTIFICATES must be the directory of the certificates; tests/tls/run sets it');
const CERTIFICATE = ['--tls-cert', join(DIRECTORY, 'main.pem'), '--tls-key', join(DIRECTORY, 'main.key')];
const options = { ignoreHTTPSErrors: true };

for (const [name, args] of [['a certificate', CERTIFICATE], ['--tls-self-signed', ['--tls-self-signed']]]) {
  test(`the page over https exchanges messages over wss, with ${name}`, { timeout: 60_000 }, async (t) => {
    const server = await serve(t, ['serve', '-l', 'tls:127.0.0.1:0', ...args]);
    await visit(server.http(), { options }, async (page) => {
      assert.equal(await page.evaluate(() => location.protocol), 'https:');
      assert.ok(await page.evaluate(() => isSecureContext));
      await connect(page, '/echo');
      await lines(page, 'note', /open wss:\/\/.*\/echo/);
      await sendText(page, 'hello');
      await lines(page, 'in', /5 B\s*hello/);
      const buffer = Buffer.alloc(1_000_000, 7);
      await page.setInputFiles('#file', { name: 'some.bin', mimeType: 'application/octet-stream', buffer });
      await lines(page, 'in', /976\.6 KiB/);
      await server.stop();
      await lines(page, 'note', /1001/);
    });
  });
}
