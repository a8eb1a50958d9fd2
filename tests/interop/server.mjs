// The server under test as a process: started, watched, stopped.
//
// `serve` starts a server and waits for its announce lines; `launch` starts any other command line. Both tie the
// process to the test that started it: it is ended by its own pid when the test ends, however it ends. `test` is
// node's, with a timeout. Nothing here knows WebSocket; that is client.mjs.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { test as nodeTest } from 'node:test';

/** One test, a sentence, bounded in time. */
export function test(sentence, body) {
  nodeTest(sentence, { timeout: TEST_MS_MAX }, async (t) => {
    // Node's own timer does not keep the process alive: a test that waits for a peer which is gone would end the
    // whole file early, and the tests after it would be cancelled instead of run.
    const alive = setTimeout(() => {}, TEST_MS_MAX + 1000);
    try {
      await body(t);
    } finally {
      clearTimeout(alive);
    }
  });
}

/** Starts `wsloop ...args` and waits until every listener is announced. `-l 127.0.0.1:0` unless args name others. */
export async function serve(t, args, { env, listeners = 1 } = {}) {
  const command = args.includes('-l') ? args : [...args, '-l', '127.0.0.1:0'];
  return Server.announced(launch(t, command, { env }), listeners);
}

/** Starts `wsloop ...args`. `ended` is `{ code, signal, stdout, stderr }`, the last two as lists of lines. */
export function launch(t, args, { env } = {}) {
  const process_ = new Process(args, env);
  t.after(() => process_.kill());
  return process_;
}

class Process {
  constructor(args, env) {
    // The log level is each test's own business, not that of the shell which the tests run in.
    const { RUST_LOG, ...inherited } = process.env;
    this.child = spawn(PROGRAM, args, { stdio: ['ignore', 'pipe', 'pipe'], env: { ...inherited, ...env } });
    running.add(this.child);
    this.child.once('exit', () => running.delete(this.child));
    this.stdout = new Lines(this.child.stdout);
    this.stderr = new Lines(this.child.stderr);
    this.ended = once(this.child, 'close').then(([code, signal]) => {
      return { code, signal, stdout: this.stdout.all, stderr: this.stderr.all };
    });
    this.ended.catch(() => {}); // whoever awaits it sees the error
  }

  signal(name) {
    assert.ok(this.child.kill(name), `the server has ended before it could get ${name}`);
  }

  async kill() {
    this.child.kill('SIGKILL');
    await this.ended;
  }
}

class Server {
  /** Reads the announce lines: what they say is all that the tests know about where the server is. */
  static async announced(process_, listeners) {
    const lines = await Promise.race([
      process_.stdout.matching(/./, listeners),
      process_.ended.then(({ code, stderr }) => {
        throw new Error(`the server exited with ${code} before it announced itself: ${stderr.join('\n')}`);
      }),
    ]);
    const urls = lines.map((line) => {
      const [, url] = line.match(/^listening on (ws:\/\/\S+:\d+\/)$/) ?? assert.fail(`an odd announce line: ${line}`);
      return url;
    });
    return Object.assign(new Server(), { process: process_, log: process_.stderr, urls });
  }

  /** The ws:// URL of a path on the first listener. */
  ws(path = '/') {
    return new URL(path, this.urls[0]).href;
  }

  /** The http:// URL of a path on the first listener. */
  http(path = '/') {
    return this.ws(path).replace(/^ws:/, 'http:');
  }

  /** Sends a signal and waits for the end. */
  async stop(signal = 'SIGTERM') {
    this.process.signal(signal);
    return this.process.ended;
  }
}

/** The lines that a stream has given so far, and those yet to come. */
class Lines {
  all = [];
  #ended = false;
  #check = () => {};

  constructor(stream) {
    createInterface({ input: stream })
      .on('line', (line) => {
        this.all.push(line);
        this.#check();
      })
      .on('close', () => {
        this.#ended = true;
        this.#check();
      });
  }

  /** The first `count` lines that match, as soon as there are so many. One caller at a time. */
  matching(pattern, count = 1) {
    return new Promise((resolve, reject) => {
      this.#check = () => {
        const lines = this.all.filter((line) => pattern.test(line));
        if (lines.length >= count) resolve(lines.slice(0, count));
        else if (this.#ended) reject(new Error(`${lines.length} of ${count} lines matched ${pattern}: ${this.all.join('\n')}`));
      };
      this.#check();
    });
  }
}

const TEST_MS_MAX = 10_000;

const PROGRAM = process.env.WSLOOP;
assert.ok(PROGRAM, 'WSLOOP must name the server binary; tests/interop/run sets it');

// A test that ends kills its own processes. This is for a test file that is told to end before its tests have.
const running = new Set();
process.on('exit', () => running.forEach((child) => child.kill('SIGKILL')));
for (const signal of ['SIGHUP', 'SIGINT', 'SIGTERM']) process.once(signal, () => process.exit(1));
