// Whose pages may connect: `--origin` lists them, and the others get 403 (RFC 6455 section 10.2).

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect, open } from './client.mjs';
import { answer } from './http.mjs';
import { serve, test } from './server.mjs';

const GOOD = 'http://good.example';
const FINE = 'https://fine.example:8443';

test('without --origin every origin may connect', async (t) => {
  const server = await serve(t, ['echo']);
  await open(t, server.ws(), { origin: GOOD });
  await open(t, server.ws(), { origin: 'http://bad.example' });
  await open(t, server.ws());
});

test('with --origin that one connects and others get 403', async (t) => {
  const server = await serve(t, ['echo', '--origin', GOOD]);
  const client = await open(t, server.ws(), { origin: GOOD });
  client.ws.send('hello');
  assert.equal(await client.text(), 'hello');
  for (const origin of ['http://bad.example', 'https://good.example', `${GOOD}:81`, `${GOOD}.evil.example`, 'null']) {
    await assertForbidden(t, server, origin);
  }
});

test('--origin is repeatable', async (t) => {
  const server = await serve(t, ['echo', '--origin', GOOD, '--origin', FINE]);
  await open(t, server.ws(), { origin: GOOD });
  await open(t, server.ws(), { origin: FINE });
  await assertForbidden(t, server, 'http://bad.example');
});

async function assertForbidden(t, server, origin) {
  const client = connect(t, server.ws(), { origin });
  const refused = once(client.ws, 'unexpected-response');
  const outcome = await Promise.race([refused, client.opened.then(() => assert.fail(`${origin} was let in`))]);
  const { status, headers, body } = await answer(outcome[1]);
  assert.equal(status, 403, origin);
  assert.equal(headers['content-length'], `${Buffer.byteLength(body)}`);
}
