// Tests a restart of the server while a real Chromium has its page open. When Chromium loads a page, it also preconnects: it
// opens a connection without a request, and later sends its next request on that connection. It preconnects only with a
// profile on disk and with background networking, which the launch options in browser.mjs disable. Firefox has not shown
// the fault, so the test skips Firefox.

import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import { chromium } from 'playwright-core';
import { serve } from '../interop/server.mjs';
import { IS_FIREFOX } from './browser.mjs';

const RESTARTS = 4;

// Regression test: at SIGTERM, the server answered connections that had sent no request with 503. At the reload, Chromium
// showed that 503 instead of the page of the new server.
test('after a restart a reload shows the page', { timeout: 60_000, skip: IS_FIREFOX }, async (t) => {
  const profile = mkdtempSync(path.join(tmpdir(), 'wsloop-profile-'));
  const context = await chromium.launchPersistentContext(profile, {
    executablePath: process.env.CHROMIUM,
    chromiumSandbox: false,
    ignoreDefaultArgs: ['--disable-background-networking', '--disable-features', '--enable-automation'],
    args: ['--no-sandbox', '--disable-gpu', '--no-first-run'],
  });
  t.after(async () => {
    await context.close();
    rmSync(profile, { recursive: true, force: true });
  });
  const page = await context.newPage();
  let server = await serve(t, ['-l', '127.0.0.1:0']);
  const url = server.http();
  assert.equal((await page.goto(url)).status(), 200);
  let preconnects = 0;
  for (let restart = 0; restart < RESTARTS; restart++) {
    if (await hasPreconnected(url)) preconnects += 1;
    assert.equal((await server.stop()).code, 0);
    server = await serve(t, ['-l', new URL(url).host]);
    assert.equal((await page.reload()).status(), 200, `after restart ${restart}`);
    assert.match(await page.title(), /wsloop/);
  }
  assert.notEqual(preconnects, 0, 'Chromium has never preconnected, so this test has tested nothing');
});

/**
 * Returns whether a connection to the port of `url` is open, or opens within two seconds. Such a connection has no request:
 * the server closes a connection after its response, and the page opens no WebSocket without a path in its URL's fragment.
 */
async function hasPreconnected(url) {
  const port = Number(new URL(url).port).toString(16).toUpperCase().padStart(4, '0');
  const established = new RegExp(`^ *\\d+: [0-9A-F]+:${port} \\S+ 01 `, 'm');
  for (let attempt = 0; attempt < 40; attempt++) {
    if (established.test(readFileSync('/proc/net/tcp', 'ascii'))) return true;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  return false;
}
