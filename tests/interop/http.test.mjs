// WebSockets on one path of a port that also serves HTTP: the events and headers of the opening handshake, two
// clients of a broadcast, and a complete HTTP response to every other request.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect, open } from './client.mjs';
import { acceptOf, answer, exchange, HANDSHAKE, request } from './http.mjs';
import { serve, test } from './server.mjs';

const CHAT = ['serve', '-r', '/chat=broadcast'];

test('the events of a connection are upgrade, open, message and close, in this order', async (t) => {
  const server = await serve(t, CHAT);
  const client = await open(t, server.ws('/chat'));
  client.ws.send('hello');
  assert.equal(await client.text(), 'hello');
  assert.deepEqual(await client.close(4001, 'bye'), { code: 4001, reason: 'bye', rest: [] });
  assert.deepEqual(client.events, ['upgrade', 'open', 'message', 'close']);
});

test('the upgrade event shows a 101 with the headers of section 4.2.2 and no extension', async (t) => {
  const server = await serve(t, CHAT);
  const client = await open(t, server.ws('/chat'));
  const { statusCode, headers } = await client.upgraded;
  assert.equal(statusCode, 101);
  assert.equal(headers.upgrade.toLowerCase(), 'websocket');
  assert.equal(headers.connection.toLowerCase(), 'upgrade');
  assert.match(headers['sec-websocket-accept'], /^[A-Za-z0-9+/]{27}=$/);
  // The client offers permessage-deflate. A server without this extension does not mention it in the response.
  assert.equal(headers['sec-websocket-extensions'], undefined);
  assert.equal(client.ws.extensions, '');
});

test('the 101 has the Sec-WebSocket-Accept for the key of the request', async (t) => {
  const server = await serve(t, CHAT);
  const upgraded = await request(t, server.http('/chat'), { headers: HANDSHAKE });
  assert.equal(upgraded.status, 101);
  assert.equal(upgraded.headers['sec-websocket-accept'], acceptOf(HANDSHAKE['Sec-WebSocket-Key']));
  // The example in RFC 6455 section 1.3.
  assert.equal(upgraded.headers['sec-websocket-accept'], 's3pPLMBiTxaQ9kYGzzhZRbK+xOo=');
});

test('two clients receive each other\'s messages', async (t) => {
  const server = await serve(t, CHAT);
  // The query is not part of the path, neither for the route nor for the topic of the broadcast.
  const [ann, bob] = [await open(t, server.ws('/chat')), await open(t, server.ws('/chat?name=Bob'))];
  ann.ws.send('hi, Bob');
  assert.equal(await bob.text(), 'hi, Bob');
  bob.ws.send('hi, Ann');
  assert.deepEqual(await ann.texts(2), ['hi, Bob', 'hi, Ann']);
  assert.equal(await bob.text(), 'hi, Ann');
});

test('the first subprotocol that the client offers is selected', async (t) => {
  const server = await serve(t, CHAT);
  const client = connect(t, server.ws('/chat'), ['mqtt', 'graphql-ws']);
  const { headers } = await client.upgraded;
  assert.equal(headers['sec-websocket-protocol'], 'mqtt');
});

test('a subprotocol that --subprotocol does not list is not selected', async (t) => {
  const server = await serve(t, [...CHAT, '--subprotocol=chat']);
  const client = connect(t, server.ws('/chat'), ['mqtt', 'graphql-ws']);
  const { statusCode, headers } = await client.upgraded;
  assert.equal(statusCode, 101);
  assert.equal(headers['sec-websocket-protocol'], undefined);
  // RFC 6455 section 4.1 leaves it to the client whether to fail the connection then. npm ws fails it.
  await client.closed;
  assert.deepEqual(client.errors.map(({ message }) => message), ['Server sent no subprotocol']);
});

test('an unknown path is 404, reported by the event unexpected-response', async (t) => {
  const server = await serve(t, CHAT);
  for (const path of ['/', '/missing', '/chat/topic', '/chatter', '/cha']) {
    const client = connect(t, server.ws(path));
    const [, response] = await once(client.ws, 'unexpected-response');
    assertComplete(await answer(response), 404);
  }
});

