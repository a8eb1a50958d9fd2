// Tests of the built-in page in a real browser, by mouse and keyboard, with the real binary. They run once in Chromium and
// once in Firefox.

import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { mkdirSync, readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import path from 'node:path';
import { test as nodeTest } from 'node:test';
import { launch, serve } from '../interop/server.mjs';
import { connect, eventually, IS_FIREFOX, lines, sendText, shows, state, visit } from './browser.mjs';

const TEST_MS_MAX = 60_000;
const SCREENSHOTS = path.join(import.meta.dirname, 'screenshots');
mkdirSync(SCREENSHOTS, { recursive: true });
// Playwright emulates a touch screen in Chromium only.
const TOUCH = IS_FIREFOX ? {} : { isMobile: true, hasTouch: true };
const PHONE = { viewport: { width: 360, height: 740 }, deviceScaleFactor: 2, ...TOUCH };
const TALL_PHONE = { ...PHONE, viewport: { width: 390, height: 844 } };
const NO_CONNECTION = /WebSocket connection to .* failed|can’t establish a connection/;

/** Defines a test with a server, started with `args`, and a browser with the page in one tab. */
function test(sentence, body, { args = [], skip, ...visitor } = {}) {
  nodeTest(sentence, { timeout: TEST_MS_MAX, skip }, async (t) => {
    const server = await serve(t, args);
    await visit(server.http(), visitor, (page, context) => body(page, { t, server, context }));
  });
}

/** Defines a test with a server that accepts every WebSocket with the subprotocol that `select` returns for the offered
 * ones. Such a WebSocket carries no messages. */
function testSelecting(sentence, select, body) {
  nodeTest(sentence, { timeout: TEST_MS_MAX }, async (t) => {
    const relay = await selecting(t, await serve(t, []), select);
    await visit(relay.url, { expected: NO_CONNECTION }, (page) => body(page, relay));
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
}, { expected: /TrustedHTML|injection sink/ });

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
  for (const kind of ['out', 'in']) await lines(page, kind, /97\.7 KiB\s*0000: 0007 0e15 1c23 /);
  await page.setInputFiles('#file', { name: 'empty', mimeType: 'text/plain', buffer: Buffer.alloc(0) });
  for (const kind of ['out', 'in']) await lines(page, kind, /0 B\s*empty binary message/);
  await sendText(page, '');
  for (const kind of ['out', 'in']) await lines(page, kind, /0 B\s*empty text/);
  await shows(page, '#sent', /^5 · 97\.\d KiB$/);
  await shows(page, '#received', /^5 · 97\.\d KiB$/);
  await shows(page, '#buffered', /^0 B$/);
});

test('a long text is folded, and a button shows and folds it', async (page) => {
  await connect(page, '/echo');
  const content = (row) => row.locator('div > span').textContent();
  // 320 characters are not folded. A surrogate pair is not divided. Only five lines are shown of a text with many.
  for (const [text, shown, rest] of [
    ['x'.repeat(320), 'x'.repeat(320), 0],
    ['x'.repeat(321), 'x'.repeat(320), 1],
    [`a${'😀'.repeat(200)}`, `a${'😀'.repeat(159)}`, 82],
    ['b\n'.repeat(50), 'b\nb\nb\nb\nb', 91],
    ['c\nc\nc\nc\nc', 'c\nc\nc\nc\nc', 0],
  ]) {
    await page.click('#clear');
    await sendText(page, text);
    const row = (await lines(page, 'in', /./)).first();
    assert.equal(await content(row), shown);
    assert.equal(await row.locator('button').count(), rest ? 1 : 0);
    if (rest) assert.equal(await row.locator('button').textContent(), `Show ${rest} more characters`);
    assert.ok((await row.boundingBox()).height < 180, 'the line is folded');
  }
  await page.click('#clear');
  const large = `start ${'0123456789abcdef'.repeat(65536)}`.slice(0, 1 << 20);
  await page.evaluate((text) => send(text), large);
  const row = (await lines(page, 'in', /1\.0 MiB\s*start/)).first(), button = row.locator('button');
  assert.equal(await content(row), large.slice(0, 320));
  assert.equal(await button.getAttribute('aria-expanded'), 'false');
  await button.press('Enter');
  assert.equal(await content(row), `${large.slice(0, 100_000)}\n… 948576 more characters`);
  assert.equal(await button.getAttribute('aria-expanded'), 'true');
  assert.equal(await page.evaluate(() => document.activeElement.textContent), 'Show less');
  await button.press('Space');
  assert.equal(await content(row), large.slice(0, 320));
  assert.equal(await button.textContent(), 'Show 1048256 more characters');
});

