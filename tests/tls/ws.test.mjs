// npm ws as the client of wss://.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { open } from '../interop/client.mjs';
import { serve, test } from '../interop/server.mjs';

const DIRECTORY = process.env.CERTIFICATES;
assert.ok(DIRECTORY, 'the variable CERTIFICATES must be the directory of the certificates; tests/tls/run sets it');
const CERTIFICATE = ['--tls-cert', join(DIRECTORY, 'main.pem'), '--tls-key', join(DIRECTORY, 'main.key')];
const serveTls = (t, command, ...args) => serve(t, [command, '-l', 'tls:127.0.0.1:0', ...CERTIFICATE, ...args]);
const ca = readFileSync(join(DIRECTORY, 'root.pem'));

for (const version of ['TLSv1.2', 'TLSv1.3']) {
  const options = { ca, minVersion: version, maxVersion: version, perMessageDeflate: false };

  test(`messages of all sizes are echoed with ${version}`, async (t) => {
    const server = await serveTls(t, 'echo');
    const client = await open(t, server.ws(), options);
    assert.equal(client.ws._socket.getProtocol(), version);
    assert.ok(client.ws._socket.authorized);
    for (const length of [0, 1, 125, 126, 16_379, 16_384, 65_536, 2 ** 20, 9 * 2 ** 20]) {
      const data = Buffer.alloc(length, length);
      client.ws.send(data);
      assert.deepEqual(await client.message(), { data, isBinary: true });
    }
    const numbers = Array.from(Array(2000).keys(), String);
    for (const number of numbers) client.ws.send(number);
    assert.deepEqual(await client.texts(2000), numbers);
  });

  test(`a message in fragments is echoed, and a ping answered between them, with ${version}`, async (t) => {
    const server = await serveTls(t, 'echo');
    const client = await open(t, server.ws(), options);
    const pong = new Promise((resolve) => client.ws.once('pong', resolve));
    client.ws.send('a'.repeat(20_000), { fin: false });
    client.ws.ping('between');
    client.ws.send('', { fin: false });
    client.ws.send('b', { fin: true });
    assert.equal((await pong).toString(), 'between');
    assert.equal(await client.text(), `${'a'.repeat(20_000)}b`);
  });

  test(`close codes are answered, and a stop of the server is 1001, with ${version}`, async (t) => {
    const server = await serveTls(t, 'echo');
    for (const code of [1000, 3000, 4999]) {
      const client = await open(t, server.ws(), options);
      assert.deepEqual(await client.close(code, 'done'), { code, reason: 'done', rest: [] });
    }
    const client = await open(t, server.ws(), options);
    const ended = await server.stop();
    assert.equal((await client.closed).code, 1001);
    assert.deepEqual(client.errors, []);
    assert.equal(ended.code, 0);
  });

  test(`a broadcast reaches four hundred clients with ${version}`, async (t) => {
    const server = await serveTls(t, 'broadcast');
    const clients = await Promise.all(Array.from({ length: 400 }, () => open(t, server.ws(), options)));
    const messages = ['x', 'y'.repeat(1000), 'z'.repeat(100_000)];
    for (const message of messages) clients[0].ws.send(message);
    for (const client of clients) assert.deepEqual(await client.texts(3), messages);
  });
}

test('clients of a plain and of a TLS listener share a topic', async (t) => {
  const args = ['broadcast', '-l', '127.0.0.1:0', '-l', 'tls:127.0.0.1:0', ...CERTIFICATE];
  const server = await serve(t, args, { listeners: 2 });
  const clients = [await open(t, server.urls[0]), await open(t, server.urls[1], { ca })];
  for (const [index, client] of clients.entries()) client.ws.send(`from ${index}`);
  for (const client of clients) assert.deepEqual((await client.texts(2)).sort(), ['from 0', 'from 1']);
});
