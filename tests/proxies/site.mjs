// Runs a recipe of src/guide/recipes: the server with the command line in the recipe's head comment, and the real proxy
// with the recipe's file. Of both, only ports, paths and users are replaced. A replacement that matches nothing is an
// error, so a recipe cannot change without its test.

import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import https from 'node:https';
import net from 'node:net';
import { createInterface } from 'node:readline';
import { test as nodeTest } from 'node:test';
import tls from 'node:tls';
import { connect, open } from '../interop/client.mjs';

/** The proxies: the file of the recipe, and how to run the program with a file. */
export const PROXIES = {
  nginx: {
    file: 'nginx.conf',
    listens: 'listen 443 ssl;',
    configure(recipe, directory) {
      const main = `user www-data; worker_processes 1; pid ${directory}/nginx.pid; error_log stderr warn;
        events {}
        http { access_log off; client_body_temp_path ${directory}/body; proxy_temp_path ${directory}/proxy;
          fastcgi_temp_path ${directory}/fastcgi; scgi_temp_path ${directory}/scgi; uwsgi_temp_path ${directory}/uwsgi;
          include ${directory}/recipe; }`;
      return { recipe, main };
    },
    command: (directory) => ['nginx', '-p', directory, '-e', 'stderr', '-c', `${directory}/main`, '-g', 'daemon off;'],
  },
  HAProxy: {
    file: 'haproxy.cfg',
    listens: 'bind :443 ssl',
    configure: (recipe) => ({ recipe }),
    command: (directory) => ['haproxy', '-db', '-f', `${directory}/recipe`],
  },
  'HAProxy in TCP mode': {
    file: 'haproxy-tcp.cfg',
    listens: 'bind :443 ssl',
    tcp: true,
    configure: (recipe) => ({ recipe }),
    command: (directory) => ['haproxy', '-db', '-f', `${directory}/recipe`],
  },
  Caddy: {
    file: 'Caddyfile',
    listens: 'example.org {',
    user: 'caddy',
    configure(recipe, directory, free) {
      return { recipe, main: `{\n admin off\n http_port ${free}\n}\nimport ${directory}/recipe\n` };
    },
    command: (directory) => ['caddy', 'run', '--adapter', 'caddyfile', '--config', `${directory}/main`],
  },
  Apache: {
    file: 'apache.conf',
    listens: '<VirtualHost *:443>',
    // The modules are those that the recipe enables, those that `a2enmod` adds to them, and some of Debian's defaults.
    configure(recipe, directory) {
      const [, enabled] = recipe.match(/^# +a2enmod (.+)$/m) ?? assert.fail('apache.conf has no line with a2enmod');
      const others = ['mpm_event', 'authz_core', 'mime', 'setenvif', 'slotmem_shm', 'socache_shmcb'];
      const modules = [...others, ...enabled.split(' ')];
      const [, port] = recipe.match(/<VirtualHost \*:(\d+)>/);
      const lines = modules.map((name) => `LoadModule ${name}_module /usr/lib/apache2/modules/mod_${name}.so`);
      const main = `ServerName localhost\nUser www-data\nGroup www-data\nPidFile ${directory}/pid\nErrorLog "|/bin/cat"
        DefaultRuntimeDir ${directory}\nMutex file:${directory}\nTypesConfig /dev/null\nListen ${port}
        ${lines.join('\n')}\nInclude ${directory}/recipe\n`;
      return { recipe, main };
    },
    command: (directory) => ['apache2', '-DFOREGROUND', '-d', directory, '-f', `${directory}/main`],
  },
};

/** A proxy with one or two servers behind it. */
export class Site {
  workers = [];

  /**
   * Starts the proxy and its servers, and waits until the proxy has connected a client to each of them.
   *
   * `unix`: the variant with a Unix socket; `count`: the number of servers; `args`: further arguments of the server;
   * `edit`: replaces further parts of the recipe; `group`: group of the socket's directory if not that of the recipe.
   */
  static async start(t, name, { unix = false, count = 1, args = [], edit = (text) => text, group, ready = true } = {}) {
    const site = new Site(t, name, { unix, args, group });
    for (let index = 0; index < count; index++) await site.startWorker(index);
    await site.#startProxy(edit, count);
    if (ready) await site.works(count);
    return site;
  }

  constructor(t, name, { unix, args, group }) {
    this.t = t;
    this.name = name;
    this.proxy = PROXIES[name];
    this.unix = unix;
    this.args = args;
    this.directory = mkdtempSync(`${SCRATCH}/site-`);
    chmodSync(this.directory, 0o755);
    [this.port, this.free, ...this.ports] = takePorts(4);
    this.text = readFileSync(new URL(this.proxy.file, RECIPES), 'utf8');
    const joined = this.text.replaceAll(/ \\\n# +/g, ' ');
    const commands = [...joined.matchAll(/^# +(wsloop serve .+)$/gm)].map(([, line]) => line.split(' '));
    assert.equal(commands.length, 2, `${this.proxy.file} must name two command lines, for TCP and for a Unix socket`);
    this.command = commands[unix ? 1 : 0];
    assert.equal(this.command.join(' ').includes(SOCKET), unix, this.command.join(' '));
    if (unix) this.#installDirectory(group);
  }

  /** Runs the recipe's `install -d` with another path, and the user that the server has in these tests. */
  #installDirectory(group) {
    const [, line] = this.text.match(/^# +(install -d .+)$/m) ?? assert.fail(`${this.proxy.file} creates no directory`);
    const here = replaced(line, SOCKET_DIRECTORY, this.#socketDirectory);
    const words = replaced(here, '-o wsloop', `-o ${SERVER_USER}`).split(' ');
    if (group) words[words.indexOf('-g') + 1] = group;
    execFileSync(words[0], words.slice(1));
  }

  get #socketDirectory() {
    return `${this.directory}/wsloop`;
  }

  /** Starts the server `index` with the command line of the recipe. */
  async startWorker(index) {
    let command = this.command.join(' ');
    if (this.unix) command = replaced(command, SOCKET_DIRECTORY, this.#socketDirectory);
    else command = replaced(command, '9700', this.ports[index]);
    const [, ...args] = command.split(' ');
    const worker = new Process(this.t, [`${SCRATCH}/wsloop`, ...args, ...this.args], SERVER_USER);
    this.workers[index] = worker;
    await worker.line('stdout', /^listening on /);
  }

  async #startProxy(edit, count) {
    let text = replaced(this.text, /\/etc\/\S+?\/(?:fullchain|example\.org)\.pem/, `${SCRATCH}/both.pem`);
    if (text.includes('privkey.pem')) text = replaced(text, /\/etc\/\S+\/privkey\.pem/, `${SCRATCH}/key.pem`);
    const { listens } = this.proxy;
    // Caddy's site has no port.
    const [from, to] = listens.includes('443') ? ['443', this.port] : [' {', `:${this.port} {`];
    text = replaced(text, listens, listens.replace(from, to));
    const upstream = (address) => new RegExp(`^(\\s*)(#?)(\\w.*${address}.*)$`, 'm');
    const [one, two, socket] = ['127\\.0\\.0\\.1:9700', '127\\.0\\.0\\.1:9701', SOCKET].map(upstream);
    if (count === 2) text = replaced(text, two, '$1$3');
    if (this.unix) text = replaced(replaced(text, one, '$1#$3'), socket, '$1$3');
    text = replaced(text, SOCKET_DIRECTORY, this.#socketDirectory);
    text = replaced(text, '9700', this.ports[0]);
    text = replaced(text, '9701', this.ports[1]);
    const files = this.proxy.configure(edit(text), this.directory, this.free);
    for (const [file, content] of Object.entries(files)) writeFileSync(`${this.directory}/${file}`, content);
    if (this.proxy.user) {
      mkdirSync(`${this.directory}/home`);
      execFileSync('chown', [this.proxy.user, `${this.directory}/home`]);
    }
    const home = `${this.directory}/home`;
    const env = { HOME: home, XDG_DATA_HOME: home, XDG_CONFIG_HOME: home };
    this.process = new Process(this.t, this.proxy.command(this.directory), this.proxy.user, env);
    await this.eventually('listens', async () => {
      const socket = net.connect(this.port, '127.0.0.1');
      try {
        await once(socket, 'connect');
      } finally {
        socket.destroy();
      }
    });
  }

  /** Waits until new clients reach `count` servers through the proxy. */
  async works(count = 1) {
    const reached = new Set();
    await this.eventually(`reaches ${count} servers`, async () => {
      const { client, worker } = await this.locate('/echo');
      reached.add(worker);
      client.ws.terminate();
      assert.ok(reached.size >= count);
    });
  }

  /** Repeats `check` until it does not throw, for at most 15 s. */
  async eventually(what, check) {
    const end = performance.now() + 15_000;
    for (;;) {
      try {
        return await check();
      } catch (error) {
        if (performance.now() > end || this.process.code !== undefined) {
          const lines = ({ stdout, stderr }) => [...stdout.slice(-20), ...stderr.slice(-20)].join('\n');
          const logs = [this.process, ...this.workers].map(lines).join('\n--\n');
          throw new Error(`not within 15 s: ${this.name} ${what}\n${logs}`, { cause: error });
        }
        await new Promise((resolve) => setTimeout(resolve, 50));
      }
    }
  }

  /** Options of a client of node that resolves example.org to the proxy and checks its certificate. */
  options(others = {}) {
    const one = { address: '127.0.0.1', family: 4 };
    const lookup = (_, { all }, done) => (all ? done(null, [one]) : done(null, one.address, one.family));
    return { ca: CERTIFICATE, lookup, servername: 'example.org', ...others };
  }

  url(path) {
    return `wss://example.org:${this.port}${path}`;
  }

  /** Connects a WebSocket client through the proxy, with TLS, and waits until it is open. */
  open(path, { protocols = [], ...others } = {}) {
    return open(this.t, this.url(path), protocols, this.options(others));
  }

  /** Connects a client that the server is expected to refuse. Returns the status of the response. */
  async refused(path, others) {
    const client = connect(this.t, this.url(path), [], this.options(others));
    const [, response] = await Promise.race([
      once(client.ws, 'unexpected-response'),
      client.opened.then(() => assert.fail('the client was not refused')),
    ]);
    client.ws.terminate();
    return response.statusCode;
  }

  /** Connects a client and finds the server that it has reached, by the server's log. */
  async locate(path) {
    const lines = (worker) => worker.stderr.filter((line) => line.includes(' connected, path')).length;
    const before = this.workers.map(lines);
    const client = await this.open(path);
    await echo(client, 'which?');
    let worker = -1;
    for (let tries = 0; worker < 0 && tries < 200; tries++) {
      worker = this.workers.findIndex((one, index) => lines(one) > (before[index] ?? 0));
      if (worker < 0) await new Promise((resolve) => setTimeout(resolve, 5));
    }
    assert.ok(worker >= 0, 'no server has logged the connection');
    return { client, worker };
  }

  /** Sends a GET through the proxy. Returns `{ status, headers, body }`. */
  get(path, headers = {}) {
    return new Promise((resolve, reject) => {
      const outgoing = https.request(this.url(path).replace('wss:', 'https:'), this.options({ headers, agent: false }));
      outgoing.on('error', reject);
      outgoing.on('response', async (incoming) => {
        const body = Buffer.concat(await incoming.toArray()).toString();
        resolve({ status: incoming.statusCode, headers: incoming.headers, body });
      });
      outgoing.end();
    });
  }

  /** Sends bytes over TLS and returns what arrives until the end, which the request must demand. */
  async exchange(bytes) {
    const socket = tls.connect({ port: this.port, ...this.options() });
    this.t.after(() => socket.destroy());
    await once(socket, 'secureConnect');
    socket.write(bytes);
    const chunks = [];
    socket.on('data', (chunk) => chunks.push(chunk));
    await once(socket, 'close');
    return Buffer.concat(chunks).toString();
  }
}

/** Sends a message to an echo server and checks the answer. */
export async function echo(client, data) {
  client.ws.send(data);
  const answer = await client.message();
  const isBinary = typeof data !== 'string';
  assert.equal(answer.isBinary, isBinary);
  assert.ok(answer.data.equals(Buffer.from(data)), `sent ${data.length} bytes, received other ${answer.data.length} bytes`);
}

/** Replaces every occurrence. Fails if there is none. */
export function replaced(text, from, to) {
  const result = text.replaceAll(from instanceof RegExp ? new RegExp(from, `g${from.flags}`) : from, to);
  assert.notEqual(result, text, `nothing to replace: ${from}`);
  return result;
}

/** A process that ends with its test: first with SIGTERM, because nginx and Apache must end their own children. */
class Process {
  stdout = [];
  stderr = [];
  #changed = () => {};

  constructor(t, [program, ...args], user, env = {}) {
    // The caller's RUST_LOG and WSLOOP_* would change what the server does.
    const inherited = Object.entries(process.env).filter(([name]) => !/^(RUST_LOG|WSLOOP.*)$/.test(name));
    const ids = user ? { uid: idOf('-u', user), gid: idOf('-g', user) } : {};
    const options = { ...ids, stdio: ['ignore', 'pipe', 'pipe'], env: { ...Object.fromEntries(inherited), ...env } };
    this.child = spawn(program, args, options);
    running.add(this.child);
    for (const stream of ['stdout', 'stderr']) {
      createInterface({ input: this.child[stream] }).on('line', (line) => {
        this[stream].push(line);
        this.#changed();
      });
    }
    this.ended = new Promise((resolve) => {
      this.child.once('error', (error) => this.stderr.push(String(error)));
      this.child.once('close', (code, signal) => {
        running.delete(this.child);
        this.code = code ?? signal;
        this.#changed();
        resolve(this.code);
      });
    });
    t.after(() => this.stop());
  }

  signal(name) {
    assert.ok(this.child.kill(name), `the process ended before ${name} was sent`);
  }

  async stop() {
    this.child.kill('SIGTERM');
    // Apache kills a child that does not end within 9 s. If Apache were killed before, the child would not end.
    const late = setTimeout(() => this.child.kill('SIGKILL'), 12_000);
    await this.ended;
    clearTimeout(late);
  }

  /** Waits for a line of a stream that matches. */
  line(stream, pattern) {
    return new Promise((resolve, reject) => {
      const fail = (what) => {
        reject(new Error(`${what}: no line matched ${pattern}: ${[...this.stdout, ...this.stderr].join('\n')}`));
      };
      const late = setTimeout(fail, 10_000, '10 s');
      this.#changed = () => {
        const line = this[stream].find((one) => pattern.test(one));
        if (line === undefined && this.code === undefined) return;
        clearTimeout(late);
        this.#changed = () => {};
        if (line !== undefined) resolve(line);
        else fail(`ended with ${this.code}`);
      };
      this.#changed();
    });
  }
}

/** Defines a test with a timeout in seconds. */
export function test(sentence, body, seconds = 40) {
  nodeTest(sentence, { timeout: seconds * 1000 }, async (t) => {
    // The timer of node's test runner does not prevent node from exiting while a test waits.
    const alive = setTimeout(() => {}, seconds * 1000 + 1000);
    try {
      await body(t);
    } finally {
      clearTimeout(alive);
    }
  });
}

function idOf(flag, user) {
  return Number(execFileSync('id', [flag, user]));
}

/**
 * Returns ports that no process has. They are below the range that Linux chooses for outgoing connections, and differ
 * between the test files, which run at the same time.
 */
function takePorts(count) {
  return Array.from({ length: count }, () => {
    for (;;) {
      const port = nextPort++;
      const hex = `:${port.toString(16).toUpperCase().padStart(4, '0')} `;
      if (!['tcp', 'tcp6'].some((table) => readFileSync(`/proc/net/${table}`, 'latin1').includes(hex))) return port;
    }
  });
}
let nextPort = 12_000 + (process.pid % 40) * 200 + (process.argv[1].endsWith('idle.test.mjs') ? 10_000 : 0);

/** The user of the server in the tests: one without rights, and not the user of a proxy. */
const SERVER_USER = 'daemon';
const SOCKET_DIRECTORY = '/run/wsloop';
const SOCKET = `${SOCKET_DIRECTORY}/wsloop.sock`;
const RECIPES = new URL('../../src/guide/recipes/', import.meta.url);
const SCRATCH = process.env.SCRATCH;
assert.ok(SCRATCH, 'the variable SCRATCH must be the directory that tests/proxies/run has prepared');
const CERTIFICATE = readFileSync(`${SCRATCH}/certificate.pem`);

// Each test ends its own processes. This handler ends the others if a signal ends the test file early.
const running = new Set();
process.on('exit', () => running.forEach((child) => child.kill('SIGTERM')));
for (const signal of ['SIGHUP', 'SIGINT', 'SIGTERM']) process.once(signal, () => process.exit(1));
