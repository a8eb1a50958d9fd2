// The broadcast handler: every message of a client goes to all clients of the same path, the sender included. The
// tests use npm ws's events and the API that it shares with browsers.

import assert from 'node:assert/strict';
import { open, WebSocket } from './client.mjs';
import { serve, test } from './server.mjs';

const BROADCAST = ['broadcast'];

test('every message goes to every client, the sender included, text as text and binary as binary', async (t) => {
  const server = await serve(t, BROADCAST);
  const clients = await openMany(t, server.ws(), 4);
  const sent = ['hello', Buffer.from([0, 1, 254, 255]), '', Buffer.of(), 'grüße 😀', Buffer.from('text-like')];
  for (const data of sent) clients[0].ws.send(data);
  for (const client of clients) {
    const received = await client.messages(sent.length);
    assert.deepEqual(received, sent.map((data) => ({ data: Buffer.from(data), isBinary: typeof data !== 'string' })));
  }
  for (const client of clients) assert.deepEqual((await client.close()).rest, []);
});

test('when all send at once, all receive every message in the same order, which contains each sender\'s order', async (t) => {
  const server = await serve(t, BROADCAST);
  const clients = await openMany(t, server.ws(), 8);
  for (let n = 0; n < MESSAGES; n++) clients.forEach(({ ws }, sender) => ws.send(`${sender} ${n}`));

  const received = await Promise.all(clients.map((client) => client.texts(clients.length * MESSAGES)));
  for (const other of received) assert.deepEqual(other, received[0]);
  for (const sender of clients.keys()) {
    const own = received[0].filter((text) => text.startsWith(`${sender} `));
    assert.deepEqual(own, Array.from({ length: MESSAGES }, (_, n) => `${sender} ${n}`));
  }
  for (const client of clients) assert.deepEqual((await client.close()).rest, []);
});

test('messages do not reach clients of other paths, and the query is not part of the path', async (t) => {
  const server = await serve(t, BROADCAST);
  const root = await open(t, server.ws('/'));
  const one = await open(t, server.ws('/topics/1'));
  const two = await open(t, server.ws('/topics/2'));
  const twoWithQuery = await open(t, server.ws('/topics/2?name=x'));
  for (const [client, text] of [[root, 'root'], [one, 'one'], [two, 'two']]) {
    client.ws.send(text);
    assert.equal(await client.text(), text);
  }
  assert.equal(await twoWithQuery.text(), 'two');
  for (const client of [root, one, two, twoWithQuery]) assert.deepEqual((await client.close()).rest, []);
});

test('a client receives messages sent after it connected, and none sent before', async (t) => {
  const server = await serve(t, BROADCAST);
  const early = await open(t, server.ws());
  early.ws.send('before');
  assert.equal(await early.text(), 'before');
  const late = await open(t, server.ws());
  early.ws.send('after');
  assert.equal(await early.text(), 'after');
  assert.equal(await late.text(), 'after');
});

test('clients that close or are terminated do not disturb the others', async (t) => {
  const server = await serve(t, BROADCAST);
  const [sender, receiver, closing, terminated] = await openMany(t, server.ws(), 4);
  for (const text of ['one', 'two', 'three', 'four', 'five']) {
    if (text === 'two') await closing.close();
    if (text === 'three') terminated.ws.terminate();
    sender.ws.send(text);
    assert.equal(await sender.text(), text);
    assert.equal(await receiver.text(), text);
  }
});

test('a MiB sent by each of five clients reaches all five intact', async (t) => {
  const server = await serve(t, BROADCAST);
  const clients = await openMany(t, server.ws(), 5);
  clients.forEach(({ ws }, sender) => ws.send(Buffer.alloc(1 << 20, sender + 1)));
  for (const client of clients) {
    const senders = new Set();
    for (const { data, isBinary } of await client.messages(clients.length)) {
      assert.ok(isBinary && data.length === 1 << 20 && data.equals(Buffer.alloc(1 << 20, data[0])), 'a damaged message');
      senders.add(data[0]);
    }
    assert.equal(senders.size, clients.length);
  }
});

test('the API of browsers works: addEventListener, readyState, bufferedAmount, send, close', async (t) => {
  const server = await serve(t, BROADCAST);
  const socket = new WebSocket(server.ws('/'));
  t.after(() => socket.terminate());
  assert.equal(socket.readyState, WebSocket.CONNECTING);
  assert.equal(socket.bufferedAmount, 0);
  assert.throws(() => socket.send('too early'));

  await event(socket, 'open');
  assert.equal(socket.readyState, WebSocket.OPEN);
  assert.equal(socket.url, server.ws('/'));
  assert.equal(socket.protocol, '');

  socket.send('hello');
  const text = await event(socket, 'message');
  assert.equal(text.data, 'hello');

  // More than the kernel's buffers hold, so a part must still be in the client's buffer when `send` returns.
  const bytes = new Uint8Array(6 << 20).fill(7);
  socket.binaryType = 'arraybuffer';
  socket.send(bytes);
  assert.ok(socket.bufferedAmount > 0);
  const binary = await event(socket, 'message');
  assert.ok(binary.data instanceof ArrayBuffer);
  assert.ok(Buffer.from(binary.data).equals(bytes));
  assert.equal(socket.bufferedAmount, 0);

  socket.close(4000, 'that was all');
  assert.equal(socket.readyState, WebSocket.CLOSING);
  const { code, reason, wasClean } = await event(socket, 'close');
  assert.deepEqual({ code, reason, wasClean }, { code: 4000, reason: 'that was all', wasClean: true });
  assert.equal(socket.readyState, WebSocket.CLOSED);
});

/** Waits for the next event with this name, by the API of browsers. */
function event(socket, name) {
  return new Promise((resolve, reject) => {
    socket.addEventListener(name, resolve, { once: true });
    socket.addEventListener('error', reject, { once: true });
  });
}

function openMany(t, url, count) {
  return Promise.all(Array.from({ length: count }, () => open(t, url)));
}

/** Messages of each of eight senders: 1 600 messages in all, and 12 800 deliveries. */
const MESSAGES = 200;
