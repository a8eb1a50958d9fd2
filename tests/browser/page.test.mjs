// Tests of the built-in page in a real browser, by mouse and keyboard, with the real binary.

import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { mkdirSync } from 'node:fs';
import path from 'node:path';
import { test as nodeTest } from 'node:test';
import { launch, serve } from '../interop/server.mjs';
import { connect, eventually, lines, sendText, shows, state, visit } from './browser.mjs';

const TEST_MS_MAX = 60_000;
const SCREENSHOTS = path.join(import.meta.dirname, 'screenshots');
mkdirSync(SCREENSHOTS, { recursive: true });
const PHONE = { viewport: { width: 360, height: 740 }, deviceScaleFactor: 2, isMobile: true, hasTouch: true };

/** Defines a test with a server, started with `args`, and a browser with the page in one tab. */
function test(sentence, body, { args = [], ...visitor } = {}) {
  nodeTest(sentence, { timeout: TEST_MS_MAX }, async (t) => {
    const server = await serve(t, args);
    await visit(server.http(), visitor, (page, context) => body(page, { t, server, context }));
  });
}

test('the page is a single response, and its policy has the hashes of its style and script', async (page, { server }) => {
  const response = await fetch(server.http());
  const text = await response.text();
  const policy = response.headers.get('content-security-policy');
  for (const element of ['style', 'script']) {
    const [, content] = text.match(new RegExp(`<${element}>([^]*)</${element}>`));
    const hash = createHash('sha256').update(content).digest('base64');
    assert.ok(policy.includes(`${element}-src 'sha256-${hash}'`), policy);
  }
  const requested = await page.evaluate(() => performance.getEntriesByType('resource').map(({ name }) => name));
  assert.deepEqual(requested.filter((name) => !name.startsWith('data:')), []);
  // The policy is enforced: a script cannot set markup.
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

test('texts and a binary file are echoed and shown with sizes and times', async (page) => {
  await connect(page, '/echo');
  await lines(page, 'note', /open ws:\/\/.*\/echo/);
  await sendText(page, 'hello');
  await lines(page, 'out', /5 B\s*hello/);
  await lines(page, 'in', /5 B\s*hello[\d.]+ ms/);
  const markup = '<img src=x onerror="document.title=1"> & Grüße 你好';
  await sendText(page, markup);
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

  await sendText(page, 'x'.repeat(5000));
  await lines(page, 'in', /4\.9 KiB\s*x{2000}… 3000 more characters/);
});

test('unsent bytes are shown as bufferedAmount', async (page) => {
  await connect(page, '/echo');
  // An observer records every shown value, because the bytes may be sent before the test reads the page.
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

test('two tabs on one path receive each other\'s messages', async (page, { context }) => {
  await connect(page, '/broadcast');
  const opening = context.waitForEvent('page');
  await page.click('a');
  const other = await opening;
  // The link opens the page connected to the same path.
  await state(other, 'OPEN');
  assert.equal(new URL(other.url()).hash, '#/broadcast');
  await sendText(page, 'from one');
  await lines(other, 'in', /from one/);
  await sendText(other, 'from the other');
  await lines(page, 'in', /from the other/);
  // A broadcast also returns to its sender. A round-trip time is shown only for messages of the same tab.
  await lines(page, 'in', /from one[\d.]+ ms/);
  assert.doesNotMatch(await page.locator('#log .in', { hasText: 'from the other' }).textContent(), /ms$/);
  await other.close();
  await sendText(page, 'alone');
  await lines(page, 'in', /alone/);
});

test('a close with 1000, or with another code and a reason, shows the close event', async (page) => {
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
  // The page does not connect again after a close by the user.
  await page.waitForTimeout(1500);
  await state(page, 'CLOSED');
  await shows(page, '#open', /^Connect$/);
});

test('a code that browsers do not allow is reported and closes nothing', async (page) => {
  await connect(page, '/echo');
  await page.fill('#code', '1001');
  await page.click('#close');
  await shows(page, '#back', /1001|code/);
  await state(page, 'OPEN');
  await sendText(page, 'still here');
  await lines(page, 'in', /still here/);
});

test('a path that is not served is reported once and not tried again', async (page) => {
  await page.fill('#path', 'nothing');
  await page.click('#open');
  await lines(page, 'bad', /No WebSocket was opened/);
  await shows(page, '#back', /code 1006 .*wasClean false$/);
  assert.equal(await page.inputValue('#path'), '/nothing');
  await page.waitForTimeout(1500);
  assert.equal(await page.locator('#log .bad').count(), 2);
}, { expected: /WebSocket connection to .* failed/ });

test('a subprotocol that the server does not select is reported as a failure', async (page) => {
  await page.click('summary');
  await page.fill('#protocols', 'chat, other');
  await page.click('#open');
  await lines(page, 'bad', /No WebSocket was opened/);
  await page.fill('#protocols', 'no token!,no token!');
  await page.click('#open');
  await lines(page, 'bad', /subprotocol|protocol/i);
}, { expected: /WebSocket connection to .* failed/ });

test('the page connects again after a restart of the server', async (page, { t, server }) => {
  await connect(page, '/echo');
  await sendText(page, 'before');
  await lines(page, 'in', /before/);
  const { port } = new URL(server.http());
  await server.stop();
  await shows(page, '#back', /code 1001 \(going away\), reason .*, wasClean true$/);
  await shows(page, '#open', /^Retry in \d+ s$/);
  await lines(page, 'bad', /code 1006/);
  launch(t, ['-l', `127.0.0.1:${port}`]);
  await lines(page, 'note', /open ws/, 2);
  await state(page, 'OPEN');
  await sendText(page, 'after');
  await lines(page, 'in', /after/);
}, { expected: /WebSocket connection to .* failed/ });

test('the page connects again after a lost connection, unless this is disabled', async (page, { t, server }) => {
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

test('round trips are measured and drawn, on demand and automatically', async (page) => {
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

test('an answer that is not an echo is not measured as a round trip', async (page) => {
  await connect(page, '/');
  await page.click('#ping');
  await lines(page, 'in', /{"a":1}/);
  await shows(page, '#rtt', /^–$/);
}, { args: ['serve', '-r', '/=reply:{"a":1}'] });

test('an echo after a prefix is measured as a round trip', async (page) => {
  await connect(page, '/');
  await sendText(page, 'X');
  await lines(page, 'in', /You sent: X[\d.]+ ms/);
}, { args: ['serve', '-r', '/*=echo:You sent: '] });

test('the log retains the newest 500 lines and stays scrolled to its end', async (page) => {
  await connect(page, '/echo');
  await page.evaluate(() => { for (let n = 0; n < 700; n++) send(`number ${n}`); });
  await lines(page, 'in', /number 699/);
  const log = page.locator('#log');
  assert.equal(await log.locator('li').count(), 500);
  const left = await log.evaluate((log) => log.scrollHeight - log.scrollTop - log.clientHeight);
  assert.ok(left < 2, `${left} pixels below`);
  // If the user has scrolled up, a new line does not change the position.
  await log.evaluate((log) => { log.scrollTop = 0; });
  await sendText(page, 'one more');
  await lines(page, 'in', /one more/);
  const top = await log.evaluate((log) => log.scrollTop);
  assert.ok(top < 200, `${top} pixels down`);
  await page.click('#clear');
  assert.equal(await log.locator('li').count(), 0);
});

test('every control works by keyboard, and the focus is visible', async (page) => {
  const focused = () => page.evaluate(() => document.activeElement.id);
  const tabTo = async (id) => {
    const passed = [];
    while ((await focused()) !== id) {
      await page.keyboard.press('Tab');
      passed.push(await focused());
      assert.ok(passed.length < 30, `${id} cannot be reached by Tab: ${passed}`);
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

test('the page has labels and roles for screen readers', async (page) => {
  assert.equal(await page.locator('html').getAttribute('lang'), 'en');
  const nameless = await page.evaluate(() => {
    const controls = [...document.querySelectorAll('input, textarea, button')];
    return controls.filter((one) => !(one.labels?.length || one.textContent.trim())).map(({ id }) => id);
  });
  assert.deepEqual(nameless, []);
  assert.equal(await page.locator('#log').getAttribute('role'), 'log');
  await connect(page, '/echo');
  await sendText(page, 'hello');
  assert.equal(await (await lines(page, 'in', /hello/)).locator('i').getAttribute('aria-label'), 'received');
  await page.check('#auto');
  assert.equal(await page.locator('#log').getAttribute('aria-live'), 'off');
});

test('nothing moves if the user prefers reduced motion', async (page) => {
  const duration = await page.evaluate(() => getComputedStyle(document.getElementById('dot')).transitionDuration);
  assert.equal(parseFloat(duration), 0);
}, { options: { reducedMotion: 'reduce' } });

for (const [name, options] of [
  ['desktop', {}],
  ['dark', { colorScheme: 'dark' }],
  ['phone', PHONE],
  ['phone-dark', { ...PHONE, colorScheme: 'dark' }],
]) {
  test(`on the screen "${name}" nothing is cut off, and the contrast is sufficient`, async (page) => {
    await connect(page, '/broadcast');
    for (const text of ['hello, loop', '{"symbol":"WSL","bid":101.25,"ask":101.27}', 'Grüße an alle', 'x'.repeat(120)]) await sendText(page, text);
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

/** Returns the contrast of an element's text to its background (WCAG 2 section 1.4.3). Runs in the page. */
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
