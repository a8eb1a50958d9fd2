// The programs of tests/examples as processes, with the client of npm ws.

import assert from 'node:assert/strict';
import dgram from 'node:dgram';
import { once } from 'node:events';
import net from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { connect, open } from './client.mjs';
import { example, test } from './server.mjs';

const ANY = '127.0.0.1:0';

test('chat: members see lines, and a late member the last ones', async (t) => {
  const server = await example(t, 'chat', ANY);
  const anna = await open(t, server.ws('/chat/lobby?name=anna'));
  assert.equal(await anna.text(), '* anna is here');
  anna.ws.send('hello');
  assert.equal(await anna.text(), 'anna: hello');
  const bert = await open(t, server.ws('/chat/lobby?name=bert'));
  assert.deepEqual(await bert.texts(3), ['* anna is here', 'anna: hello', '* bert is here']);
  assert.equal(await anna.text(), '* bert is here');
  bert.ws.send('/names');
  assert.equal(await bert.text(), '* here: anna, bert');
  await bert.close(1000);
  assert.equal(await anna.text(), '* bert has left');
});

test('token: a token selects the user, another is refused with 401', async (t) => {
  const server = await example(t, 'token', ANY);
  const anna = await open(t, server.ws(), { headers: { authorization: 'Bearer s3cret-of-anna' } });
  anna.ws.send('who am I?');
  assert.equal(await anna.text(), 'anna');
  const stranger = connect(t, server.ws(), { headers: { authorization: 'Bearer guess' } });
  await stranger.closed;
  assert.match(stranger.errors[0].message, /401/);
});

test('prices: numbered tables arrive one after another', async (t) => {
  const server = await example(t, 'prices', ANY);
  const client = await open(t, server.ws('/prices'));
  const tick = async () => Number((await client.text()).match(/^tick (\d+)\n/)[1]);
  const first = await tick();
  assert.equal(await tick(), first + 1);
});

test('proxy: bytes go both ways, and a stalled upstream blocks the client', async (t) => {
  const upstream = net.createServer({ pauseOnConnect: true }).listen(0, '127.0.0.1');
  t.after(() => upstream.close());
  await once(upstream, 'listening');
  const server = await example(t, 'proxy', ANY, `127.0.0.1:${upstream.address().port}`);
  const accepted = once(upstream, 'connection');
  const client = await open(t, server.ws());
  const [socket] = await accepted;
  t.after(() => socket.destroy());
  // 64 MiB are more than all socket buffers together. ws stores what its socket does not accept.
  const message = Buffer.alloc(1 << 20, 7);
  for (let n = 0; n < 64; n++) client.ws.send(message);
  let unsent;
  do {
    unsent = client.ws.bufferedAmount;
    await sleep(300);
  } while (client.ws.bufferedAmount < unsent);
  assert.ok(unsent > 16 << 20, `${unsent} bytes are unsent`);
  let received = 0;
  socket.on('data', (bytes) => {
    received += bytes.length;
    if (received === 64 << 20) socket.end('all');
  });
  socket.resume();
  assert.equal((await client.message()).data.toString(), 'all');
  assert.deepEqual(await client.closed, { code: 1000, reason: 'the upstream has closed' });
});

test('host: datagrams reach every client', async (t) => {
  const server = await example(t, 'host', ANY, ANY);
  const [line] = await server.process.stdout.matching(/datagrams/);
  const port = Number(line.match(/:(\d+)$/)[1]);
  const clients = [await open(t, server.ws()), await open(t, server.ws())];
  const socket = dgram.createSocket('udp4');
  t.after(() => socket.close());
  socket.send('rain', port, '127.0.0.1');
  for (const client of clients) assert.equal((await client.message()).data.toString(), 'rain');
});
