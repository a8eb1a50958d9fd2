// The built-in page as people use it, in a real browser, against the real binary.

import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { mkdirSync } from 'node:fs';
import path from 'node:path';
import { test as nodeTest } from 'node:test';
import { launch, serve } from '../interop/server.mjs';
import { connect, eventually, lines, say, shows, state, visit } from './browser.mjs';

const TEST_MS_MAX = 60_000;
const SCREENSHOTS = path.join(import.meta.dirname, 'screenshots');
mkdirSync(SCREENSHOTS, { recursive: true });
const PHONE = { viewport: { width: 360, height: 740 }, deviceScaleFactor: 2, isMobile: true, hasTouch: true };

/** A test with the bare server, and a browser with the page in one tab. */
function test(sentence, body, { args = [], ...visitor } = {}) {
  nodeTest(sentence, { timeout: TEST_MS_MAX }, async (t) => {
    const server = await serve(t, args);
    await visit(server.http(), visitor, (page, context) => body(page, { t, server, context }));
  });
}

test('the page is one response whose policy has the hashes of what is in it', async (page, { server }) => {
  const response = await fetch(server.http());
  const text = await response.text();
  const policy = response.headers.get('content-security-policy');
  for (const element of ['style', 'script']) {
    const [, content] = text.match(new RegExp(`<${element}>([^]*)</${element}>`));
    const hash = createHash('sha256').update(content).digest('base64');
    assert.ok(policy.includes(`${element}-src 'sha256-${hash}'`), policy);
  }
  const asked = await page.evaluate(() => performance.getEntriesByType('resource').map(({ name }) => name));
  assert.deepEqual(asked.filter((name) => !name.startsWith('data:')), []);
  // The policy holds: what is not in the page does not run, and markup cannot be set.
  const refused = await page.evaluate(() => {
    try {
      document.body.innerHTML = '<b>markup</b>';
      return false;
    } catch (error) {
      return error.name;
    }
  });
  assert.equal(refused, 'TypeError');
}, { expected: /TrustedHTML/ });

test('a second visit is answered with 304', async (page, { server }) => {
  const first = await fetch(server.http());
  const again = await fetch(server.http(), { headers: { 'If-None-Match': first.headers.get('etag') } });
  assert.equal(again.status, 304);
  const response = await page.reload();
  assert.ok([200, 304].includes(response.status()));
  await state(page, 'CLOSED');
});

test('texts and a binary file come back, with sizes and times', async (page) => {
  await connect(page, '/echo');
  await lines(page, 'note', /open ws:\/\/.*\/echo/);
  await say(page, 'hello');
  await lines(page, 'out', /5 B\s*hello/);
  await lines(page, 'in', /5 B\s*hello[\d.]+ ms/);
  const markup = '<img src=x onerror="document.title=1"> & Grüße 你好';
  await say(page, markup);
  const shown = (await lines(page, 'in', /Grüße/)).first();
  assert.ok((await shown.textContent()).includes(markup));
  assert.equal(await page.locator('#log img').count(), 0);
  assert.match(await page.title(), /\/echo – wsloop$/);

  const buffer = Buffer.from(Array.from({ length: 100_000 }, (_, i) => (i * 7) % 256));
  await page.setInputFiles('#file', { name: 'some.bin', mimeType: 'application/octet-stream', buffer });
  for (const kind of ['out', 'in']) await lines(page, kind, /97\.7 KiB\s*binary 00 07 0e 15 1c 23 .*…/);
  await page.setInputFiles('#file', { name: 'empty', mimeType: 'text/plain', buffer: Buffer.alloc(0) });
  for (const kind of ['out', 'in']) await lines(page, kind, /0 B\s*binary/);
  await shows(page, '#sent', /^4 · 97\.\d KiB$/);
  await shows(page, '#received', /^4 · 97\.\d KiB$/);
  await shows(page, '#buffered', /^0 B$/);

  await say(page, 'x'.repeat(5000));
  await lines(page, 'in', /4\.9 KiB\s*x{2000}… 3000 more characters/);
});

