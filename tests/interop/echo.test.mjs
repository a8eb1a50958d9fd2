// The echo handler with a prefix: every text X is answered with `You sent: X`, and a binary message is returned
// unchanged. Also the log lines about connections and messages.

import assert from 'node:assert/strict';
import { open } from './client.mjs';
import { serve, test } from './server.mjs';

const ECHO = ['serve', '-r', '/*=echo:You sent: '];

test('a text message is answered with the prefix and the same text', async (t) => {
  const server = await serve(t, ECHO);
  const client = await open(t, server.ws());
  for (const text of ['hello', '', ' ', 'zwölf Boxkämpfer 😀', 'You sent: hello', 'two\nlines\0', '{"a":1}']) {
    client.ws.send(text);
    assert.equal(await client.text(), `You sent: ${text}`);
  }
  assert.deepEqual((await client.close()).rest, []);
});

test('a binary message is echoed as it is, without the prefix', async (t) => {
  const server = await serve(t, ECHO);
  const client = await open(t, server.ws());
  for (const bytes of [Buffer.of(), Buffer.of(0), Buffer.from('hello'), Buffer.from([...Array(256).keys()])]) {
    client.ws.send(bytes);
    assert.deepEqual(await client.message(), { data: bytes, isBinary: true });
  }
  assert.deepEqual((await client.close()).rest, []);
});

test('two thousand messages sent without waiting are answered in order, text as text and binary as binary', async (t) => {
  const server = await serve(t, ECHO);
  const client = await open(t, server.ws());
  const numbers = Array.from(Array(2000).keys());
  for (const number of numbers) client.ws.send(number % 2 ? Buffer.from(`${number}`) : `${number}`);
  const answers = (await client.messages(numbers.length)).map(({ data, isBinary }) => [isBinary, data.toString()]);
  assert.deepEqual(answers, numbers.map((number) => (number % 2 ? [true, `${number}`] : [false, `You sent: ${number}`])));
});

test('every path is echoed, with a query and without', async (t) => {
  const server = await serve(t, ECHO);
  for (const path of ['/', '/a', '/a/b/c', '/?name=x', '/a?name=x']) {
    const client = await open(t, server.ws(path));
    client.ws.send(path);
    assert.equal(await client.text(), `You sent: ${path}`);
  }
});

test('a connection and its end are logged by default, the end with close code and byte counts', async (t) => {
  const server = await serve(t, ECHO);
  const client = await open(t, server.ws());
  await server.log.matching(CONNECT);

  for (let n = 0; n < 3; n++) client.ws.send('x'.repeat(5000));
  await client.texts(3);
  await client.close(4001, 'done');
  const [line] = await server.log.matching(DISCONNECT);
  assert.match(line, /\b4001\b/);
  // 15 000 bytes received, 30 more sent. The test allows counts with and without frame headers and the handshake.
  const counts = (line.match(/\b\d+\b/g) ?? []).map(Number).filter((n) => n >= 15_000 && n <= 16_000);
  assert.ok(counts.length >= 2, `bytes received and bytes sent should be in: ${line}`);
});

test('a client that disconnects without a Close is logged as disconnected', async (t) => {
  const server = await serve(t, ECHO);
  const client = await open(t, server.ws());
  client.ws.terminate();
  await server.log.matching(DISCONNECT);
});

test('each message is logged with RUST_LOG=debug and none by default', async (t) => {
  for (const [env, expected] of [[{ RUST_LOG: 'debug' }, 3], [{}, 0]]) {
    const server = await serve(t, ECHO, { env });
    const client = await open(t, server.ws());
    for (const data of ['one', Buffer.from('two'), 'three']) client.ws.send(data);
    await client.messages(3);
    await client.close();
    await server.log.matching(DISCONNECT);
    const logged = server.log.all.filter((line) => /\bDEBUG\b/i.test(line) && /\b(message|text|binary)\b/i.test(line));
    assert.ok(expected ? logged.length >= expected : !logged.length, `at ${JSON.stringify(env)}: ${server.log.all.join('\n')}`);
  }
});

const CONNECT = /\bconnect/i;
const DISCONNECT = /\bdisconnect/i;
