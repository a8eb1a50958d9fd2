// A headless Chromium, the page in it, and a watch over what the page does: whatever it logs as an error, asks of
// another host or does against its policy fails the test that opened it.

import assert from 'node:assert/strict';
import { after } from 'node:test';
import { chromium } from 'playwright-core';

/** Gives `body` a profile of its own with a page in one tab; `expected` matches what the browser itself logs as an
 * error and the test provokes, `options` are those of a playwright context. */
export async function visit(url, { expected, options }, body) {
  const context = await chrome.newContext({ viewport: { width: 1280, height: 800 }, ...options });
  context.setDefaultTimeout(WAIT_MS_MAX);
  const wrongs = [];
  context.on('page', (page) => watch(page, new URL(url).host, expected ?? /^\b$/, wrongs));
  try {
    const page = await context.newPage();
    assert.equal((await page.goto(url)).status(), 200);
    await body(page, context);
  } finally {
    await context.close();
  }
  assert.deepEqual(wrongs, []);
}

function watch(page, host, expected, wrongs) {
  page.on('console', (message) => {
    const isWrong = ['error', 'warning'].includes(message.type()) && !expected.test(message.text());
    if (isWrong) wrongs.push(`the console has: ${message.text()} (${message.location().url})`);
  });
  page.on('pageerror', (error) => wrongs.push(`nobody caught: ${error}`));
  page.on('request', (request) => {
    const { host: asked, protocol } = new URL(request.url());
    if (protocol !== 'data:' && asked !== host) wrongs.push(`a request to ${request.url()}`);
  });
  page.on('websocket', (socket) => {
    if (new URL(socket.url()).host !== host) wrongs.push(`a WebSocket to ${socket.url()}`);
  });
}

/** Waits until the text of `selector` matches. */
export async function shows(page, selector, pattern) {
  const text = () => page.locator(selector).first().textContent();
  await eventually(page, async () => pattern.test(await text()), async () => `${selector} is "${await text()}", not ${pattern}`);
}

/** Waits until readyState is shown as `name`. */
export const state = (page, name) => shows(page, '#rail [aria-current]', new RegExp(`^${name}$`));

/** Waits until the log has `count` lines with all classes of `kind` and a text that matches; gives those it has. */
export async function lines(page, kind, pattern, count = 1) {
  const found = page.locator(`#log > .${kind.replace(' ', '.')}`).filter({ hasText: pattern });
  const wrong = async () => `the log has not ${count} "${kind}" with ${pattern}:\n${await page.locator('#log').innerText()}`;
  await eventually(page, async () => (await found.count()) >= count, wrong);
  return found;
}

/** Connects by the form. */
export async function connect(page, path) {
  await page.fill('#path', path);
  await page.click('#open');
  await state(page, 'OPEN');
}

/** Sends a text as people do. */
export async function say(page, text) {
  await page.fill('#text', text);
  await page.press('#text', 'Enter');
}

export async function eventually(page, isSo, wrong) {
  for (const end = Date.now() + WAIT_MS_MAX; !(await isSo()); await page.waitForTimeout(20)) {
    if (Date.now() > end) assert.fail(await wrong());
  }
}

const START_MS_MAX = 30_000;
const WAIT_MS_MAX = 8_000;

const CHROMIUM = process.env.CHROMIUM;
assert.ok(CHROMIUM, 'CHROMIUM must name the browser; tests/browser/run sets it');

// As root there is no sandbox. The rest keeps the browser from calling anybody by itself.
const FLAGS = [
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
];

const chrome = await chromium.launch({
  executablePath: CHROMIUM,
  args: FLAGS,
  chromiumSandbox: false,
  timeout: START_MS_MAX,
});
after(() => chrome.close());