test('a binary message is shown as offsets, hexadecimal digits and ASCII', async (page) => {
  await connect(page, '/echo');
  const show = async (buffer) => {
    await page.click('#clear');
    await page.setInputFiles('#file', { name: 'some.bin', mimeType: 'application/octet-stream', buffer });
    return (await lines(page, 'in', /./)).first();
  };
  const text = (row) => row.locator('div > span').textContent();
  const all = Buffer.from(Array.from({ length: 256 }, (_, i) => i));
  assert.equal(await text(await show(Buffer.from('WS\n'))), '0000: 5753 0a                                  WS.');
  assert.equal(await (await show(all.subarray(0, 64))).locator('button').count(), 0);
  const row = await show(Buffer.concat([all.subarray(32, 127), Buffer.alloc(5000, 0xff)]));
  const shown = (await text(row)).split('\n');
  assert.equal(shown.length, 4);
  assert.equal(shown[1], '0010: 3031 3233 3435 3637 3839 3a3b 3c3d 3e3f  0123456789:;<=>?');
  await row.locator('button', { hasText: 'Show 5031 more bytes' }).click();
  const whole = (await text(row)).split('\n');
  assert.equal(whole[5], '0050: 7071 7273 7475 7677 7879 7a7b 7c7d 7eff  pqrstuvwxyz{|}~.');
  assert.equal(whole.length, 257);
  assert.equal(whole.at(-1), '… 999 more bytes');
  // No line of the dump is wrapped, on a wide screen and on a phone.
  for (const [width, columns] of [[1280, 16], [1024, 8], [700, 8], [390, 8]]) {
    await page.setViewportSize({ width, height: 800 });
    const row = await show(all.subarray(0, 64));
    const { height } = await row.locator('div > span').evaluate((span) => span.getBoundingClientRect());
    const lines = (await text(row)).split('\n').length;
    assert.equal(lines, 64 / columns);
    assert.ok(height < lines * 20, `${lines} lines have ${height} pixels in a page of ${width}`);
  }
});

