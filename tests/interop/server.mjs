// Runs the server under test as a process and reads what it prints.
//
// `serve` starts a server and waits until it announces its addresses; `launch` starts any other command line. Both
// kill their process when the test ends, also if the test fails. `test` is node's `test` with a timeout. WebSocket
// clients are in client.mjs.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { test as nodeTest } from 'node:test';

/** Defines a test that fails after 10 s. */
export function test(sentence, body) {
  nodeTest(sentence, { timeout: TEST_MS_MAX }, async (t) => {
    // The timer of node's test runner does not prevent node from exiting: a test that waits for an ended connection
    // would end the process, and the remaining tests of the file would be cancelled. This timer prevents it.
    const alive = setTimeout(() => {}, TEST_MS_MAX + 1000);
    try {
      await body(t);
    } finally {
      clearTimeout(alive);
    }
  });
}

/** Starts `wsloop ...args` and waits until every listener is announced. Adds `-l 127.0.0.1:0` if args have no `-l`. */
export async function serve(t, args, { env, listeners = 1 } = {}) {
  const command = args.includes('-l') ? args : [...args, '-l', '127.0.0.1:0'];
  return Server.announced(launch(t, command, { env }), listeners);
}

/** Starts the example program `name`, and waits until it announces its listener. */
export async function example(t, name, ...args) {
  const directory = process.env.EXAMPLES_DIR;
  assert.ok(directory, 'the variable EXAMPLES_DIR must be the directory of the example programs; tests/interop/run sets it');
  const process_ = new Process(args, {}, `${directory}/${name}`);
  t.after(() => process_.kill());
  return Server.announced(process_, 1);
}

/** Starts `wsloop ...args`. Its `ended` resolves to `{ code, signal, stdout, stderr }`, the last two as arrays of lines. */
export function launch(t, args, { env } = {}) {
  const process_ = new Process(args, env);
  t.after(() => process_.kill());
  return process_;
}

class Process {
  constructor(args, env, program = PROGRAM) {
    // Each test sets its own log level, so RUST_LOG is not inherited from the caller's environment.
    const { RUST_LOG, ...inherited } = process.env;
    this.child = spawn(program, args, { stdio: ['ignore', 'pipe', 'pipe'], env: { ...inherited, ...env } });
    running.add(this.child);
    this.child.once('exit', () => running.delete(this.child));
    this.stdout = new Lines(this.child.stdout);
    this.stderr = new Lines(this.child.stderr);
    this.ended = once(this.child, 'close').then(([code, signal]) => {
      return { code, signal, stdout: this.stdout.all, stderr: this.stderr.all };
    });
    this.ended.catch(() => {}); // prevents an unhandled rejection; a test that awaits `ended` still gets the error
  }

  signal(name) {
    assert.ok(this.child.kill(name), `the server ended before ${name} was sent`);
  }

  async kill() {
    this.child.kill('SIGKILL');
    await this.ended;
  }
}

class Server {
  /** Reads the lines that announce the listeners. The tests take the server's addresses from these lines only. */
  static async announced(process_, listeners) {
    const lines = await Promise.race([
      process_.stdout.matching(/./, listeners),
      process_.ended.then(({ code, stderr }) => {
        throw new Error(`the server exited with ${code} before it announced its addresses: ${stderr.join('\n')}`);
      }),
    ]);
    const urls = lines.map((line) => {
      const [, url] = line.match(/^listening on (wss?:\/\/\S+:\d+\/\S*)$/) ?? assert.fail(`not an announcement of a listener: ${line}`);
      return url;
    });
    return Object.assign(new Server(), { process: process_, log: process_.stderr, urls });
  }

  /** Returns the ws:// or wss:// URL of a path on the first listener. */
  ws(path = '/') {
    return new URL(path, this.urls[0]).href;
  }

  /** Returns the http:// or https:// URL of a path on the first listener. */
  http(path = '/') {
    return this.ws(path).replace(/^ws/, 'http');
  }

  /** Sends a signal and waits for the end of the process. */
  async stop(signal = 'SIGTERM') {
    this.process.signal(signal);
    return this.process.ended;
  }
}

/** The lines of a stream: `all` has those read so far, `matching` waits for more. */
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

  /** Waits until `count` lines match, and returns the first `count` of them. Only one call may wait at a time. */
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
assert.ok(PROGRAM, 'the variable WSLOOP must be the path of the server binary; tests/interop/run sets it');

// Each test kills its own processes. This handler kills the others if a signal ends the test file early.
const running = new Set();
process.on('exit', () => running.forEach((child) => child.kill('SIGKILL')));
for (const signal of ['SIGHUP', 'SIGINT', 'SIGTERM']) process.once(signal, () => process.exit(1));