test('what waits in the browser is shown as bufferedAmount', async (page) => {
  await connect(page, '/echo');
  // It may be gone before anybody asks.
  await page.evaluate(() => {
    window.amounts = [];
    const buffered = document.getElementById('buffered');
    new MutationObserver(() => window.amounts.push(buffered.textContent)).observe(buffered, { childList: true });
  });
  await page.setInputFiles('#file', { name: 'large.bin', mimeType: 'application/octet-stream', buffer: Buffer.alloc(8 << 20) });
  await lines(page, 'in', /8\.0 MiB/);
  await shows(page, '#buffered', /^0 B$/);
  const amounts = await page.evaluate(() => window.amounts);
  assert.ok(amounts.some((amount) => amount.endsWith(' MiB')), amounts.join());
});

test('two tabs in one room hear each other', async (page, { context }) => {
  await connect(page, '/broadcast');
  const opening = context.waitForEvent('page');
  await page.click('a');
  const other = await opening;
  // The link opens the page connected to the room.
  await state(other, 'OPEN');
  assert.equal(new URL(other.url()).hash, '#/broadcast');
  await say(page, 'from one');
  await lines(other, 'in', /from one/);
  await say(other, 'from the other');
  await lines(page, 'in', /from the other/);
  // Everybody hears themselves; only what one sent oneself has a round trip.
  await lines(page, 'in', /from one[\d.]+ ms/);
  assert.doesNotMatch(await page.locator('#log .in', { hasText: 'from the other' }).textContent(), /ms$/);
  await other.close();
  await say(page, 'alone');
  await lines(page, 'in', /alone/);
});

test('a close with 1000, and with a code and reason of one\'s own, shows what came back', async (page) => {
  await connect(page, '/echo');
  await page.click('#close');
  await state(page, 'CLOSED');
  await shows(page, '#back', /code 1000 \(normal\), reason none, wasClean true$/);
  await connect(page, '/echo');
  await page.fill('#code', '4321');
  await page.fill('#reason', 'enough "for" today');
  await page.click('#close');
  await state(page, 'CLOSED');
  await shows(page, '#back', /code 4321, reason "enough \\"for\\" today", wasClean true$/);
  // What the user ended stays ended.
  await page.waitForTimeout(1500);
  await state(page, 'CLOSED');
  await shows(page, '#open', /^Connect$/);
});

test('a code that browsers do not allow is told and closes nothing', async (page) => {
  await connect(page, '/echo');
  await page.fill('#code', '1001');
  await page.click('#close');
  await shows(page, '#back', /1001|code/);
  await state(page, 'OPEN');
  await say(page, 'still here');
  await lines(page, 'in', /still here/);
});

test('a path that is not served is told once and not tried again', async (page) => {
  await page.fill('#path', 'nothing');
  await page.click('#open');
  await lines(page, 'bad', /No WebSocket was opened/);
  await shows(page, '#back', /code 1006 .*wasClean false$/);
  assert.equal(await page.inputValue('#path'), '/nothing');
  await page.waitForTimeout(1500);
  assert.equal(await page.locator('#log .bad').count(), 2);
}, { expected: /WebSocket connection to .* failed/ });

test('a subprotocol that nobody selects is told as a failure', async (page) => {
  await page.click('summary');
  await page.fill('#protocols', 'chat, other');
  await page.click('#open');
  await lines(page, 'bad', /No WebSocket was opened/);
  await page.fill('#protocols', 'no token!,no token!');
  await page.click('#open');
  await lines(page, 'bad', /subprotocol|protocol/i);
}, { expected: /WebSocket connection to .* failed/ });

test('a restart of the server is survived by connecting again', async (page, { t, server }) => {
  await connect(page, '/echo');
  await say(page, 'before');
  await lines(page, 'in', /before/);
  const { port } = new URL(server.http());
  await server.stop();
  await shows(page, '#back', /code 1001 \(going away\), reason .*, wasClean true$/);
  await shows(page, '#open', /^Retry in \d+ s$/);
  await lines(page, 'bad', /code 1006/);
  launch(t, ['-l', `127.0.0.1:${port}`]);
  await lines(page, 'note', /open ws/, 2);
  await state(page, 'OPEN');
  await say(page, 'after');
  await lines(page, 'in', /after/);
}, { expected: /WebSocket connection to .* failed/ });

