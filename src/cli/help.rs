//! What `--help` prints: plain text, at most 79 columns; that of bare `wsloop` fits one 24-line screen.
//!
//! Defaults are written out here for the eye; a test reads them back and compares them with `Config::default()`.

/// `wsloop --help`
pub(super) const WSLOOP: &str = r#"wsloop serves WebSockets from one thread.

Usage:
  wsloop                      serve /echo, /broadcast, / and a page to try them
  wsloop serve [FLAG]...      serve the paths that -r names
  wsloop echo [FLAG]...       every path sends each message back to its sender
  wsloop broadcast [FLAG]...  every path sends each message to all its clients
  wsloop bench [FLAG]... URL  put a load on a WebSocket server and measure it
  wsloop connect URL          talk to a server: send lines, print its messages

Flags:
  -l, --listen ADDR           PORT, HOST:PORT or unix:PATH; or 127.0.0.1:8080
  -r, --route PATH=HANDLER    echo, echo:PREFIX, broadcast or reply:TEXT
      --origin ORIGIN         refuse every other website's WebSockets
  -h, --help                  this text; `wsloop serve --help` has every flag
  -V, --version               the version

Examples:
  wsloop broadcast -l 127.0.0.1:8181
  wsloop serve -l 127.0.0.1:8080 -r '/*=echo:You sent: '
  wsloop connect ws://127.0.0.1:8080/echo
  wsloop serve -l 127.0.0.1:6080 -r '/*=reply:{"a":1,"b":2}'
  wsloop bench -c 100 -p 32 ws://127.0.0.1:8080/
"#;

/// `wsloop serve --help`
pub(super) const SERVE: &str = r#"Serves WebSockets on the paths that -r names, until SIGINT or SIGTERM.

