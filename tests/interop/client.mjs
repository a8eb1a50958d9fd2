// npm ws's client, as its users have it, with a memory: every event is kept in order until a test asks for it, so
// that no test depends on listening early enough.
//
// `open` gives a client that is connected, `connect` one that is about to be. `client.ws` is the WebSocket itself.

import { once } from 'node:events';
import { WebSocket } from 'ws';

export { WebSocket };

/** A client whose opening handshake has succeeded. Takes the arguments of `new WebSocket` after the test's. */
export async function open(t, ...args) {
  const client = connect(t, ...args);
  await client.opened;
  return client;
}

/** A client in its opening handshake. Ends with the test. */
export function connect(t, ...args) {
  const client = new Client(...args);
  t.after(() => client.ws.terminate());
  return client;
}

class Client {
  /** The names of the events so far, in order; pings and pongs are not among them. */
  events = [];
  /** What was received and not yet asked for: `{ data, isBinary }`. */
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
    this.upgraded.catch(() => {}); // whoever awaits them sees the error
    this.opened.catch(() => {});

    /** `{ code, reason }` of the close event. Not affected by errors before it. */
    this.closed = new Promise((resolve) => {
      ws.on('close', (code, reason) => {
        resolve({ code, reason: reason.toString() });
        this.end = code;
        this.#check();
      });
    });
  }

  /** The next `count` messages. */
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

  /** The next message. */
  async message() {
    const [message] = await this.messages(1);
    return message;
  }

  /** The next `count` messages as strings; that they are text messages is checked. */
  async texts(count) {
    return (await this.messages(count)).map(asText);
  }

  /** The next message as a string; that it is a text message is checked. */
  async text() {
    return asText(await this.message());
  }

  /**
   * Closes, and gives `{ code, reason, rest }`, `rest` being the messages that nobody had asked for. The server
   * answers a Close after everything that it owed before, so an empty rest means that nothing more was sent.
   */
  async close(...args) {
    this.ws.close(...args);
    const { code, reason } = await this.closed;
    return { code, reason, rest: this.inbox };
  }
}

function asText({ data, isBinary }) {
  if (isBinary) throw new Error(`a binary message where a text message belongs: ${data.toString('hex').slice(0, 80)}`);
  return data.toString();
}