test('a connection that is cut is opened again, unless that is not wanted', async (page, { t, server }) => {
  await connect(page, '/echo');
  const { port } = new URL(server.http());
  await server.process.kill();
  await shows(page, '#back', /code 1006/);
  await page.uncheck('#again');
  await shows(page, '#open', /^Connect$/);
  const second = launch(t, ['-l', `127.0.0.1:${port}`]);
  await second.stdout.matching(/./);
  await page.waitForTimeout(1500);
  await state(page, 'CLOSED');
  await page.check('#again');
  await page.click('#open');
  await state(page, 'OPEN');
  await second.kill();
  await shows(page, '#close', /^Stop$/);
  await page.click('#close');
  await shows(page, '#open', /^Connect$/);
}, { expected: /WebSocket connection to .* failed/ });

test('round trips are measured, drawn and taken by themselves', async (page) => {
  await connect(page, '/echo');
  for (let n = 0; n < 5; n++) await page.click('#ping');
  await lines(page, 'in ping', /ping \w+-5 \d+[\d.]+ ms/);
  await shows(page, '#rtt', /^[\d.]+ ms$/);
  await shows(page, '#stats', /^median [\d.]+ ms\nmax [\d.]+ ms, of 5$/);
  const bars = async () => ((await page.getAttribute('#bars', 'd')) ?? '').split('M').length - 1;
  assert.equal(await bars(), 5);
  await page.check('#auto');
  await eventually(page, async () => (await bars()) >= 7, async () => `there are ${await bars()} bars`);
  await page.uncheck('#show');
  assert.equal(await page.locator('#log .ping:visible').count(), 0);
  await page.check('#show');
  assert.ok((await page.locator('#log .ping:visible').count()) >= 14);
});

test('an answer that is no echo is not taken for one', async (page) => {
  await connect(page, '/');
  await page.click('#ping');
  await lines(page, 'in', /{"a":1}/);
  await shows(page, '#rtt', /^–$/);
}, { args: ['serve', '-r', '/=reply:{"a":1}'] });

test('an echo behind a prefix is one', async (page) => {
  await connect(page, '/');
  await say(page, 'X');
  await lines(page, 'in', /You sent: X[\d.]+ ms/);
}, { args: ['serve', '-r', '/*=echo:You sent: '] });

test('the log keeps the newest 500 lines and stays at its end', async (page) => {
  await connect(page, '/echo');
  await page.evaluate(() => { for (let n = 0; n < 700; n++) send(`number ${n}`); });
  await lines(page, 'in', /number 699/);
  const log = page.locator('#log');
  assert.equal(await log.locator('li').count(), 500);
  const left = await log.evaluate((log) => log.scrollHeight - log.scrollTop - log.clientHeight);
  assert.ok(left < 2, `${left} pixels below`);
  // Whoever reads further up is left there.
  await log.evaluate((log) => { log.scrollTop = 0; });
  await say(page, 'one more');
  await lines(page, 'in', /one more/);
  const top = await log.evaluate((log) => log.scrollTop);
  assert.ok(top < 200, `${top} pixels down`);
  await page.click('#clear');
  assert.equal(await log.locator('li').count(), 0);
});

test('all of it works by keyboard, and the focus can be seen', async (page) => {
  const focused = () => page.evaluate(() => document.activeElement.id);
  const tabTo = async (id) => {
    const passed = [];
    while ((await focused()) !== id) {
      await page.keyboard.press('Tab');
      passed.push(await focused());
      assert.ok(passed.length < 30, `${id} is not reached: ${passed}`);
      const { outlineStyle, outlineWidth } = await page.evaluate(() => {
        const focused = document.activeElement;
        return getComputedStyle(focused.type === 'file' ? focused.parentElement : focused);
      });
      assert.ok(outlineStyle !== 'none' && outlineWidth !== '0px', `${passed.at(-1)} shows no focus`);
    }
    return passed;
  };
  for (const id of ['send', 'file', 'ping', 'close']) assert.ok(await page.isDisabled(`#${id}`), id);
  await tabTo('path');
  await page.keyboard.press('Enter');
  await state(page, 'OPEN');
  const order = await tabTo('close');
  const expected = ['open', 'again', 'text', 'send', 'file', 'show', 'clear', 'log', 'auto', 'ping', 'code', 'reason', 'close'];
  assert.deepEqual(order.filter((id) => expected.includes(id)), expected);
  await page.focus('#path');
  await tabTo('text');
  await page.keyboard.type('two');
  await page.keyboard.press('Shift+Enter');
  await page.keyboard.type('lines');
  await page.keyboard.press('Enter');
  await lines(page, 'in', /two\nlines/);
  await tabTo('ping');
  await page.keyboard.press('Space');
  await lines(page, 'in ping', /ping/);
  await tabTo('reason');
  await page.keyboard.type('by hand');
  await page.keyboard.press('Enter');
  await state(page, 'CLOSED');
  await shows(page, '#back', /code 1000 \(normal\), reason "by hand", wasClean true$/);
});