Usage: wsloop serve [-l ADDR]... [-r PATH=HANDLER]... [FLAG]...

  -l, --listen ADDR
      Where to listen, repeatable; default 127.0.0.1:8080. ADDR is PORT (on
      127.0.0.1), HOST:PORT or [::1]:PORT. A HOST that is a name stands for
      the first of its addresses. Port 0 is any free one. 0.0.0.0:PORT is
      every IPv4 interface.
      ADDR is also unix:PATH, a Unix socket. A file there that nobody listens
      on is replaced; it is removed when the server stops.
      Sockets that systemd passes (LISTEN_FDS) are listened on, too; without
      -l these alone.
  -r, --route PATH=HANDLER
      What answers on a path, repeatable; without it
      /echo=echo, /broadcast=broadcast and /=echo. PATH is exact, or ends in
      /* and matches everything below: /chat/* matches /chat/a, not /chat.
      The exact path wins, then the longest. HANDLER is
        echo            each message goes back to its sender
        echo:PREFIX     the same, PREFIX before each text
        broadcast       each message goes to all on the same path, its sender
                        too
        reply:TEXT      each message is answered with TEXT
  --origin ORIGIN
      Let in only WebSocket clients with this Origin, such as
      https://example.org, or null; repeatable. Others: HTTP 403.
  --no-page
      Do not answer GET / with the page that tries a server out in a browser.
      WebSockets at / are what -r says, with the page or without.
  --metrics PATH
      Tell connections, messages, bytes, refusals, closes and times of turns
      on this path, in Prometheus' text format. Whoever reaches the server can
      read them. Default: nowhere.
  --log-format text|json
      The log as lines, or as one JSON object a line with a field for each
      figure. Default text.
  -h, --help
  -V, --version

N is a number; BYTES is one too, or with K, M or G (powers of 1024); TIME is
in seconds, or with ms, s, m or h, such as 0.5, 500ms or 2m.

Sockets:
  --unix-mode OCTAL          permissions of Unix sockets, such as 660, default
                             777 less the umask
  --reuse-port               let other processes of this user listen on the
                             same ports (SO_REUSEPORT); each has its share of
                             the clients, and broadcasts to these alone
  --tcp-keepalive TIME       probe a peer after so long a silence, and drop it
                             when 3 probes, a third of TIME apart, have no
                             answer, default off
  --tcp-user-timeout TIME    drop a peer whose system acknowledges nothing for
                             so long, default off (Linux)

A message:
  --message-bytes-max BYTES  default 16M; past it: close 1009
  --fragments-max N          frames in one message, default 131072;
                             past it: close 1008

A connection:
  --head-bytes-max BYTES     request line and headers, default 16K;
                             past it: HTTP 431
  --headers-max N            headers of a request, default 100, at most 124;
                             past it: HTTP 431
  --handshake-timeout TIME   to the end of the request, default 10s;
                             past it: HTTP 408
  --idle-timeout TIME        without a byte from the peer, default 120s, never
                             if 0 or off; past it: close 1001
  --no-ping                  do not ping when half of the idle timeout is over
  --close-timeout TIME       wait for the peer's Close, default 5s
  --write-timeout TIME       a peer that takes no byte of what it is owed is
                             cut off after this long, default 30s

What a peer has yet to take:
  --high-water-bytes BYTES   owed more than this, a peer is not read from,
                             default 1M
  --low-water-bytes BYTES    until it is owed less than this, default 256K; or
                             a quarter of high water, if that is no more
  --backlog-bytes-max BYTES  the most owed to one peer, default 18M; or high
                             water, one largest message and 1M, if either is
                             raised; past it: cut off
  --lag-bytes-max BYTES      how far a client may fall behind a broadcast,
                             default 8M; past it: see --lag
  --lag disconnect|skip      close 1013, or skip to the newest message,
                             default disconnect

The server:
  --connections-max N        at once, default the descriptor limit less 32;
                             past it: HTTP 503. At the start that limit is
                             raised as far as the system lets it
  --handshakes-max N         at once without a whole request, default 4096;
                             above it the oldest of them is closed
  --shutdown-grace TIME      after a signal, for peers to answer the
                             close 1001, default 10s; a second signal ends
                             at once

Each flag can be given as a variable: WSLOOP_IDLE_TIMEOUT=2m for
--idle-timeout 2m, WSLOOP_NO_PING=1 for --no-ping. The flag wins. Blanks stand
between several values (WSLOOP_LISTEN='80 unix:/run/ws'), in WSLOOP_ROUTE line
ends. Empty is as not set; a name that is no flag's is logged as ignored, for
Kubernetes sets some (WSLOOP_PORT). There is no configuration file.

The log is on stderr: RUST_LOG=debug shows each message, RUST_LOG=off nothing.
The server does not wait for whoever reads it: when 128 KiB are unread, lines
are dropped and counted.
GET /healthz answers 200, unless -r names that path.
"#;

/// `wsloop echo --help`
pub(super) const ECHO: &str = r#"Sends each message back to its sender, on every path, until SIGINT or SIGTERM.

Usage: wsloop echo [-l ADDR]... [FLAG]...

  -l, --listen ADDR  PORT, HOST:PORT, [::1]:PORT or unix:PATH, repeatable;
                     default 127.0.0.1:8080
  -h, --help
  -V, --version

`wsloop serve --help` has the flags for sockets, origins, the page at /,
limits, and the variables; all but -r work here too. The same as
wsloop serve -r '/*=echo'.

Examples:
  wsloop echo
  wsloop echo -l 9000 -l '[::1]:9000'
"#;

/// `wsloop broadcast --help`
pub(super) const BROADCAST: &str = r#"Sends each message to all clients on the same path, its sender too, until
SIGINT or SIGTERM.

Usage: wsloop broadcast [-l ADDR]... [FLAG]...

  -l, --listen ADDR  PORT, HOST:PORT, [::1]:PORT or unix:PATH, repeatable;
                     default 127.0.0.1:8080
  -h, --help
  -V, --version

`wsloop serve --help` has the flags for sockets, origins, the page at /,
limits, and the variables; all but -r work here too. The same as
wsloop serve -r '/*=broadcast'.

Examples:
  wsloop broadcast -l 127.0.0.1:8181
  wsloop broadcast --lag skip --lag-bytes-max 1M
"#;

/// `wsloop bench --help`
#[cfg(feature = "bench")]
pub(super) const BENCH: &str = r#"Puts a load on a WebSocket server and measures it, as wrk does for HTTP.

Usage: wsloop bench [FLAG]... URL

URL is ws://HOST[:PORT][/PATH][?QUERY]. BYTES is a number, or one with K, M or
G (powers of 1024); TIME is in seconds, or with ms, s, m or h.

The load:
  -c, --connections N     at once, default 100
  -d, --duration TIME     of what is measured, default 10s
  -s, --size BYTES        of a message, default 20
  -p, --in-flight N       messages under way on each connection, default 1:
                          each answer is followed by the next message
      --rate N            messages a second over all connections instead, sent
                          when it is time, whatever is under way; latency is
                          from when a message was due (corrected for
                          coordinated omission)
      --text, --binary    what messages are, default text
      --mode echo         every message has an answer; the default
      --mode broadcast    rounds: some connections send, all receive all, and
                          the next round begins; latency is that of a round
      --senders N         in a broadcast, default all connections
      --burst N           messages of each sender in a round, default 1
      --connect-rate N    connections begun in a second, without it as many as
                          the server takes, 4096 handshakes at once
      --warmup TIME       load before anything is measured, default 1s
      --timeout TIME      a connection that owes an answer and is silent this
                          long is an error, default 10s

What is told:
      --latency           percentiles, too
      --verify            compare the content of every message
      --json              one object on one line, latencies in microseconds
      --pid PID           the server's process: its CPU per message while it is
                          measured, and its memory per connection, after all
                          messages against before all connections (Linux)
  -h, --help
  -V, --version

All messages are one frame, prepared once, with one masking key for all. An
error is a failed connect, read or write, a timeout, a mismatch (a message that
nobody asked for or, with --verify, one that differs), or a missing message;
they are counted from the first connection to the last, the warm-up included.
SIGINT prints what there is. The exit code is 1 if nothing was measured or,
with --verify, something differed.

Examples:
  wsloop bench ws://127.0.0.1:8080/
  wsloop bench -c 100 -p 32 -d 30s --latency ws://127.0.0.1:8080/
  wsloop bench --rate 10000 --latency ws://127.0.0.1:8080/
  wsloop bench --mode broadcast -c 50 --burst 16 ws://127.0.0.1:8181/
"#;

/// `wsloop connect --help`
#[cfg(feature = "connect")]
pub(super) const CONNECT: &str = r#"Talks to a WebSocket server: sends each line of stdin as a text and prints each
message on a line of stdout.

Usage: wsloop connect [FLAG]... URL

URL is ws://HOST[:PORT][/PATH][?QUERY]; ws:// may be left out. TIME is in
seconds, or with ms, s, m or h; BYTES is a number, or one with K, M or G.

The request:
  -H, --header NAME:VALUE  one more header, repeatable
  -s, --subprotocol NAME   offer one more subprotocol, repeatable
  -o, --origin ORIGIN      the Origin header, sent as it is written
      --connect-timeout TIME  up to the server's answer, default 10s

What is sent:
  -x, --execute MESSAGE    send MESSAGE and do not read stdin; repeatable
      --binary             send binary messages: each line if stdin is a
                           terminal, else the whole of stdin as one message
      --ping TIME          ping this often, and print on stderr (on stdout if
                           that is a terminal) how long each answer took

When it ends:
  A Close is sent right behind the last line, which a server answers after all
  messages before it; messages are printed until then. Behind -x it waits for
  as many messages as were sent, at most 2s.
  -w, --wait TIME          stay this long after the last line, or after -x,
                           and then send the Close
  -n, --no-close           stay until the server closes, or a signal comes
      --close-timeout TIME  this long without a message or a Close after
                           ours is an error, default 10s
  Ctrl-C sends a Close, too; again, or when one was sent, it ends at once.

What is printed:
  Texts as they are, binary messages in hexadecimal digits, each with a line
  end. With --binary those are written as they are, with nothing between them,
  unless stdout is a terminal. A terminal has a prompt, colours (unless
  NO_COLOR is set), control characters escaped, and the first 1024 bytes of a
  binary message. A refused request's status and body are printed on stderr.
      --message-bytes-max BYTES  of a message, in or out, default 64M; past
                           it: close 1009, or an error
  -h, --help
  -V, --version

The exit code is 0 if both sides sent a Close, the server's with code 1000 or
none; else 1, with the reason on stderr.

Examples:
  wsloop connect ws://127.0.0.1:8080/echo
  wsloop connect -x hello -w 500ms ws://127.0.0.1:8181/
  wsloop connect -n --ping 1 -H 'Cookie: a=b' -s chat ws://127.0.0.1:8080/chat
  wsloop connect --binary ws://127.0.0.1:8080/echo
"#;
