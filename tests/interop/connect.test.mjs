// The client `wsloop connect` with the server of npm ws.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { text } from 'node:stream/consumers';
import { WebSocketServer } from 'ws';
import { test } from './server.mjs';

/** Runs `wsloop connect ...args` with `input` on stdin. Returns the exit code, stdout and stderr. */
async function connect(args, input) {
  const child = spawn(process.env.WSLOOP, ['connect', ...args], { stdio: 'pipe' });
  child.stdin.end(input);
  const outputs = Promise.all([text(child.stdout), text(child.stderr)]);
  const [code] = await once(child, 'close');
  const [stdout, stderr] = await outputs;
  return { code, stdout, stderr };
}

/** Starts a server that passes each message to `onMessage(ws, text, request)`. Returns its port. */
async function listen(t, onMessage, options = {}) {
  const server = new WebSocketServer({ host: '127.0.0.1', port: 0, ...options });
  t.after(() => server.close());
  server.on('connection', (ws, request) => ws.on('message', (data) => onMessage(ws, String(data), request)));
  await once(server, 'listening');
  return server.address().port;
}

test('answers that take 20 ms are printed after the end of stdin', async (t) => {
  const port = await listen(t, (ws, line) => setTimeout(() => ws.send(line.toUpperCase()), 20));
  assert.deepEqual(await connect([`${port}`], 'hi\nyou\n'), { code: 0, stdout: 'HI\nYOU\n', stderr: '' });
});

test('credentials, a host and a subprotocol arrive', async (t) => {
  const answer = (ws, _, { headers }) => ws.send(`${headers.authorization} ${headers.host} ${ws.protocol}`);
  const port = await listen(t, answer);
  const args = ['-s', 'chat', '-H', 'Host: example.com', `user:p%40ss@localhost:${port}/`];
  const basic = Buffer.from('user:p@ss').toString('base64');
  const stdout = `Basic ${basic} example.com chat\n`;
  assert.deepEqual(await connect(args, 'hi\n'), { code: 0, stdout, stderr: '' });
});

test('a server that chooses no subprotocol is reported', async (t) => {
  const port = await listen(t, (ws, line) => ws.send(line), { handleProtocols: () => false });
  const result = await connect(['-s', 'chat', `:${port}/`], 'hi\n');
  assert.deepEqual(result, { code: 0, stdout: 'hi\n', stderr: 'the server chose no subprotocol\n' });
});
