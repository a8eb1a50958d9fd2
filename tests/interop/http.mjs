// Requests that npm ws cannot send: plain HTTP, and opening handshakes with any headers.

import { createHash } from 'node:crypto';
import { once } from 'node:events';
import http from 'node:http';
import net from 'node:net';

/**
 * Sends one request on a new connection. Returns `{ status, headers, body }`, or for a 101
 * `{ status, headers, socket }`. The connection is closed when the test ends.
 */
export function request(t, url, { method = 'GET', headers = {}, body } = {}) {
  return new Promise((resolve, reject) => {
    const outgoing = http.request(url, { method, headers, agent: false });
    t.after(() => outgoing.destroy());
    outgoing.on('error', reject);
    outgoing.on('upgrade', ({ statusCode, headers }, socket, head) => {
      t.after(() => socket.destroy());
      socket.on('error', () => {}); // the tests check what arrives, not how the connection ends
      socket.unshift(head);
      resolve({ status: statusCode, headers, socket });
    });
    outgoing.on('response', (incoming) => answer(incoming).then(resolve, reject));
    outgoing.end(body);
  });
}

/** Reads a response to its end, such as the one of ws's event `unexpected-response`. */
export async function answer(incoming) {
  const chunks = await incoming.toArray();
  return { status: incoming.statusCode, headers: incoming.headers, body: Buffer.concat(chunks).toString() };
}

/** Sends bytes on a new connection. Returns everything that the server sends until it closes, as a string. */
export async function exchange(t, url, bytes) {
  const { hostname, port } = new URL(url);
  const socket = net.connect({ host: hostname, port });
  t.after(() => socket.destroy());
  await once(socket, 'connect');
  socket.write(bytes);
  return Buffer.concat(await socket.toArray()).toString('latin1');
}

/** The headers of a correct opening handshake (RFC 6455 section 4.1). Tests copy and change them. */
export const HANDSHAKE = {
  Connection: 'Upgrade',
  Upgrade: 'websocket',
  'Sec-WebSocket-Version': '13',
  'Sec-WebSocket-Key': 'dGhlIHNhbXBsZSBub25jZQ==',
};

/** Returns the `Sec-WebSocket-Accept` that the server must send for a key (RFC 6455 section 4.2.2). */
export function acceptOf(key) {
  return createHash('sha1').update(`${key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`).digest('base64');
}