test('the retained log is saved as a text file with whole texts', async (page, { server }) => {
  const NAME = /^wsloop-\d{4}-\d\d-\d\dT\d{6}\.txt$/;
  const download = async () => {
    const [file] = await Promise.all([page.waitForEvent('download'), page.click('#save')]);
    assert.match(file.suggestedFilename(), NAME);
    return readFileSync(await file.path(), 'utf8');
  };
  // Playwright reports no downloads in Firefox. There, the test reads what the link refers to when it is clicked.
  const linked = async () => {
    const [name, text] = await page.evaluate(() => new Promise((resolve) => {
      const { createObjectURL } = URL, { click } = HTMLAnchorElement.prototype;
      let text;
      URL.createObjectURL = (blob) => (text = blob.text(), createObjectURL.call(URL, blob));
      HTMLAnchorElement.prototype.click = async function () { resolve([this.href.startsWith('blob:') && this.download, await text]); };
      document.getElementById('save').click();
      Object.assign(URL, { createObjectURL });
      Object.assign(HTMLAnchorElement.prototype, { click });
    }));
    assert.match(name, NAME);
    return text;
  };
  const saved = IS_FIREFOX ? linked : download;
  const time = String.raw`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z`, { host } = new URL(server.http());
  const title = 'time \\(UTC\\)\tdirection\tbytes\tround trip \\(ms\\)\tcontent \\(lines after the first start with tabs\\)';
  assert.match(await saved(), new RegExp(`^${host}, ${time}, no lines were dropped\n\n${title}\n$`));
  await connect(page, '/echo');
  const large = 'Grüße '.repeat(20_000);
  await page.evaluate((text) => { send(text); send('two\nlines\n'); send(new Uint8Array([0, 65, 255]).buffer); }, large);
  await page.evaluate(() => { send(new ArrayBuffer(0)); send(new ArrayBuffer(65537)); });
  await lines(page, 'in', /64\.0 KiB/);
  const [, ...rows] = (await saved()).split(new RegExp(`^${time}\t`, 'm'));
  assert.equal(rows[0], `event\t\t\topen ws://${host}/echo\n`);
  assert.equal(rows[1], `sent\t160000\t\t${large}\n`);
  const received = rows.filter((row) => row.startsWith('received'));
  assert.ok(received[0].endsWith(`\t${large}\n`));
  assert.match(received[1], /^received\t10\t[\d.]+\ttwo\n\t{4}lines\n\t{4}\n$/);
  assert.match(received[2], /^received\t3\t[\d.]+\tbinary\n\t{4}0000: 0041 ff {34}\.A\.\n$/);
  assert.match(received[3], /^received\t0\t[\d.]+\tbinary\n\t{4}\n$/);
  assert.match(received[4], /\n\t{4}fff0: 0000 .*\n\t{4}… 1 more bytes\n$/);
  await page.click('#clear');
  await page.evaluate(() => { for (let n = 0; n < 300; n++) send(`number ${n}`); });
  await lines(page, 'in', /number 299/);
  assert.match(await saved(), /, 100 earlier lines were dropped: the log retains 500 lines and 32\.0 MiB\n/);
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

test('while a WebSocket is open, the button is named Reconnect and is not the brightest', async (page) => {
  const color = () => page.locator('#open').evaluate((button) => getComputedStyle(button).backgroundColor);
  const bright = await color();
  await connect(page, '/echo');
  await shows(page, '#open', /^Reconnect$/);
  assert.notEqual(await color(), bright);
  await page.fill('#path', '/broadcast');
  await page.click('#open');
  await lines(page, 'note', /closed ws:\/\/.*\/echo, code 1000/);
  await lines(page, 'note', /open ws:\/\/.*\/broadcast/);
  await state(page, 'OPEN');
  assert.equal(await page.locator('#log .bad').count(), 0);
});

test('a code or a reason that browsers do not allow is reported and closes nothing', async (page) => {
  await connect(page, '/echo');
  for (const code of ['1001', '999', '2999', '5000', '-1', '', 'abc', '10000']) {
    await page.fill('#code', code);
    await page.click('#close');
    await shows(page, '#back', /^Not closed: browsers allow the codes 1000 and 3000 to 4999$/);
    await page.fill('#reason', code);
    await page.press('#reason', 'Enter');
  }
  await page.fill('#code', '3000');
  for (const reason of ['x'.repeat(124), 'ü'.repeat(62)]) {
    await page.fill('#reason', reason);
    await page.click('#close');
    await shows(page, '#back', /^Not closed: the reason has 124 bytes, the maximum is 123$/);
  }
  await state(page, 'OPEN');
  await sendText(page, 'still here');
  await lines(page, 'in', /still here/);
  const longest = `${'ü'.repeat(61)}x`;
  await page.fill('#reason', longest);
  await page.click('#close');
  await shows(page, '#back', new RegExp(`^Closed: code 3000, reason "${longest}", wasClean true$`));
});

test('a path that is not served is reported once and not tried again', async (page) => {
  await page.fill('#path', 'nothing');
  await page.click('#open');
  await lines(page, 'bad', /No WebSocket was opened/);
  await shows(page, '#said', /^No WebSocket was opened \(code 1006\): check the path$/);
  assert.equal(await page.inputValue('#path'), '/nothing');
  await page.waitForTimeout(1500);
  assert.equal(await page.locator('#log .bad').count(), 2);
  await connect(page, '/echo');
  await shows(page, '#said', /^$/);
}, { expected: NO_CONNECTION });

testSelecting('a server that selects no subprotocol is named as the probable cause, and not tried again', () => undefined, async (page, relay) => {
  await connect(page, '/echo'); // the path is known to work without subprotocols
  await page.fill('#protocols', 'chat, other');
  await page.click('#open');
  if (IS_FIREFOX) {
    // RFC 6455 allows a server to select none, and Firefox opens the WebSocket.
    await lines(page, 'bad', /open ws:.*, but the server selected none of the subprotocols chat, other$/);
    await state(page, 'OPEN');
    return;
  }
  const cause = /^No WebSocket was opened \(code 1006\): the server probably selected none of the subprotocols chat, other\. Otherwise check the path$/;
  await shows(page, '#said', cause);
  await lines(page, 'bad', /selected none of the subprotocols chat, other/);
  await page.waitForTimeout(1500);
  await state(page, 'CLOSED');
  await shows(page, '#open', /^Connect$/);
  assert.equal(relay.upgrades(), 2);
  await page.fill('#protocols', '');
  await page.click('#open');
  await state(page, 'OPEN');
});

testSelecting('the selected subprotocol is shown', (offered) => offered.split(', ').at(-1), async (page) => {
  await page.fill('#protocols', '  chat,other v1.example ');
  await page.click('#open');
  await lines(page, 'note', /open ws:.*, subprotocol v1\.example$/);
  assert.equal(await page.locator('#log .bad').count(), 0);
});

test('a server with default settings selects the first subprotocol', async (page) => {
  await page.fill('#protocols', 'chat, other');
  await page.click('#open');
  await lines(page, 'note', /open ws:.*, subprotocol chat$/);
  await sendText(page, 'hello');
  await lines(page, 'in', /hello/);
});

test('names that are no subprotocols are reported and leave the WebSocket open', async (page) => {
  await connect(page, '/echo');
  for (const [names, wrong] of [['a/b', 'a/b'], ['chat, grün', 'grün'], ['a b a', 'a'], ['one;two', 'one;two'], ['"q"', '"q"'], ['ok \u0001', '\u0001']]) {
    await page.evaluate(() => { document.getElementById('options').open = false; });
    await page.evaluate((names) => { document.getElementById('protocols').value = names; }, names);
    await page.click('#open');
    const said = await page.textContent('#said');
    assert.ok(said.startsWith(`"${wrong}" is no subprotocol or is repeated.`), said);
    assert.equal(await page.evaluate(() => document.activeElement.id), 'protocols');
  }
  await sendText(page, 'still here');
  await lines(page, 'in', /still here/);
  assert.equal(await page.locator('#log .note').count(), 1);
});

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
}, { expected: NO_CONNECTION });

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
}, { expected: NO_CONNECTION });

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
  await shows(page, '#dropped', /^901 earlier lines were dropped: the log retains 500 lines and 32\.0 MiB$/);
  assert.ok(await page.isVisible('#dropped'));
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
  await shows(page, '#dropped', /^$/);
});