test('whoever does not see the page is told the same', async (page) => {
  assert.equal(await page.locator('html').getAttribute('lang'), 'en');
  const nameless = await page.evaluate(() => {
    const controls = [...document.querySelectorAll('input, textarea, button')];
    return controls.filter((one) => !(one.labels?.length || one.textContent.trim())).map(({ id }) => id);
  });
  assert.deepEqual(nameless, []);
  assert.equal(await page.locator('#log').getAttribute('role'), 'log');
  await connect(page, '/echo');
  await say(page, 'hello');
  assert.equal(await (await lines(page, 'in', /hello/)).locator('i').getAttribute('aria-label'), 'received');
  await page.check('#auto');
  assert.equal(await page.locator('#log').getAttribute('aria-live'), 'off');
});

test('nothing moves for those who want no motion', async (page) => {
  const duration = await page.evaluate(() => getComputedStyle(document.getElementById('dot')).transitionDuration);
  assert.equal(parseFloat(duration), 0);
}, { options: { reducedMotion: 'reduce' } });

for (const [name, options] of [
  ['desktop', {}],
  ['dark', { colorScheme: 'dark' }],
  ['phone', PHONE],
  ['phone-dark', { ...PHONE, colorScheme: 'dark' }],
]) {
  test(`on a screen that is ${name} nothing is cut off, and it is legible`, async (page) => {
    await connect(page, '/broadcast');
    for (const text of ['hello, loop', '{"symbol":"WSL","bid":101.25,"ask":101.27}', 'Grüße an alle', 'x'.repeat(120)]) await say(page, text);
    const buffer = Buffer.from(Array.from({ length: 5000 }, (_, i) => (i * 37) % 256));
    await page.setInputFiles('#file', { name: 'some.bin', mimeType: 'application/octet-stream', buffer });
    await lines(page, 'in', /4\.9 KiB/);
    for (let n = 0; n < 40; n++) {
      await page.evaluate(() => ping());
      await page.waitForTimeout(10);
    }
    await lines(page, 'in ping', /-40 /);
    await page.uncheck('#show');
    await page.locator('#log').evaluate((log) => log.scrollTo(0, log.scrollHeight));
    const [width, inner] = await page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
    assert.ok(width <= inner, `${width} pixels in ${inner}`);
    for (const selector of ['h1', '.hint', '#log time', '#rtt', '#rail [aria-current]', '.main', 'a']) {
      const contrast = await page.locator(selector).first().evaluate(contrastOf);
      assert.ok(contrast >= 4.5, `${selector} has a contrast of ${contrast}`);
    }
    await page.screenshot({ path: path.join(SCREENSHOTS, `${name}.png`), fullPage: options === PHONE });
  }, { options });
}

/** WCAG 2 section 1.4.3: of an element's text to what is behind it. Runs in the page. */
function contrastOf(element) {
  const luminance = (color) => {
    const [r, g, b] = color.match(/[\d.]+/g).map((part) => part / 255).map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  let behind = element;
  while (getComputedStyle(behind).backgroundColor === 'rgba(0, 0, 0, 0)') behind = behind.parentElement;
  const pair = [getComputedStyle(element).color, getComputedStyle(behind).backgroundColor].map(luminance);
  return (Math.max(...pair) + 0.05) / (Math.min(...pair) + 0.05);
}
