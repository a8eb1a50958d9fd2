// Behaviour that is independent of the handler: pings, fragments, sizes and limits, the closing handshake, slow
// readers.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { open } from './client.mjs';
import { serve, test } from './server.mjs';

const ECHO = ['echo'];
const MIB = 1 << 20;

test('a ping is answered with a pong of the same payload', async (t) => {
  const server = await serve(t, ECHO);
  const client = await open(t, server.ws());
  for (const payload of ['', 'a', 'are you there?', Buffer.alloc(125, 0xff)]) {
    client.ws.ping(payload);
    const [data] = await once(client.ws, 'pong');
    assert.deepEqual(data, Buffer.from(payload));
  }
});

test('of many pings sent at once at least the newest is answered', async (t) => {
  const server = await serve(t, ECHO);
  const client = await open(t, server.ws());
  const newest = new Promise((resolve) => client.ws.on('pong', (data) => data.toString() === '99' && resolve()));
  for (let n = 0; n < 100; n++) client.ws.ping(`${n}`);
  await newest;
});

test('a ping between fragments is answered, and the fragments are one message', async (t) => {
  const server = await serve(t, ECHO);
  const client = await open(t, server.ws());
  client.ws.send('frag', { fin: false });
  client.ws.ping('between');
  const [pong] = await once(client.ws, 'pong');
  assert.equal(pong.toString(), 'between');
  client.ws.send('', { fin: false });
  client.ws.send('ments', { fin: true });
  assert.equal(await client.text(), 'fragments');
  assert.deepEqual((await client.close()).rest, []);
});

test('a character divided between two fragments is valid text', async (t) => {
  const server = await serve(t, ECHO);
  const client = await open(t, server.ws());
  const [head, tail] = [Buffer.from('😀').subarray(0, 2), Buffer.from('😀').subarray(2)];
  client.ws.send(head, { binary: false, fin: false });
  client.ws.send(tail, { fin: true });
  assert.equal(await client.text(), '😀');
});

for (const size of [125, 126, 65_535, 65_536, MIB, 16 * MIB]) {
  test(`a message of ${size} bytes comes back intact, as text and as binary`, async (t) => {
    const server = await serve(t, ECHO);
    const client = await open(t, server.ws());
    const text = textOf(size);
    client.ws.send(text);
    assert.ok((await client.text()) === text, 'the text is not the same');

    const bytes = Buffer.alloc(size, Buffer.from([...Array(251).keys()])); // 251 is prime, so shifted bytes differ from the original
    client.ws.send(bytes);
    const { data, isBinary } = await client.message();
    assert.ok(isBinary && data.equals(bytes), 'the bytes are not the same');
  });
}

test('a message of the maximum size is accepted, and one byte more closes with 1009', async (t) => {
  const server = await serve(t, [...ECHO, '--message-bytes-max', '1000']);
  for (const over of ['x'.repeat(1001), Buffer.alloc(1001), 'x'.repeat(100_000)]) {
    const client = await open(t, server.ws());
    client.ws.send('x'.repeat(1000));
    assert.equal(await client.text(), 'x'.repeat(1000));
    client.ws.send(over);
    assert.equal((await client.closed).code, 1009);
    assert.equal(client.inbox.length, 0);
  }
});

test('the limit counts all fragments of a message together', async (t) => {
  const server = await serve(t, [...ECHO, '--message-bytes-max=1000']);
  const client = await open(t, server.ws());
  client.ws.send('x'.repeat(600), { fin: false });
  client.ws.send('x'.repeat(400), { fin: true });
  assert.equal((await client.text()).length, 1000);
  client.ws.send('x'.repeat(600), { fin: false });
  client.ws.send('x'.repeat(401), { fin: false });
  assert.equal((await client.closed).code, 1009);
});

test('a client that sends more than the default maximum of 16 MiB receives 1009', async (t) => {
  const server = await serve(t, ECHO);
  const client = await open(t, server.ws());
  client.ws.send(Buffer.alloc(17 * MIB));
  assert.equal((await client.closed).code, 1009);
});

test('text that is not UTF-8 closes with 1007', async (t) => {
  const server = await serve(t, ECHO);
  const client = await open(t, server.ws());
  client.ws.send(Buffer.from([0x68, 0x69, 0xff]), { binary: false });
  assert.equal((await client.closed).code, 1007);
});

test('a Close is answered with its own code and reason', async (t) => {
  const server = await serve(t, ECHO);
  for (const [code, reason] of [[4001, 'going for lunch'], [1000, ''], [3000, 'grüße'], [4999, 'r'.repeat(123)]]) {
    const client = await open(t, server.ws());
    assert.deepEqual(await client.close(code, reason), { code, reason, rest: [] });
    assert.deepEqual(client.errors, []);
  }
});

test('a Close without a code is answered without a code', async (t) => {
  const server = await serve(t, ECHO);
  const client = await open(t, server.ws());
  assert.deepEqual(await client.close(), { code: 1005, reason: '', rest: [] });
});

test('messages sent before a Close are answered before the Close', async (t) => {
  const server = await serve(t, ECHO);
  const client = await open(t, server.ws());
  for (let n = 0; n < 100; n++) client.ws.send(`${n}`);
  const { code, rest } = await client.close(1000);
  assert.equal(code, 1000);
  assert.deepEqual(rest.map(({ data }) => data.toString()), Array.from({ length: 100 }, (_, n) => `${n}`));
});

test('a client that stops reading for a while loses nothing', async (t) => {
  const server = await serve(t, ECHO);
  const client = await open(t, server.ws());
  client.ws.pause();
  // Far more than the server queues for one client: TCP's flow control must hold back the rest until the client reads.
  const [first, ...others] = Array.from({ length: 32 }, (_, n) => Buffer.alloc(MIB, n));
  const written = new Promise((resolve) => client.ws.send(first, resolve));
  for (const bytes of others) client.ws.send(bytes);
  await written;
  client.ws.resume();
  for (const bytes of [first, ...others]) assert.ok((await client.message()).data.equals(bytes), 'a damaged or missing message');
});

/** Returns a text of `bytes` bytes, with characters of one to four bytes. */
function textOf(bytes) {
  const characters = 'aé€😀'; // 1 + 2 + 3 + 4 bytes
  return characters.repeat(bytes / 10) + 'x'.repeat(bytes % 10);
}