test('the log retains at most 32 MiB of messages, and always the newest', async (page) => {
  await connect(page, '/echo');
  const fills = (count) => page.evaluate((count) => { for (let n = 0; n < count; n++) send(`${n} ${'x'.repeat(1 << 20)}`); }, count);
  await fills(20);
  await lines(page, 'in', /19 xxx/);
  await shows(page, '#dropped', /^10 earlier lines were dropped/);
  assert.equal(await page.locator('#log li').count(), 31);
  await page.click('#clear');
  await page.evaluate(() => addRow('in', 'received', 40 << 20, 'y'.repeat(40 << 20)));
  await lines(page, 'in', /40\.0 MiB\s*yyy/);
  await fills(1);
  await lines(page, 'in', /0 xxx/);
  assert.equal(await page.locator('#log li', { hasText: 'yyy' }).count(), 0);
});

for (const [size, options] of [['390x844', TALL_PHONE], ['360x740', PHONE]]) {
  test(`on a phone of ${size} the newest message and the text field are in view, and targets are large`, async (page) => {
    await connect(page, '/echo');
    // With the full stop, "message 1" is not taken for it if its round trip, which follows the text, took 9 ms.
    for (let n = 0; n < 20; n++) await sendText(page, `message ${n}.`);
    const newest = (await lines(page, 'in', /message 19\./)).first();
    await page.evaluate(() => scrollTo(0, 0));
    const { height } = page.viewportSize();
    const log = await page.locator('#log').boundingBox();
    const row = await newest.boundingBox();
    assert.ok(row.y >= log.y && row.y + row.height <= log.y + log.height && log.y + log.height <= height, JSON.stringify({ row, log }));
    const button = await page.locator('#send').boundingBox();
    assert.ok(button.y >= log.y + log.height && button.y + button.height <= height, JSON.stringify(button));
    // The end of the log remains in view when the log becomes smaller.
    await page.setViewportSize({ width: 390, height: 700 });
    await eventually(page, async () => {
      const [log, row] = [await page.locator('#log').boundingBox(), await newest.boundingBox()];
      return row.y + row.height <= log.y + log.height;
    }, () => 'the newest line is below the end of the log');
    await sendText(page, 'x'.repeat(400));
    await lines(page, 'in', /Show 80 more/);
    await page.click('summary');
    const small = await page.evaluate(() => [...document.querySelectorAll('button, .button, input:not([type]), textarea, summary, label:has([type=checkbox]), a')]
      .map((one) => [one.id || one.textContent, one.getBoundingClientRect().height]).filter(([, height]) => height < 44));
    assert.deepEqual(small, []);
  }, { options });
}

