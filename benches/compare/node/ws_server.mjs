// Benchmark peer: npm ws as in its own examples, without permessage-deflate. `node ws_server.mjs PORT [CERTIFICATE KEY]`;
// any path echoes, /broadcast sends each message to all members, including its sender. With PEM files of a certificate and
// its key it speaks TLS.
import { readFileSync } from 'node:fs';
import { createServer as createHttpServer } from 'node:http';
import { createServer as createHttpsServer } from 'node:https';
import { WebSocketServer, WebSocket } from 'ws';

const [port, certificate, key] = process.argv.slice(2);
const http = certificate
  ? createHttpsServer({ cert: readFileSync(certificate), key: readFileSync(key) })
  : createHttpServer();
const server = new WebSocketServer({ server: http, perMessageDeflate: false, maxPayload: 32 * 1024 * 1024 });
const members = new Set();

server.on('connection', (socket, request) => {
  socket.on('error', () => {});
  if (request.url !== '/broadcast') {
    socket.on('message', (data, isBinary) => socket.send(data, { binary: isBinary }));
    return;
  }
  members.add(socket);
  socket.on('close', () => members.delete(socket));
  socket.on('message', (data, isBinary) => {
    for (const member of members) {
      if (member.readyState === WebSocket.OPEN) member.send(data, { binary: isBinary });
    }
  });
});
http.listen({ host: '127.0.0.1', port: Number(port), backlog: 4096 }, () => console.log('listening'));