test('a refused client without a listener for unexpected-response gets error and close 1006', async (t) => {
  const server = await serve(t, CHAT);
  const client = connect(t, server.ws('/missing'));
  assert.equal((await client.closed).code, 1006);
  assert.deepEqual(client.events, ['error', 'close']);
  assert.equal(client.errors[0].message, 'Unexpected server response: 404');
});

test('a client of a stopped server gets error and close 1006', async (t) => {
  const server = await serve(t, CHAT);
  await server.stop();
  const client = connect(t, server.ws('/chat'));
  assert.equal((await client.closed).code, 1006);
  assert.deepEqual(client.events, ['error', 'close']);
  assert.equal(client.errors[0].code, 'ECONNREFUSED');
});

test('a plain GET of the WebSocket path is 426, of an unknown one 404, and of /healthz 200', async (t) => {
  const server = await serve(t, CHAT);
  assertComplete(await request(t, server.http('/chat?name=Bob')), 426);
  const required = await request(t, server.http('/chat'));
  assertComplete(required, 426);
  // RFC 9110 section 15.5.22: "The server MUST send an Upgrade header field in a 426 response".
  assert.equal(required.headers.upgrade?.toLowerCase(), 'websocket');
  assertComplete(await request(t, server.http('/missing')), 404);
  assert.equal((await request(t, server.http('/healthz'))).status, 200);
});

test('POST is 405, and the response arrives although the server does not read the body', async (t) => {
  const server = await serve(t, CHAT);
  for (const path of ['/chat', '/healthz']) {
    const refused = await request(t, server.http(path), { method: 'POST', body: 'x'.repeat(4096) });
    assertComplete(refused, 405);
    // RFC 9110 section 15.5.6: "The origin server MUST generate an Allow header field in a 405 response".
    assert.match(refused.headers.allow ?? '', /\bGET\b/);
  }
});

test('the response to HEAD has no body', async (t) => {
  const server = await serve(t, CHAT);
  const bytes = await exchange(t, server.http(), 'HEAD /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n');
  // RFC 9110 section 9.3.2: "the server MUST NOT send content". A server that only supports GET may answer 405.
  assert.match(bytes, /^HTTP\/1\.1 (200|405) [^]*\r\n\r\n$/);
  assert.equal(bytes.indexOf('\r\n\r\n'), bytes.length - 4);
});

test('a version other than 13 is refused with 426 and the supported version', async (t) => {
  const server = await serve(t, CHAT);
  for (const version of ['8', '12', '14', '0', 'thirteen']) {
    const headers = { ...HANDSHAKE, 'Sec-WebSocket-Version': version };
    const refused = await request(t, server.http('/chat'), { headers });
    assertComplete(refused, 426);
    assert.equal(refused.headers['sec-websocket-version'], '13');
  }
  const client = connect(t, server.ws('/chat'), { protocolVersion: 8 });
  const [, response] = await once(client.ws, 'unexpected-response');
  assertComplete(await answer(response), 426);
});

test('a malformed opening handshake is refused with 400', async (t) => {
  const server = await serve(t, CHAT);
  const invalid = [{ 'Sec-WebSocket-Key': 'short' }, { 'Sec-WebSocket-Key': [] }, { 'Sec-WebSocket-Key': ['a', 'a'].map(keyOf) }];
  for (const headers of invalid) {
    assertComplete(await request(t, server.http('/chat'), { headers: { ...HANDSHAKE, ...headers } }), 400);
  }
});

test('refused requests do not disturb an open session', async (t) => {
  const server = await serve(t, CHAT);
  const client = await open(t, server.ws('/chat'));
  for (let n = 0; n < 20; n++) {
    const [refused] = await Promise.all([request(t, server.http('/missing')), client.ws.send(`${n}`)]);
    assert.equal(refused.status, 404);
    assert.equal(await client.text(), `${n}`);
  }
});

/** Checks the status of a refusal, its Content-Length, and that its body is one line, the reason. */
function assertComplete({ status, headers, body }, expected) {
  assert.equal(status, expected);
  assert.equal(headers['content-length'], `${Buffer.byteLength(body)}`);
  assert.match(body, /^[^\n]+\n?$/);
}

/** Returns a valid Sec-WebSocket-Key. */
function keyOf(letter) {
  return Buffer.from(letter.repeat(16)).toString('base64');
}