test('the corners of the log are round, also beside a scrollbar', async (page) => {
  const clipped = await page.locator('#messages').evaluate((one) => [getComputedStyle(one).overflow, getComputedStyle(one).borderRadius]);
  assert.deepEqual(clipped, ['hidden', '12px']);
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
  const expected = ['open', 'again', 'protocols', 'text', 'send', 'file', 'show', 'save', 'clear', 'log', 'auto', 'ping', 'code', 'reason', 'close'];
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
}, { options: { reducedMotion: 'reduce' }, skip: IS_FIREFOX && 'playwright cannot emulate the preference in Firefox' });

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
    const file = path.join(SCREENSHOTS, `${IS_FIREFOX ? 'firefox-' : ''}${name}.png`);
    await page.screenshot({ path: file, fullPage: options.viewport !== undefined });
    // For a screenshot in Firefox, playwright adds an inline style, which the policy refuses.
  }, { options, expected: IS_FIREFOX ? /inline style/ : undefined });
}

/** Starts the server of `testSelecting`, with the page of `server`. */
async function selecting(t, server, select) {
  let upgrades = 0;
  const relay = createServer(async (_, response) => {
    const page = await fetch(server.http());
    for (const name of ['content-type', 'content-security-policy']) response.setHeader(name, page.headers.get(name));
    response.end(await page.text());
  });
  relay.on('upgrade', ({ headers }, socket) => {
    upgrades++;
    socket.on('error', () => {});
    const key = createHash('sha1').update(`${headers['sec-websocket-key']}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`).digest('base64');
    const head = ['HTTP/1.1 101 Switching Protocols', 'Upgrade: websocket', 'Connection: Upgrade', `Sec-WebSocket-Accept: ${key}`];
    const selected = headers['sec-websocket-protocol'] && select(headers['sec-websocket-protocol']);
    if (selected) head.push(`Sec-WebSocket-Protocol: ${selected}`);
    socket.write(`${head.join('\r\n')}\r\n\r\n`);
  });
  await new Promise((resolve) => relay.listen(0, '127.0.0.1', resolve));
  t.after(() => {
    relay.close();
    relay.closeAllConnections();
  });
  return { url: `http://127.0.0.1:${relay.address().port}/`, upgrades: () => upgrades };
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
