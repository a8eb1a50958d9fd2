// The server as a process that someone operates: what it announces, how it stops, what it says and which code it
// exits with when it cannot start.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import net from 'node:net';
import os from 'node:os';
import { connect, open } from './client.mjs';
import { HANDSHAKE, request } from './http.mjs';
import { launch, serve, test } from './server.mjs';

for (const signal of ['SIGTERM', 'SIGINT']) {
  test(`${signal} closes every client with 1001 and ends the server with exit code 0`, async (t) => {
    const server = await serve(t, ['echo']);
    const clients = [await open(t, server.ws('/a')), await open(t, server.ws('/b')), await open(t, server.ws('/c'))];
    const { code, signal: killedBy } = await server.stop(signal);
    assert.deepEqual({ code, killedBy }, { code: 0, killedBy: null });
    for (const client of clients) {
      assert.equal((await client.closed).code, 1001);
      assert.deepEqual(client.errors, []);
    }
  });

  test(`${signal} ends a server without clients with exit code 0`, async (t) => {
    const server = await serve(t, ['echo']);
    assert.equal((await server.stop(signal)).code, 0);
  });
}

test('a stopping server takes no new client, and a second signal ends it while a peer is still silent', async (t) => {
  const server = await serve(t, ['echo']);
  const { socket } = await request(t, server.http(), { headers: HANDSHAKE });
  server.process.signal('SIGTERM');
  // Close 1001, unmasked: the server has said goodbye and now waits for this peer, which never answers.
  const [goodbye] = await Promise.race([
    once(socket, 'data'),
    once(socket, 'close').then(() => assert.fail('the server left without a goodbye')),
  ]);
  assert.deepEqual([goodbye[0], goodbye.readUInt16BE(2)], [0x88, 1001]);

  const late = connect(t, server.ws());
  const start = performance.now();
  await server.stop('SIGTERM');
  assert.ok(performance.now() - start < 2000, 'the second signal did not end the wait');
  assert.equal((await late.closed).code, 1006);
  assert.ok(!late.events.includes('open'), 'a stopping server let a client in');
});

test('a taken port is told in one line that names the address, with exit code 1', async (t) => {
  const server = await serve(t, ['echo']);
  const address = new URL(server.ws()).host;
  const { code, stdout, stderr } = await launch(t, ['echo', '-l', address]).ended;
  assert.equal(code, 1);
  assert.deepEqual(stdout, []);
  assert.equal(stderr.length, 1, stderr.join('\n'));
  assert.ok(stderr[0].includes(address), stderr[0]);
  // The first server does not mind.
  const client = await open(t, server.ws());
  client.ws.send('still here');
  assert.equal(await client.text(), 'still here');
});

for (const [args, named] of [
  [['--no-such-flag'], '--no-such-flag'],
  [['serve', '--no-such-flag=1'], '--no-such-flag'],
  [['serve', '-r', '/a=no-such-handler'], 'no-such-handler'],
  [['echo', '--message-bytes-max', 'many'], '--message-bytes-max'],
  [['echo', '-l', 'no address'], 'no address'],
  [['no-such-command'], 'no-such-command'],
]) {
  test(`\`wsloop ${args.join(' ')}\` is told what is wrong with it and where to look, with exit code 2`, async (t) => {
    const { code, stdout, stderr } = await launch(t, args).ended;
    assert.equal(code, 2, stderr.join('\n'));
    assert.deepEqual(stdout, []);
    assert.ok(stderr[0].includes(named), stderr.join('\n'));
    assert.ok(stderr.length <= 2, stderr.join('\n'));
    assert.match(stderr.join('\n'), /--help|-h\b/);
  });
}

test('-V tells the version and -h the commands and flags, with exit code 0', async (t) => {
  const version = await launch(t, ['-V']).ended;
  assert.deepEqual([version.code, version.stderr], [0, []]);
  assert.match(version.stdout.join('\n'), /^wsloop \d+\.\d+\.\d+/);

  const help = await launch(t, ['-h']).ended;
  assert.deepEqual([help.code, help.stderr], [0, []]);
  for (const word of ['serve', 'echo', 'broadcast', '-l', '-r', '--origin', '-h', '-V']) {
    assert.ok(help.stdout.join('\n').includes(word), `-h does not tell of ${word}`);
  }
  assert.ok(help.stdout.length <= 24, '-h fits one screen');
  const limits = await launch(t, ['serve', '-h']).ended;
  assert.ok(limits.stdout.join('\n').includes('--message-bytes-max'));
});

test('each of several listeners is announced and serves', async (t) => {
  const server = await serve(t, ['echo', '-l', '127.0.0.1:0', '-l', '127.0.0.1:0'], { listeners: 2 });
  assert.notEqual(server.urls[0], server.urls[1]);
  for (const url of server.urls) {
    const client = await open(t, url);
    client.ws.send(url);
    assert.equal(await client.text(), url);
  }
});

test('a bare port means loopback', async (t) => {
  const server = await serve(t, ['echo', '-l', '0']);
  assert.equal(new URL(server.ws()).hostname, '127.0.0.1');
  await open(t, server.ws());
});

test('[::1] is an address', async (t) => {
  const addresses = Object.values(os.networkInterfaces()).flat();
  if (!addresses.some(({ address }) => address === '::1')) return t.skip('this machine has no IPv6 loopback');
  const server = await serve(t, ['echo', '-l', '[::1]:0']);
  assert.equal(new URL(server.ws()).hostname, '[::1]');
  await open(t, server.ws());
});

test('routes may differ by path, and the exact one goes before /*', async (t) => {
  const server = await serve(t, ['serve', '-r', '/*=reply:any', '-r', '/exact=reply:exact', '-r', '/rooms/*=reply:room']);
  for (const [path, reply] of [['/', 'any'], ['/exact', 'exact'], ['/exactly', 'any'], ['/rooms/1', 'room']]) {
    const client = await open(t, server.ws(path));
    client.ws.send('?');
    assert.equal(await client.text(), reply, path);
  }
});

test('bare wsloop echoes on / and /echo and broadcasts on /broadcast, at 127.0.0.1:8080', async (t) => {
  assert.ok(await isFree(8080), 'port 8080 is taken by another process, so bare wsloop CANNOT BE TESTED: free it');
  const process_ = launch(t, []);
  await process_.stdout.matching(/^listening on ws:\/\/127\.0\.0\.1:8080\/$/);
  for (const path of ['/', '/echo']) {
    const [speaker, listener] = [await open(t, BARE + path), await open(t, BARE + path)];
    speaker.ws.send('hello');
    assert.equal(await speaker.text(), 'hello');
    assert.deepEqual((await listener.close()).rest, [], `${path} is not an echo but a broadcast`);
  }
  const [speaker, listener] = [await open(t, `${BARE}/broadcast`), await open(t, `${BARE}/broadcast`)];
  speaker.ws.send('hello');
  assert.deepEqual([await speaker.text(), await listener.text()], ['hello', 'hello']);
  process_.signal('SIGTERM');
  assert.equal((await process_.ended).code, 0);
});

const BARE = 'ws://127.0.0.1:8080';

function isFree(port) {
  return new Promise((resolve) => {
    const probe = net.createServer();
    probe.once('error', () => resolve(false));
    probe.listen(port, '127.0.0.1', () => probe.close(() => resolve(true)));
  });
}
