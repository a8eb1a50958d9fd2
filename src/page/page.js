'use strict';
const $ = id => document.getElementById(id), LOG_MAX = 500, TIMES_MAX = 60;
// Characters and bytes that the log retains, and bytes of one binary message.
const RETAINED_MAX = 32 << 20, BINARY_MAX = 65536;
const CLOSE_CODES = {1000: 'normal', 1001: 'going away', 1002: 'protocol error', 1005: 'no code received', 1006: 'lost or refused, no Close received',
 1007: 'invalid UTF-8', 1008: 'policy violation', 1009: 'message too big', 1011: 'server error', 1012: 'restart', 1013: 'try again later'};
const token = Math.random().toString(36).slice(2, 8), known = new Set(), total = {sent: [0, 0], received: [0, 0]};
let ws, url, protocols, tries = 0, due = 0, pings = 0, turns = 0, unanswered = [], times = [], rows = [], retained = 0, dropped = 0, isAtEnd = true, frame;

const bytes = n => n < 1024 ? n + ' B' : n < 1048576 ? (n / 1024).toFixed(1) + ' KiB' : (n / 1048576).toFixed(1) + ' MiB';
const ms = t => t.toFixed(t < 10 ? 1 : 0) + ' ms';
const set = (id, text) => { if ($(id).textContent !== text) $(id).textContent = text; };
const length = text => new TextEncoder().encode(text).length;
const isOpen = () => ws?.readyState === 1;

