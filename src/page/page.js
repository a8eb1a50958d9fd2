'use strict';
const $ = id => document.getElementById(id), LOG_MAX = 500, TEXT_MAX = 2000, TIMES_MAX = 60;
const CLOSE_CODES = {1000: 'normal', 1001: 'going away', 1002: 'protocol error', 1005: 'no code received', 1006: 'lost or refused, no Close received',
 1007: 'invalid UTF-8', 1008: 'policy violation', 1009: 'message too big', 1011: 'server error', 1012: 'restart', 1013: 'try again later'};
const token = Math.random().toString(36).slice(2, 8), known = new Set(), total = {sent: [0, 0], received: [0, 0]};
let ws, url, protocols, tries = 0, due = 0, pings = 0, turns = 0, unanswered = [], times = [], rows = [], frame;

const bytes = n => n < 1024 ? n + ' B' : n < 1048576 ? (n / 1024).toFixed(1) + ' KiB' : (n / 1048576).toFixed(1) + ' MiB';
const ms = t => t.toFixed(t < 10 ? 1 : 0) + ' ms';
const set = (id, text) => { if ($(id).textContent !== text) $(id).textContent = text; };
const isOpen = () => ws?.readyState === 1;

// Adds a line to the log. Messages are set as text, never as markup.
function addRow(kind, sign, label, size, text, rtt) {
 const li = document.createElement('li'), now = new Date();
 const cell = (tag, text, name = '') => {
  const element = document.createElement(tag);
  element.className = name;
  element.textContent = text;
  li.append(element);
  return element;
 };
 li.className = kind;
 cell('time', now.toTimeString().slice(0, 8) + '.' + String(now.getMilliseconds()).padStart(3, 0));
 cell('i', sign).setAttribute('aria-label', label);
 cell('span', size, 'size');
 cell('span', text);
 cell('span', rtt >= 0 ? ms(rtt) : '', 'rtt');
 rows.push(li);
 if (rows.length > LOG_MAX) rows.shift();
 frame ||= requestAnimationFrame(flush);
}
const note = (text, bad) => addRow(bad ? 'note bad' : 'note', '•', 'event', '', text);
// Called once per animation frame, so that a flood of messages costs only the work for visible lines.
function flush() {
 const log = $('log'), follows = log.scrollHeight - log.scrollTop - log.clientHeight < 40;
 frame = 0;
 log.append(...rows.splice(0));
 while (log.childElementCount > LOG_MAX) log.firstChild.remove();
 if (follows) log.scrollTop = log.scrollHeight;
 $('dot').style.transform = `rotate(${turns * 30}deg)`;
 for (const name in total) set(name, `${total[name][0]} · ${bytes(total[name][1])}`);
}

// Returns the size, the key that identifies an echo (the whole text, or for binary the size and the first bytes), and the text to show.
function describe(data) {
 if (typeof data === 'string') {
  const more = data.length - TEXT_MAX, size = new TextEncoder().encode(data).length;
  return [size, data, more > 0 ? `${data.slice(0, TEXT_MAX)}… ${more} more characters` : data];
 }
 const first = [...new Uint8Array(data.slice(0, 32))].map(byte => byte.toString(16).padStart(2, 0)).join(' ');
 return [data.byteLength, `\0${data.byteLength} ${first}\0`, `binary ${first}${data.byteLength > 32 ? ' …' : ''}`];
}
function logMessage(name, kind, sign, [size, key, shown], rtt) {
 total[name][0]++;
 total[name][1] += size;
 turns++;
 addRow(/\bping \w+-\d+ \d+$/.test(key) ? kind + ' ping' : kind, sign, name, bytes(size), shown, rtt);
}
function send(data) {
 const described = describe(data);
 unanswered.push({key: described[1], at: performance.now()});
 if (unanswered.length > 100) unanswered.shift();
 ws.send(data);
 logMessage('sent', 'out', '↑', described);
 tick();
}
function receive(data) {
 const at = performance.now(), described = describe(data);
 // An echo may have a prefix. Messages sent before the one that it answers are no longer expected.
 const found = unanswered.findIndex(({key}) => key && described[1].endsWith(key));
 const rtt = found < 0 ? undefined : at - unanswered.splice(0, found + 1)[found].at;
 if (rtt >= 0) plot(rtt);
 logMessage('received', 'in', '↓', described, rtt);
}
function plot(rtt) {
 times = [...times, rtt].slice(-TIMES_MAX);
 const sorted = times.toSorted((a, b) => a - b), max = sorted.at(-1), median = sorted[times.length >> 1];
 const y = time => (47 - 44 * time / (max || 1)).toFixed(1), x = i => 238 - 4 * (times.length - 1 - i);
 $('bars').setAttribute('d', times.map((time, i) => `M${x(i)} 48V${y(time)}`).join(''));
 $('middle').setAttribute('d', `M0 ${y(median)}H240`);
 set('rtt', ms(rtt));
 set('stats', `median ${ms(median)}\nmax ${ms(max)}, of ${times.length}`);
}

