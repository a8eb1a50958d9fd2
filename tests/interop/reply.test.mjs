// The reply handler: every message, text or binary, is answered with the same JSON text.

import assert from 'node:assert/strict';
import { open } from './client.mjs';
import { serve, test } from './server.mjs';

const JSON_REPLY = '{"a":1,"b":2}';
const REPLY = ['serve', '-r', `/*=reply:${JSON_REPLY}`];

test('each message, text or binary, empty or not, is answered with the JSON as a text message', async (t) => {
  const server = await serve(t, REPLY);
  const client = await open(t, server.ws());
  for (const data of ['HelloWorld', '', JSON_REPLY, Buffer.alloc(10), Buffer.of(), Buffer.alloc(100_000, 1)]) {
    client.ws.send(data);
    assert.equal(await client.text(), JSON_REPLY);
  }
  assert.deepEqual((await client.close()).rest, []);
});

for (const [how, together] of [['in separate writes', false], ['in a single write', true]]) {
  test(`four texts and a binary message, sent ${how}, get exactly five answers`, async (t) => {
    const server = await serve(t, REPLY);
    const client = await open(t, server.ws());
    // The underlying socket is not part of ws's public API, but only it can put five messages into one segment.
    const socket = client.ws._socket;
    if (together) socket.cork();
    for (let n = 1; n <= 4; n++) client.ws.send(`HelloWorld${n}`);
    client.ws.send(Buffer.alloc(10));
    if (together) socket.uncork();

    const answers = await client.texts(5);
    assert.deepEqual(answers, Array(5).fill(JSON_REPLY));
    for (const answer of answers) assert.deepEqual(JSON.parse(answer), { a: 1, b: 2 });
    assert.deepEqual(await client.close(1000), { code: 1000, reason: '', rest: [] });
    assert.deepEqual(client.events, ['upgrade', 'open', ...Array(5).fill('message'), 'close']);
  });
}

test('only the sender is answered', async (t) => {
  const server = await serve(t, REPLY);
  const [sender, other] = [await open(t, server.ws()), await open(t, server.ws())];
  sender.ws.send('hello');
  await sender.text();
  assert.deepEqual((await other.close()).rest, []);
});

test('the headers of the 101 reach the client before the first message', async (t) => {
  const server = await serve(t, REPLY);
  const client = await open(t, server.ws());
  const { statusCode, httpVersion, headers } = await client.upgraded;
  assert.deepEqual([statusCode, httpVersion], [101, '1.1']);
  for (const name of ['upgrade', 'connection', 'sec-websocket-accept']) assert.ok(headers[name], `no ${name}`);
  assert.equal(headers['content-length'], undefined); // RFC 9110 section 8.6: none in a 1xx
  client.ws.send('hello');
  await client.text();
  assert.deepEqual(client.events, ['upgrade', 'open', 'message']);
});