// Adds a line to the log: a message or an event. `li` is created when the line is shown.
function addRow(kind, name, size, data, rtt) {
 const cost = data.length ?? data.byteLength;
 rows.push({kind, name, size, data, rtt, cost, at: new Date()});
 retained += cost;
 while (rows.length > LOG_MAX || retained > RETAINED_MAX && rows.length > 1) {
  const {li, cost} = rows.shift();
  li?.remove();
  retained -= cost;
  dropped++;
 }
 frame ||= requestAnimationFrame(flush);
}
const note = (text, bad) => addRow(bad ? 'note bad' : 'note', 'event', '', text);
const losses = () => dropped ? `${dropped} earlier lines were dropped: the log retains ${LOG_MAX} lines and ${bytes(RETAINED_MAX)}` : '';
function follow(isWanted) {
 const log = $('log');
 if (isWanted) log.scrollTop = log.scrollHeight;
 return isAtEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 40;
}
// Called once per animation frame, so that a flood of messages costs only the work for visible lines.
function flush() {
 const wasAtEnd = follow();
 frame = 0;
 $('log').append(...rows.filter(row => !row.li).map(line));
 set('dropped', losses());
 follow(wasAtEnd);
 $('dot').style.transform = `rotate(${turns * 30}deg)`;
 for (const name in total) set(name, `${total[name][0]} · ${bytes(total[name][1])}`);
}
function add(parent, tag, text, name = '') {
 const element = document.createElement(tag);
 element.className = name;
 element.textContent = text;
 parent.append(element);
 return element;
}
// Returns the list item of a line. Messages are set as text, never as markup.
function line(row) {
 const {kind, name, size, at, rtt} = row, li = row.li = document.createElement('li');
 li.className = kind;
 add(li, 'time', at.toTimeString().slice(0, 8) + at.toISOString().slice(19, 23));
 Object.assign(add(li, 'i', {sent: '↑', received: '↓', event: '•'}[name]), {role: 'img', ariaLabel: name});
 add(li, 'span', size === '' ? size : bytes(size), 'size');
 const [shown, folded, unit] = excerpt(row), content = add(li, 'div', ''), text = add(content, 'span', shown, size === 0 ? 'note' : '');
 add(li, 'span', rtt >= 0 ? ms(rtt) : '', 'rtt');
 if (folded) {
  const label = `Show ${folded} more ${unit}`, button = add(content, 'button', label);
  button.ariaExpanded = false;
  button.onclick = () => {
   const isWhole = button.ariaExpanded === 'false', [shown, rest] = excerpt(row, isWhole);
   text.textContent = shown + (isWhole && rest ? `\n… ${rest} more ${unit}` : '');
   button.textContent = isWhole ? 'Show less' : label;
   button.ariaExpanded = isWhole;
   follow();
  };
 }
 return li;
}
// Returns the content that the log shows, folded or not, how much more there is, and of what.
function excerpt({data, size}, isWhole) {
 if (typeof data !== 'string') {
  const end = Math.min(size, isWhole ? 4096 : 64);
  return [dump(data, end, $('log').clientWidth < 800 ? 8 : 16) || 'empty binary message', size - end, 'bytes'];
 }
 // A surrogate pair is not divided.
 const start = data.slice(0, isWhole ? 1e5 : 320).replace(/[\ud800-\udbff]$/, ''), shown = isWhole ? start : start.split('\n', 5).join('\n');
 return [data ? shown : 'empty text', data.length - shown.length, 'characters'];
}
// Returns the first bytes as `xxd` prints them, but with short offsets. 16 bytes need 63 characters.
function dump(data, end, width) {
 const lines = [];
 for (let at = 0; at < end; at += width) {
  const part = [...new Uint8Array(data, at, Math.min(width, end - at))], hex = part.map(byte => byte.toString(16).padStart(2, 0)).join('');
  lines.push(at.toString(16).padStart(4, 0) + ': ' + hex.replace(/.{4}(?=.)/g, '$& ').padEnd(2.5 * width + 1) + String.fromCharCode(...part).replace(/[^ -~]/g, '.'));
 }
 return lines.join('\n');
}
// Saves the retained lines with their whole texts. Lines that were dropped from the view are not in the file, which
// contains their number.
function save() {
 const now = new Date().toISOString(), link = document.createElement('a');
 const lines = rows.map(({at, name, size, data, rtt}) => {
  const text = data.trim ? data : `binary\n${dump(data, data.byteLength, 16)}${size > BINARY_MAX ? `\n… ${size - BINARY_MAX} more bytes` : ''}`;
  return [at.toISOString(), name, size, rtt?.toFixed(1), text.replaceAll('\n', '\n\t\t\t\t')].join('\t') + '\n';
 });
 link.href = URL.createObjectURL(new Blob([`${location.host}, ${now}, ${losses() || 'no lines were dropped'}\n
time (UTC)\tdirection\tbytes\tround trip (ms)\tcontent (lines after the first start with tabs)\n`, ...lines]));
 link.download = `wsloop-${now.slice(0, 19).replaceAll(':', '')}.txt`;
 link.click();
 setTimeout(() => URL.revokeObjectURL(link.href), 1e4);
}

