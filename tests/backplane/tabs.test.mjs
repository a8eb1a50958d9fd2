// Two servers on two ports share /chat through a real Redis, in front of two browser tabs and npm ws.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { connect, lines, sendText, visit } from '../browser/browser.mjs';
import { open } from '../interop/client.mjs';
import { serve } from '../interop/server.mjs';

/** Starts a Redis on a Unix socket, and waits until it accepts connections. */
async function redis(t) {
  const directory = mkdtempSync(join(tmpdir(), 'wsloop-'));
  const socket = join(directory, 'redis.sock');
  const options = ['--port', '0', '--unixsocket', socket, '--save', '', '--dir', directory];
  const child = spawn('redis-server', options, { stdio: ['ignore', 'pipe', 'inherit'] });
  t.after(async () => {
    child.kill('SIGKILL');
    await once(child, 'exit');
    rmSync(directory, { recursive: true });
  });
  let text = '';
  for await (const chunk of child.stdout) {
    text += chunk;
    if (/ready to accept connections/i.test(text)) break;
  }
  return `unix:${socket}`;
}

test('two tabs on two servers and npm ws share one topic', { timeout: 60_000 }, async (t) => {
  const url = await redis(t);
  const args = ['serve', '-r', '/chat=broadcast', '-r', '/=echo', '--redis', url];
  const [one, two] = [await serve(t, args), await serve(t, args)];
  const client = await open(t, `${two.ws()}chat`, { perMessageDeflate: false });
  await visit(one.http(), {}, (first) => visit(two.http(), {}, async (second) => {
    for (const tab of [first, second]) await connect(tab, '/chat');
    await sendText(first, 'from the first tab');
    await sendText(second, 'from the second');
    client.ws.send('from npm ws');
    for (const tab of [first, second]) {
      await lines(tab, 'in', /from the first tab/);
      await lines(tab, 'in', /from the second/);
      await lines(tab, 'in', /from npm ws/);
    }
    const received = await client.texts(3);
    assert.deepEqual(received.toSorted(), ['from npm ws', 'from the first tab', 'from the second']);
    // The order is the same for all.
    for (const tab of [first, second]) {
      const texts = await (await lines(tab, 'in', /from/, 3)).allTextContents();
      assert.deepEqual(texts.map((text) => text.match(/from [a-z ]*/)[0].trim()), received);
    }
    await first.screenshot({ path: process.env.SCREENSHOT || join(tmpdir(), 'wsloop-tab.png') });
  }));
});
