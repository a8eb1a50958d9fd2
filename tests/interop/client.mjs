// The client of npm ws, with a record of its events: every event and message is stored in order until a test reads
// it, so a test cannot miss an event by adding its listener too late.
//
// `open` returns a client that is connected, `connect` one in its opening handshake. `client.ws` is the WebSocket
// itself.

import { once } from 'node:events';
import { WebSocket } from 'ws';

export { WebSocket };

/** Connects a client and waits for its opening handshake. `args` are the arguments of `new WebSocket`. */
export async function open(t, ...args) {
  const client = connect(t, ...args);
  await client.opened;
  return client;
}

/** Starts the opening handshake of a client. The client is terminated when the test ends. */
export function connect(t, ...args) {
  const client = new Client(...args);
  t.after(() => client.ws.terminate());
  return client;
}

class Client {
  /** The names of the events so far, in order, without pings and pongs. */
  events = [];
  /** Received messages that the test has not read: `{ data, isBinary }`. */
  inbox = [];
  errors = [];
  #check = () => {};

  constructor(...args) {
    const ws = new WebSocket(...args);
    this.ws = ws;
    for (const name of ['upgrade', 'open', 'message', 'close', 'error']) ws.on(name, () => this.events.push(name));
    ws.on('error', (error) => this.errors.push(error));
    ws.on('message', (data, isBinary) => {
      this.inbox.push({ data, isBinary });
      this.#check();
    });

    this.upgraded = once(ws, 'upgrade').then(([response]) => response);
    this.opened = once(ws, 'open').then(() => {});
    this.upgraded.catch(() => {}); // prevents an unhandled rejection; a test that awaits it still gets the error
    this.opened.catch(() => {});

    /** Resolves to `{ code, reason }` of the close event. An earlier error event does not reject it. */
    this.closed = new Promise((resolve) => {
      ws.on('close', (code, reason) => {
        resolve({ code, reason: reason.toString() });
        this.end = code;
        this.#check();
      });
    });
  }

  /** Waits for the next `count` messages. Fails if the connection closes before. */
  messages(count) {
    return new Promise((resolve, reject) => {
      this.#check = () => {
        if (this.inbox.length >= count) {
          this.#check = () => {};
          resolve(this.inbox.splice(0, count));
        } else if (this.end !== undefined) {
          reject(new Error(`closed with ${this.end} after ${this.inbox.length} of ${count} messages: ${this.errors}`));
        }
      };
      this.#check();
    });
  }

  /** Waits for the next message. */
  async message() {
    const [message] = await this.messages(1);
    return message;
  }

  /** Waits for the next `count` messages, which must be texts, and returns them as strings. */
  async texts(count) {
    return (await this.messages(count)).map(asText);
  }

  /** Waits for the next message, which must be a text, and returns it as a string. */
  async text() {
    return asText(await this.message());
  }

  /**
   * Closes the connection. Returns `{ code, reason, rest }`; `rest` has the messages that the test has not read. The
   * server answers a Close after all queued messages, so an empty `rest` means that it has sent no further message.
   */
  async close(...args) {
    this.ws.close(...args);
    const { code, reason } = await this.closed;
    return { code, reason, rest: this.inbox };
  }
}

function asText({ data, isBinary }) {
  if (isBinary) throw new Error(`expected a text message, received a binary one: ${data.toString('hex').slice(0, 80)}`);
  return data.toString();
}
