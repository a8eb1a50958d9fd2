// Runs the built-in page in a headless Chromium or Firefox and watches it: a test fails if its page logs an error or a warning,
// throws an uncaught error, sends a request to another host, or violates its content security policy.

import assert from 'node:assert/strict';
import { after } from 'node:test';
import { chromium, firefox } from 'playwright-core';

/** Whether the browser is Firefox. The default is Chromium. */
export const IS_FIREFOX = process.env.BROWSER === 'firefox';

/** Opens `url` in one tab of a new browser profile and calls `body` with the page and its playwright context. `expected`
 * matches the errors that the test provokes and the browser logs. `options` are those of a playwright context. */
export async function visit(url, { expected, options }, body) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 800 }, ...options });
  context.setDefaultTimeout(WAIT_MS_MAX);
  const problems = [];
  context.on('page', (page) => watch(page, new URL(url).host, expected ?? MATCHES_NOTHING, problems));
  try {
    const page = await context.newPage();
    assert.equal((await page.goto(url)).status(), 200);
    await body(page, context);
  } finally {
    await context.close();
  }
  assert.deepEqual(problems, []);
}

function watch(page, host, expected, problems) {
  page.on('console', (message) => {
    const isUnexpected = ['error', 'warning'].includes(message.type()) && !expected.test(message.text());
    if (isUnexpected) problems.push(`logged to the console: ${message.text()} (${message.location().url})`);
  });
  page.on('pageerror', (error) => {
    if (!expected.test(String(error))) problems.push(`uncaught: ${error}`);
  });
  page.on('request', (request) => {
    const { host: requested, protocol } = new URL(request.url());
    if (protocol !== 'data:' && requested !== host) problems.push(`a request to ${request.url()}`);
  });
  page.on('websocket', (socket) => {
    if (new URL(socket.url()).host !== host) problems.push(`a WebSocket to ${socket.url()}`);
  });
}

/** Waits until the text of `selector` matches. */
export async function shows(page, selector, pattern) {
  const text = () => page.locator(selector).first().textContent();
  await eventually(page, async () => pattern.test(await text()), async () => `${selector} is "${await text()}", not ${pattern}`);
}

/** Waits until the page shows the readyState `name`: the list `#rail` has all states and marks the current one. */
export const state = (page, name) => shows(page, '#rail [aria-current]', new RegExp(`^${name}$`));

/** Waits until the log has `count` lines with all classes of `kind` and a text that matches. Returns their locator. */
export async function lines(page, kind, pattern, count = 1) {
  const found = page.locator(`#log > .${kind.replace(' ', '.')}`).filter({ hasText: pattern });
  const message = async () => `the log has fewer than ${count} "${kind}" lines with ${pattern}:\n${await page.locator('#log').innerText()}`;
  await eventually(page, async () => (await found.count()) >= count, message);
  return found;
}

/** Enters a path, clicks Connect, and waits until the WebSocket is open. */
export async function connect(page, path) {
  await page.fill('#path', path);
  await page.click('#open');
  await state(page, 'OPEN');
}

/** Enters a text and sends it with the Enter key. */
export async function sendText(page, text) {
  await page.fill('#text', text);
  await page.press('#text', 'Enter');
}

/** Polls a condition until it holds. Fails with `message` after 8 s. */
export async function eventually(page, isDone, message) {
  for (const end = Date.now() + WAIT_MS_MAX; !(await isDone()); await page.waitForTimeout(20)) {
    if (Date.now() > end) assert.fail(await message());
  }
}

/** The default of `expected`. */
const MATCHES_NOTHING = /^\b$/;

const START_MS_MAX = 30_000;
const WAIT_MS_MAX = 8_000;

const program = process.env[IS_FIREFOX ? 'FIREFOX' : 'CHROMIUM'];
assert.ok(program, 'the variable CHROMIUM or FIREFOX must be the path of the browser; tests/browser/run sets it');

// Chromium cannot use its sandbox as root. The other flags disable network requests by the browser itself.
const FLAGS = [
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
];

const browser = await (IS_FIREFOX
  // This channel is a Firefox as it is released, without playwright's patches.
  ? firefox.launch({ channel: 'moz-firefox', executablePath: program, timeout: START_MS_MAX })
  : chromium.launch({ executablePath: program, args: FLAGS, chromiumSandbox: false, timeout: START_MS_MAX }));
after(() => browser.close());