function connect(isRetry) {
 due = 0;
 if (!isRetry) {
  const path = $('path').value = $('path').value.trim().replace(/^\/?/, '/');
  tries = 0;
  url = location.origin.replace(/^http/, 'ws') + path;
  protocols = $('protocols').value.split(/[\s,]+/).filter(Boolean);
  history.replaceState(null, '', '#' + path);
 }
 let socket;
 try { socket = new WebSocket(url, protocols); } catch (error) { return note(error.message, true); }
 closeSocket(1000);
 ws = socket;
 unanswered = [];
 socket.binaryType = 'arraybuffer';
 socket.onopen = () => {
  tries = 0;
  known.add(url);
  note(`open ${url}${socket.protocol && ', subprotocol ' + socket.protocol}`);
  render();
 };
 socket.onmessage = event => receive(event.data);
 socket.onclose = ({code, reason, wasClean}) => {
  const named = CLOSE_CODES[code] ? `${code} (${CLOSE_CODES[code]})` : code, quoted = reason ? JSON.stringify(reason) : 'none';
  note(`closed ${url}, code ${named}, reason ${quoted}`, !wasClean);
  if (socket !== ws) return;
  // A failed retry does not replace the displayed result.
  if (!tries) showResult(`Closed: code ${named}, reason ${quoted}, wasClean ${wasClean}`, !wasClean);
  const isLost = !socket.isDone && (!wasClean || [1001, 1006, 1012].includes(code));
  if (!known.has(url) && !socket.isDone) note('No WebSocket was opened: check the path and the subprotocol', true);
  else if (isLost && $('again').checked) due = Date.now() + Math.min(15000, 500 * 2 ** tries++) * (.8 + .4 * Math.random());
  render();
 };
 render();
}
// Closes the current socket at the user's request: there is no reconnect.
function closeSocket(code, reason) {
 due = 0;
 if (ws?.readyState > 1 || !ws) return;
 ws.close(code, reason);
 ws.isDone = true;
}
function showResult(text, bad) {
 set('back', text);
 $('back').className = bad ? 'bad' : '';
}
const ping = () => send(`ping ${token}-${++pings} ${Date.now()}`);
function render() {
 const state = ws ? ws.readyState : 3;
 [...$('rail').children].forEach((li, i) => i === state ? li.setAttribute('aria-current', true) : li.removeAttribute('aria-current'));
 for (const id of ['send', 'file', 'ping']) $(id).disabled = !isOpen();
 $('open').disabled = state === 0;
 $('close').disabled = state > 1 && !due;
 document.title = (ws ? '…●…○'[state] + ' ' + new URL(url).pathname + ' – ' : '') + 'wsloop';
 tick();
}
function tick() {
 if (due && !$('again').checked) return due = 0, render();
 if (due && Date.now() >= due) return connect(true);
 set('buffered', bytes(ws ? ws.bufferedAmount : 0));
 set('open', due ? `Retry in ${Math.ceil((due - Date.now()) / 1000)} s` : 'Connect');
 set('close', due ? 'Stop' : 'Close');
}

const on = (id, type, act) => $(id).addEventListener(type, act);
on('connecting', 'submit', event => { event.preventDefault(); connect(); });
on('sending', 'submit', event => {
 event.preventDefault();
 if (!isOpen()) return;
 send($('text').value);
 $('text').value = '';
});
on('text', 'keydown', event => {
 if (event.key !== 'Enter' || event.shiftKey || event.isComposing) return;
 event.preventDefault();
 $('sending').requestSubmit();
});
on('file', 'change', async () => {
 const file = $('file').files[0], to = ws;
 if (!file) return;
 try {
  const data = await file.arrayBuffer();
  if (to === ws && isOpen()) send(data); else note(file.name + ' was not sent: the connection was closed', true);
 } catch (error) { note(`${file.name}: ${error.message}`, true); }
 $('file').value = '';
});
on('closing', 'submit', event => {
 event.preventDefault();
 try { closeSocket(+$('code').value, $('reason').value); } catch (error) { showResult(error.message, true); }
 render();
});
on('ping', 'click', ping);
on('clear', 'click', () => $('log').replaceChildren());
on('show', 'change', () => $('log').classList.toggle('quiet', !$('show').checked));
// A screen reader would announce two lines per second.
on('auto', 'change', () => $('log').ariaLive = $('auto').checked ? 'off' : 'polite');
setInterval(() => $('auto').checked && isOpen() && ping(), 1000);
setInterval(tick, 200);

// Connects to the path in the URL's fragment: /#/path.
function fromHash() {
 if (!location.hash.startsWith('#/')) return;
 $('path').value = location.hash.slice(1);
 connect();
}
addEventListener('hashchange', fromHash);
set('host', location.host);
render();
fromHash();
