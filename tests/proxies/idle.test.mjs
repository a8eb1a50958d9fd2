// Clients that are silent for longer than the proxies' timeouts of 60 s. Each test takes 70 s; all run at the same time.

import assert from 'node:assert/strict';
import { describe } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { PROXIES, Site, echo, replaced, test } from './site.mjs';

const SILENCE_SECONDS = 70;

describe('for 70 s', { concurrency: true }, () => {
  // The recipes of nginx, Caddy and Apache leave all timeouts at the defaults of these proxies. HAProxy has no defaults.
  for (const name of Object.keys(PROXIES)) {
    staysConnected(name, name);
    staysConnected(`${name} with a Unix socket`, name, { unix: true });
  }
  const edit = (text) => replaced(text, /(timeout (?:client|server)) 60s/, '$1 50s');
  staysConnected("HAProxy with the 50 s of Debian's haproxy.cfg", 'HAProxy', { edit });

  // Caddy has no timeout for WebSockets.
  for (const name of Object.keys(PROXIES).filter((name) => name !== 'Caddy')) {
    test(`${name} disconnects a silent client after 60 s if the server sends no pings`, async (t) => {
      const site = await Site.start(t, name, { args: ['--ping-interval', 'off'] });
      const client = await site.open('/echo');
      await echo(client, 'before');
      const start = performance.now();
      const end = await Promise.race([client.closed, sleep(SILENCE_SECONDS * 1000, { code: 'not disconnected' })]);
      const seconds = (performance.now() - start) / 1000;
      assert.equal(end.code, 1006);
      assert.ok(seconds > 55 && seconds < 66, `disconnected after ${seconds} s`);
    }, SILENCE_SECONDS + 30);
  }
});

function staysConnected(title, name, options) {
  test(`${title}: a silent client stays connected, and one that sends without an answer`, async (t) => {
    const site = await Site.start(t, name, options);
    const silent = await site.open('/broadcast');
    // Sends the fragments of one message. The server answers only the last one. Meanwhile it sends no pings, because it
    // hears from this client.
    const sends = await site.open('/echo');
    let pings = 0;
    sends.ws.on('ping', () => pings++);
    const [text, every] = ['abcdefghijklmn', (SILENCE_SECONDS * 1000) / 14];
    for (const letter of text) {
      sends.ws.send(letter, { fin: false });
      await sleep(every);
    }
    for (const client of [silent, sends]) assert.ok(!client.events.includes('close'), client.events.join());
    sends.ws.send('!', { fin: true });
    assert.equal(await sends.text(), `${text}!`);
    assert.equal(pings, 0);
    await echo(silent, 'still here');
    // Health checks, of which there were many, have not removed the server.
    await echo(await site.open('/echo'), 'a new client');
  }, SILENCE_SECONDS + 30);
}
