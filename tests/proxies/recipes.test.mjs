// Each recipe of src/guide/recipes in use: messages, addresses, hosts, health checks, restarts and Unix sockets.

import assert from 'node:assert/strict';
import { statSync } from 'node:fs';
import { connect } from '../interop/client.mjs';
import { request } from '../interop/http.mjs';
import { PROXIES, Site, echo, test } from './site.mjs';

for (const [name, { tcp = false }] of Object.entries(PROXIES)) {
  test(`${name}: small, large, binary and fragmented messages are echoed over TLS`, async (t) => {
    const site = await Site.start(t, name);
    const client = await site.open('/echo');
    await echo(client, 'hello');
    await echo(client, '');
    await echo(client, 'ä€😀');
    await echo(client, 'x'.repeat(1 << 20));
    await echo(client, Buffer.from([0, 255, 10, 13, 0]));
    await echo(client, Buffer.alloc(1 << 20, 0xa5));
    client.ws.send('first, ', { fin: false });
    client.ws.send('second, ', { fin: false });
    client.ws.ping();
    client.ws.send('last', { fin: true });
    assert.equal(await client.text(), 'first, second, last');
  });

  test(`${name}: the server logs the client's address, whatever the client writes into headers`, async (t) => {
    const site = await Site.start(t, name);
    const spoofed = { 'X-Forwarded-For': '203.0.113.7', Forwarded: 'for=203.0.113.8', 'X-Real-IP': '203.0.113.9' };
    for (const [localAddress, headers] of [['127.0.0.77', {}], ['127.0.0.78', spoofed], ['127.0.0.1', spoofed]]) {
        const client = await site.open('/echo', { localAddress, headers });
      await echo(client, 'hello');
      await site.workers[0].line('stderr', connected(localAddress, tcp));
      await client.close(1000);
    }
    assert.deepEqual(site.workers[0].stderr.filter((line) => line.includes('203.0.113')), []);
  });

  test(`${name}: other hosts and pages of other sites are refused`, async (t) => {
    const site = await Site.start(t, name);
    const host = await site.refused('/echo', { headers: { Host: 'evil.example' } });
    // Caddy itself answers requests for a host that it has no site for.
    assert.equal(host, name === 'Caddy' ? 200 : 421);
    // The second one is a page of a server on the machine of the client.
    for (const origin of ['https://evil.example', 'http://127.0.0.1:3000']) {
      assert.equal(await site.refused('/echo', { origin }), 403, origin);
    }
    const client = await site.open('/echo', { origin: 'https://example.org' });
    await echo(client, 'from the own page');
  });

  test(`${name}: subprotocols, close codes and reasons pass in both directions`, async (t) => {
    const site = await Site.start(t, name);
    const client = await site.open('/echo', { protocols: ['chat.v2', 'chat.v1'] });
    assert.equal(client.ws.protocol, 'chat.v2');
    assert.deepEqual(await client.close(4321, 'that is all'), { code: 4321, reason: 'that is all', rest: [] });
    await site.workers[0].line('stderr', /code 4321 "that is all", clean, by the peer/);

    const faulty = await site.open('/echo');
    faulty.ws.send(Buffer.from([0xff]), { binary: false });
    const { code, reason } = await faulty.closed;
    assert.equal(code, 1007);
    assert.notEqual(reason, '');
  });

  test(`${name}: the page is public, metrics and checks are not`, async (t) => {
    const site = await Site.start(t, name);
    const page = await site.get('/');
    assert.equal(page.status, 200);
    assert.match(page.body, /<!doctype html>/i);
    assert.ok(page.headers['content-security-policy']);
    assert.match(await site.exchange('GET / HTTP/1.0\r\nHost: example.org\r\n\r\n'), /^HTTP\/1\.[01] 200 /);
    assert.equal((await site.get('/echo')).status, 426);

    if (tcp) {
      assert.equal((await site.get('/readyz')).status, 200);
      assert.equal((await site.get('/metrics')).status, 404);
      return;
    }
    for (const path of ['/metrics', '/healthz', '/readyz']) {
      const direct = await request(t, `http://127.0.0.1:${site.ports[0]}${path}`, { headers: { Host: 'example.org' } });
      assert.equal(direct.status, 200, 'the server itself must answer this path, else the test shows nothing');
      const encoded = path.replace('h', '%68').replace('m', '%6d');
      const spellings = [`${path}?a=b`, `${path}#a`, `/x/..${path}`, `/%2e${path}`, `/${path}`, encoded];
      spellings.push(`https://example.org${path}`);
      for (const target of [path, ...spellings]) {
        const answer = await site.exchange(`GET ${target} HTTP/1.1\r\nHost: example.org\r\nConnection: close\r\n\r\n`);
        assert.match(answer, /^HTTP\/1\.[01] (4\d\d|30\d) /, `${target} is answered: ${answer.slice(0, 100)}`);
        assert.doesNotMatch(answer, /wsloop_/, target);
      }
    }
  });

  test(`${name}: after SIGTERM clients get 1001, then 502 or 503, and after a restart they connect again`, async (t) => {
    const site = await Site.start(t, name);
    const clients = await Promise.all([1, 2, 3].map(() => site.open('/echo')));
    await Promise.all(clients.map((client) => echo(client, 'before')));
    site.workers[0].signal('SIGTERM');
    for (const client of clients) {
      const { code, reason } = await client.closed;
      assert.equal(code, 1001);
      assert.notEqual(reason, '');
    }
    assert.equal(await site.workers[0].ended, 0);

    if (tcp) {
      const client = connect(t, site.url('/echo'), [], site.options());
      assert.equal((await client.closed).code, 1006);
    } else {
      assert.ok([502, 503].includes(await site.refused('/echo')));
      assert.ok([502, 503].includes((await site.get('/')).status));
    }
    await site.startWorker(0);
    await site.works();
  });

  test(`${name}: new clients avoid a worker that drains, and its own clients stay`, async (t) => {
    const site = await Site.start(t, name, { count: 2 });
    const stays = [];
    while (new Set(stays.map(({ worker }) => worker)).size < 2) stays.push(await site.locate('/echo'));
    const drained = stays.at(-1).worker;
    site.workers[drained].signal('SIGUSR1');
    await site.workers[drained].line('stderr', /draining/);

    const avoids = async () => {
      for (let index = 0; index < 20; index++) {
        const { client, worker } = await site.locate('/echo');
        assert.equal(worker, 1 - drained);
        client.ws.terminate();
      }
    };
    // Some proxies try the other worker when the answer is 503. With the others, clients get the 503 until the next check.
    if (RETRIES.includes(name)) await avoids();
    else await site.eventually('avoids the drained worker', avoids);
    if (name.startsWith('HAProxy')) await site.process.line('stderr', /is DOWN, reason: Layer7 wrong status, code: 503/);
    for (const { client } of stays) await echo(client, 'still here');

    site.workers[drained].signal('SIGTERM');
    for (const { client, worker } of stays) {
      if (worker === drained) assert.equal((await client.closed).code, 1001);
      else await echo(client, 'not affected');
    }
    await site.workers[drained].ended;
    await site.startWorker(drained);
    await site.works(2);
  });

  test(`${name}: a client above its limit gets 503, and another client is connected`, async (t) => {
    const site = await Site.start(t, name, { count: 2, args: ['--connections-per-address-max', '1'] });
    const full = { localAddress: '127.0.0.77' };
    // Each worker accepts one connection of the address, so 4 or more of these 6 are refused.
    const opened = await Promise.allSettled(Array.from({ length: 6 }, () => site.open('/echo', full)));
    const refused = opened.filter(({ status }) => status === 'rejected');
    assert.ok(refused.length === 4 || refused.length === 5, `${refused.length} clients were refused`);
    for (const { reason } of refused) assert.equal(reason.message, 'Unexpected server response: 503');
    const other = await site.open('/echo', { localAddress: '127.0.0.78' });
    await echo(other, 'below the limit');
  });

  test(`${name}: a Unix socket with mode 660, in a directory with the proxy's group`, async (t) => {
    const site = await Site.start(t, name, { unix: true });
    assert.equal(statSync(`${site.directory}/wsloop/wsloop.sock`).mode & 0o777, 0o660);
    const client = await site.open('/echo', { localAddress: '127.0.0.77', headers: { 'X-Forwarded-For': '203.0.113.7' } });
    await echo(client, 'x'.repeat(1 << 20));
    await site.workers[0].line('stderr', connected('127.0.0.77', tcp));
    assert.deepEqual(site.workers[0].stderr.filter((line) => line.includes('203.0.113')), []);
    site.workers[0].signal('SIGTERM');
    assert.equal((await client.closed).code, 1001);
    await site.workers[0].ended;
    await site.startWorker(0);
    await site.works();
  });

  test(`${name}: a Unix socket with another group is not accessible`, async (t) => {
    const site = await Site.start(t, name, { unix: true, group: 'games', ready: false });
    const client = connect(t, site.url('/echo'), [], site.options());
    assert.equal((await client.closed).code, 1006);
    if (!tcp) assert.ok([502, 503].includes((await site.get('/')).status));
  });
}

/**
 * Returns the pattern of the line that the server logs about a client with this address. The PROXY protocol also names
 * the client's port; the headers of the recipes do not.
 */
function connected(address, tcp) {
  return new RegExp(` ${address.replaceAll('.', '\\.')}${tcp ? ':\\d+' : '(:\\d+)?'} connected`);
}

/** Proxies whose clients see no 503 while they have not noticed that a worker drains. */
const RETRIES = ['nginx', 'HAProxy'];