// Returns the size, and the key that identifies an echo: the whole text, or for binary the size and the first bytes.
function describe(data) {
 if (typeof data === 'string') return [length(data), data];
 return [data.byteLength, `\0${data.byteLength} ${new Uint8Array(data.slice(0, 32))}\0`];
}
function logMessage(name, kind, data, [size, key], rtt) {
 total[name][0]++;
 total[name][1] += size;
 turns++;
 addRow(/\bping \w+-\d+ \d+$/.test(key) ? kind + ' ping' : kind, name, size, typeof data === 'string' ? data : data.slice(0, BINARY_MAX), rtt);
}
function send(data) {
 const described = describe(data);
 unanswered.push({key: described[1], at: performance.now()});
 if (unanswered.length > 100) unanswered.shift();
 ws.send(data);
 logMessage('sent', 'out', data, described);
 tick();
}
function receive(data) {
 const at = performance.now(), described = describe(data);
 // An echo may have a prefix. Messages sent before the one that it answers are no longer expected.
 const found = unanswered.findIndex(({key}) => key && described[1].endsWith(key));
 const rtt = found < 0 ? undefined : at - unanswered.splice(0, found + 1)[found].at;
 if (rtt >= 0) plot(rtt);
 logMessage('received', 'in', data, described, rtt);
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
 if (!isRetry) {
  const names = $('protocols').value.split(/[\s,]+/).filter(Boolean);
  const wrong = names.find((name, i) => !/^[\w!#$%&'*+.^`|~-]+$/.test(name) || names.indexOf(name) < i);
  if (wrong) {
   set('said', `"${wrong}" is no subprotocol or is repeated. Names contain letters, digits and !#$%&'*+-.^_\`|~`);
   $('options').open = true;
   return $('protocols').focus();
  }
  const path = $('path').value = $('path').value.trim().replace(/^\/?/, '/');
  tries = 0;
  url = location.origin.replace(/^http/, 'ws') + path;
  protocols = names;
  history.replaceState(null, '', '#' + path);
  set('back', '');
 }
 due = 0;
 set('said', '');
 let socket;
 try { socket = new WebSocket(url, protocols); } catch (error) { return set('said', error.message), render(); }
 // A server can accept a path and refuse the subprotocols.
 const offered = protocols.join(', '), target = url, key = target + ' ' + offered;
 closeSocket(1000);
 ws = socket;
 unanswered = [];
 socket.binaryType = 'arraybuffer';
 socket.onopen = () => {
  const isRefused = offered && !socket.protocol;
  tries = 0;
  known.add(key);
  note(`open ${target}${socket.protocol && ', subprotocol ' + socket.protocol}${isRefused ? ', but the server selected none of the subprotocols ' + offered : ''}`, isRefused);
  render();
 };
 socket.onmessage = event => receive(event.data);
 socket.onclose = ({code, reason, wasClean}) => {
  const named = CLOSE_CODES[code] ? `${code} (${CLOSE_CODES[code]})` : code, quoted = reason ? JSON.stringify(reason) : 'none';
  note(`closed ${target}, code ${named}, reason ${quoted}`, !wasClean);
  if (socket !== ws) return;
  const isLost = !socket.isDone && (!wasClean || [1001, 1006, 1012].includes(code));
  if (!known.has(key) && !socket.isDone) {
   set('said', `No WebSocket was opened (code ${code}): ${offered ? 'the server probably selected none of the subprotocols ' + offered + '. Otherwise check' : 'check'} the path`);
   note($('said').textContent, true);
  } else {
   // A failed retry does not replace the displayed result.
   if (!tries) showResult(`Closed: code ${named}, reason ${quoted}, wasClean ${wasClean}`, !wasClean);
   if (isLost && $('again').checked) due = Date.now() + Math.min(15000, 500 * 2 ** tries++) * (.8 + .4 * Math.random());
  }
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
 $('open').className = state === 1 ? '' : 'main';
 $('close').disabled = state > 1 && !due;
 document.title = (ws ? '…●…○'[state] + ' ' + new URL(url).pathname + ' – ' : '') + 'wsloop';
 tick();
}
function tick() {
 if (due && !$('again').checked) return due = 0, render();
 if (due && Date.now() >= due) return connect(true);
 set('buffered', bytes(ws ? ws.bufferedAmount : 0));
 set('open', due ? `Retry in ${Math.ceil((due - Date.now()) / 1000)} s` : isOpen() ? 'Reconnect' : 'Connect');
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
 const code = +$('code').value, reason = $('reason').value, size = length(reason), isAllowed = code === 1000 || code >= 3000 && code < 5000;
 // A retry is stopped without a Close.
 if (!due && (size > 123 || !isAllowed)) return showResult('Not closed: ' + (isAllowed ? `the reason has ${size} bytes, the maximum is 123` : 'browsers allow the codes 1000 and 3000 to 4999'), true);
 closeSocket(code, reason);
 render();
});
on('ping', 'click', ping);
on('save', 'click', save);
on('clear', 'click', () => {
 rows = [];
 retained = dropped = 0;
 $('log').replaceChildren();
 flush();
});
on('log', 'scroll', () => follow());
// The newest line remains visible when the log becomes smaller.
new ResizeObserver(() => follow(isAtEnd)).observe($('log'));
if (matchMedia('(max-width:800px)').matches) $('options').open = false;
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
