// Socket.IO with its Redis adapter: `node socketio.mjs PORT [REDIS]`, as in its documentation, with WebSockets only. The
// query's `topic` is the topic; the event `echo` echoes. REDIS is a URL or the path of a Unix socket.
import { createAdapter } from '@socket.io/redis-adapter';
import { createServer } from 'node:http';
import { Redis } from 'ioredis';
import { Server } from 'socket.io';

const [port, broker] = process.argv.slice(2);
const http = createServer();
const options = { transports: ['websocket'], serveClient: false };
if (broker) {
  const publisher = new Redis(broker);
  const subscriber = publisher.duplicate();
  for (const client of [publisher, subscriber]) client.on('error', () => {});
  options.adapter = createAdapter(publisher, subscriber);
}
const io = new Server(http, options);

// A publication during an outage is rejected later, which is ignored.
process.on('unhandledRejection', () => {});
io.on('connection', (socket) => {
  const { topic } = socket.handshake.query;
  socket.join(topic);
  socket.on('m', (text) => io.to(topic).emit('m', text));
  socket.on('echo', (text) => socket.emit('echo', text));
});
http.listen(Number(port), '127.0.0.1', 4096, () => console.log('listening'));
