// npm ws whose topics span processes by ioredis: `node ws.mjs PORT [REDIS]`. The path is the topic; /echo echoes. REDIS is a
// URL or the path of a Unix socket; without it, topics are those of this process. One connection publishes and one
// subscribes, as the documentation of ioredis shows.
import { Redis } from 'ioredis';
import { WebSocketServer } from 'ws';

const [port, broker] = process.argv.slice(2);
const server = new WebSocketServer({ host: '127.0.0.1', port: Number(port), perMessageDeflate: false, backlog: 4096 });
const topics = new Map();
// Automatic pipelining writes the publications of one turn of the event loop at once.
const publisher = broker && new Redis(broker, { enableAutoPipelining: true });
const subscriber = broker && new Redis(broker);

for (const client of broker ? [publisher, subscriber] : []) client.on('error', () => {});
subscriber?.on('messageBuffer', (topic, message) => deliver(topic.toString(), message));

function deliver(topic, message) {
  for (const member of topics.get(topic) ?? []) member.send(message, { binary: false });
}

server.on('connection', (socket, request) => {
  socket.on('error', () => {});
  if (request.url === '/echo') {
    socket.on('message', (data) => socket.send(data, { binary: false }));
    return;
  }
  const topic = request.url;
  if (!topics.has(topic)) {
    topics.set(topic, new Set());
    subscriber?.subscribe(topic).catch(() => {});
  }
  const members = topics.get(topic);
  members.add(socket);
  socket.on('close', () => {
    members.delete(socket);
    if (members.size > 0) return;
    topics.delete(topic);
    subscriber?.unsubscribe(topic).catch(() => {});
  });
  socket.on('message', (data) => {
    if (publisher) publisher.publish(topic, data).catch(() => {});
    else deliver(topic, data);
  });
});
server.on('listening', () => console.log('listening'));
