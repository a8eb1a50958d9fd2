// The operation of the server as a process: its announcements, signals and flags, and its error messages and exit
// codes when it cannot start.

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

test('a stopping server accepts no new client, and a second signal ends it while a peer has not answered', async (t) => {
  const server = await serve(t, ['echo']);
  const { socket } = await request(t, server.http(), { headers: HANDSHAKE });
  server.process.signal('SIGTERM');
  // An unmasked Close 1001. The server then waits for the answer of this peer, which never comes.
  const [close] = await Promise.race([
    once(socket, 'data'),
    once(socket, 'close').then(() => assert.fail('the server closed the connection without a Close')),
  ]);
  assert.deepEqual([close[0], close.readUInt16BE(2)], [0x88, 1001]);

  const late = connect(t, server.ws());
  const start = performance.now();
  await server.stop('SIGTERM');
  assert.ok(performance.now() - start < 2000, 'the second signal did not end the wait');
  assert.equal((await late.closed).code, 1006);
  assert.ok(!late.events.includes('open'), 'a stopping server accepted a client');
});

test('a port in use is reported in one line with the address, with exit code 1', async (t) => {
  const server = await serve(t, ['echo']);
  const address = new URL(server.ws()).host;
  const { code, stdout, stderr } = await launch(t, ['echo', '-l', address]).ended;
  assert.equal(code, 1);
  assert.deepEqual(stdout, []);
  assert.equal(stderr.length, 1, stderr.join('\n'));
  assert.ok(stderr[0].includes(address), stderr[0]);
  // The first server is not affected.
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
  test(`\`wsloop ${args.join(' ')}\` reports the error and refers to the help, with exit code 2`, async (t) => {
    const { code, stdout, stderr } = await launch(t, args).ended;
    assert.equal(code, 2, stderr.join('\n'));
    assert.deepEqual(stdout, []);
    assert.ok(stderr[0].includes(named), stderr.join('\n'));
    assert.ok(stderr.length <= 2, stderr.join('\n'));
    assert.match(stderr.join('\n'), /--help|-h\b/);
  });
}

test('-V prints the version and -h the commands and flags, with exit code 0', async (t) => {
  const version = await launch(t, ['-V']).ended;
  assert.deepEqual([version.code, version.stderr], [0, []]);
  assert.match(version.stdout.join('\n'), /^wsloop \d+\.\d+\.\d+/);

  const help = await launch(t, ['-h']).ended;
  assert.deepEqual([help.code, help.stderr], [0, []]);
  for (const word of ['serve', 'echo', 'broadcast', '-l', '-r', '--origin', '-h', '-V']) {
    assert.ok(help.stdout.join('\n').includes(word), `-h does not contain ${word}`);
  }
  assert.ok(help.stdout.length <= 24, '-h must fit on a screen of 24 lines');
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

test('an address without a host is on the loopback interface', async (t) => {
  const server = await serve(t, ['echo', '-l', '0']);
  assert.equal(new URL(server.ws()).hostname, '127.0.0.1');
  await open(t, server.ws());
});

test('the server listens on [::1]', async (t) => {
  const addresses = Object.values(os.networkInterfaces()).flat();
  if (!addresses.some(({ address }) => address === '::1')) return t.skip('this machine has no IPv6 loopback');
  const server = await serve(t, ['echo', '-l', '[::1]:0']);
  assert.equal(new URL(server.ws()).hostname, '[::1]');
  await open(t, server.ws());
});

test('an exact route goes before a prefix, and a longer prefix before /*', async (t) => {
  const server = await serve(t, ['serve', '-r', '/*=reply:any', '-r', '/exact=reply:exact', '-r', '/topics/*=reply:topic']);
  for (const [path, reply] of [['/', 'any'], ['/exact', 'exact'], ['/exactly', 'any'], ['/topics/1', 'topic']]) {
    const client = await open(t, server.ws(path));
    client.ws.send('?');
    assert.equal(await client.text(), reply, path);
  }
});

test('wsloop without arguments echoes on / and /echo and broadcasts on /broadcast, at 127.0.0.1:8080', async (t) => {
  assert.ok(await isFree(8080), 'another process uses port 8080, which this test needs: stop that process');
  const process_ = launch(t, []);
  await process_.stdout.matching(/^listening on ws:\/\/127\.0\.0\.1:8080\/$/);
  for (const path of ['/', '/echo']) {
    const [sender, other] = [await open(t, DEFAULT_URL + path), await open(t, DEFAULT_URL + path)];
    sender.ws.send('hello');
    assert.equal(await sender.text(), 'hello');
    assert.deepEqual((await other.close()).rest, [], `${path} is a broadcast, not an echo`);
  }
  const [sender, other] = [await open(t, `${DEFAULT_URL}/broadcast`), await open(t, `${DEFAULT_URL}/broadcast`)];
  sender.ws.send('hello');
  assert.deepEqual([await sender.text(), await other.text()], ['hello', 'hello']);
  process_.signal('SIGTERM');
  assert.equal((await process_.ended).code, 0);
});

const DEFAULT_URL = 'ws://127.0.0.1:8080';

function isFree(port) {
  return new Promise((resolve) => {
    const probe = net.createServer();
    probe.once('error', () => resolve(false));
    probe.listen(port, '127.0.0.1', () => probe.close(() => resolve(true)));
  });
}
