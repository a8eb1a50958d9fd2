// The flag `--origin`, which lists the origins of pages that may connect. Requests with another origin get 403 (RFC
// 6455 section 10.2).

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect, open } from './client.mjs';
import { answer } from './http.mjs';
import { serve, test } from './server.mjs';

const FIRST = 'http://first.example';
const SECOND = 'https://second.example:8443';

test('without --origin pages of this machine and programs may connect', async (t) => {
  const server = await serve(t, ['echo']);
  await open(t, server.ws(), { origin: 'http://localhost:3000' });
  await open(t, server.ws(), { origin: new URL(server.http()).origin });
  await open(t, server.ws());
  for (const origin of [FIRST, 'null', 'http://localhost.evil.example']) await assertForbidden(t, server, origin);
});

test('with --origin * every origin may connect', async (t) => {
  const server = await serve(t, ['echo', '--origin', '*']);
  await open(t, server.ws(), { origin: FIRST });
  await open(t, server.ws());
});

test('with --origin the given origin connects and others get 403', async (t) => {
  const server = await serve(t, ['echo', '--origin', FIRST]);
  const client = await open(t, server.ws(), { origin: FIRST });
  client.ws.send('hello');
  assert.equal(await client.text(), 'hello');
  for (const origin of ['http://other.example', 'https://first.example', `${FIRST}:81`, `${FIRST}.evil.example`, 'null']) {
    await assertForbidden(t, server, origin);
  }
});

test('--origin is repeatable', async (t) => {
  const server = await serve(t, ['echo', '--origin', FIRST, '--origin', SECOND]);
  await open(t, server.ws(), { origin: FIRST });
  await open(t, server.ws(), { origin: SECOND });
  await assertForbidden(t, server, 'http://other.example');
});

async function assertForbidden(t, server, origin) {
  const client = connect(t, server.ws(), { origin });
  const refused = once(client.ws, 'unexpected-response');
  const outcome = await Promise.race([refused, client.opened.then(() => assert.fail(`${origin} was accepted`))]);
  const { status, headers, body } = await answer(outcome[1]);
  assert.equal(status, 403, origin);
  assert.equal(headers['content-length'], `${Buffer.byteLength(body)}`);
}
