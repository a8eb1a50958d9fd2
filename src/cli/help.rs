//! The texts that `--help` prints: ASCII, at most 79 columns wide. The text of `wsloop --help` fits a 24-line screen.
//!
//! Defaults are written out for the reader. A test parses them and compares them with `Config::default()`.

/// Text of `wsloop --help`.
pub(super) const WSLOOP: &str = r#"wsloop serves WebSockets from one thread.

Usage:
  wsloop                      serve /echo, /broadcast, / and a test page at /
  wsloop serve [FLAG]...      serve the paths given with -r
  wsloop echo [FLAG]...       send each message back to its sender
  wsloop broadcast [FLAG]...  send each message to all clients on the same path
  wsloop bench [FLAG]... URL  put load on a WebSocket server and measure it
  wsloop connect URL          connect to a server: send lines, print messages

Flags:
  -l, --listen ADDR           [HOST:]PORT or unix:PATH; default 127.0.0.1:8080
  -r, --route PATH=HANDLER    echo, echo:PREFIX, broadcast or reply:TEXT
      --origin ORIGIN         accept WebSockets from pages of this site only
  -h, --help                  this text; for all flags: `wsloop serve --help`
  -V, --version               print the version

Examples:
  wsloop broadcast -l 127.0.0.1:8181
  wsloop serve -l 127.0.0.1:8080 -r '/*=echo:You sent: '
  wsloop connect ws://127.0.0.1:8080/echo
  wsloop serve -l 127.0.0.1:6080 -r '/*=reply:{"a":1,"b":2}'
  wsloop bench -c 100 -p 32 ws://127.0.0.1:8080/
"#;

/// The part of `wsloop serve --help` on TLS.
#[cfg(feature = "tls")]
macro_rules! tls_flags {
    () => {
        r#"TLS:
  --tls-cert FILE            PEM file with a certificate, followed by those of
                             its issuers, for listeners with tls:; repeatable:
                             the name that a client asks for selects one, and
                             the first is the default
  --tls-key FILE             PEM file with the private key of the certificate,
                             not encrypted; one for each --tls-cert in the
                             same order, or none if the keys are in the files
                             of the certificates
  --tls-client-ca FILE       refuse clients without a certificate that one of
                             the CAs in this PEM file has issued
  --tls-client-optional      with --tls-client-ca, accept clients without a
                             certificate, too
  --tls-min 1.2|1.3          lowest version of TLS, default 1.2
  --tls-self-signed          to try TLS out, make a certificate at start, for
                             localhost, 127.0.0.1, ::1 and the hosts of -l and
                             --host; no client trusts it. Needs the cargo
                             feature tls-self-signed
After SIGHUP, a server with --tls-cert reads the files again, for new
connections. If one of them cannot be used, all previous certificates, keys and
CAs remain in use, and the log has the reason. Without --tls-cert, SIGHUP ends
the server.

"#
    };
}

#[cfg(not(feature = "tls"))]
macro_rules! tls_flags {
    () => {
        ""
    };
}

/// The part of `wsloop serve --help` on the broker.
#[cfg(feature = "redis")]
macro_rules! redis_flags {
    () => {
        r#"Several processes or machines, joined by Redis or Valkey:
  --redis URL                share the broadcasts of all servers that use the
                             same Redis: redis://[USER[:PASSWORD]@]HOST[:PORT]
                             or unix:PATH. All clients receive the messages
                             in the order in which Redis delivers them
  --redis-password-file FILE read the password from the first line of FILE,
                             also if the URL has one. In a URL on the
                             command line, the password is visible in the
                             list of processes; in the variable WSLOOP_REDIS
                             it is not
  --redis-prefix TEXT        channels in Redis are named TEXT plus the path;
                             default wsloop:
  --broker-grace TIME        if Redis is away for longer: close the clients of
                             broadcasts with 1013 (except with --lag skip),
                             and answer /readyz with 503; default 5s
  --broker-outbox BYTES      messages that wait for Redis, default 8M, at
                             least 64K and 2 x --broker-message-bytes-max.
                             Reading from a client that sends stops when half
                             of it is in use, and after its first message
                             while Redis is away. A message that exceeds it:
                             close 1013
  --broker-message-bytes-max BYTES
                             one message of a broadcast, default 1M; above:
                             close 1009

"#
    };
}

#[cfg(not(feature = "redis"))]
macro_rules! redis_flags {
    () => {
        ""
    };
}

/// The exception to what a broadcast reaches.
#[cfg(feature = "redis")]
macro_rules! unless_shared {
    () => {
        ", unless\n                             the processes use the same --redis"
    };
}

#[cfg(not(feature = "redis"))]
macro_rules! unless_shared {
    () => {
        ""
    };
}

/// Text of `wsloop serve --help`.
pub(super) const SERVE: &str = concat!(
    r#"Serves WebSockets on the paths given with -r, until SIGINT or SIGTERM.

Usage: wsloop serve [-l ADDR]... [-r PATH=HANDLER]... [FLAG]...

  -l, --listen ADDR
      Address to listen on; repeatable; default 127.0.0.1:8080. ADDR is PORT
      (on 127.0.0.1), HOST:PORT or [::1]:PORT. If HOST is a name, the first of
      its addresses is used. Port 0 selects a free port. 0.0.0.0:PORT listens
      on every IPv4 interface.
      ADDR can also be unix:PATH, a Unix socket. A socket file at PATH is
      replaced if no process listens on it. The server removes its socket
      files when it stops.
      proxy:ADDR, such as proxy:127.0.0.1:9700 or proxy:unix:PATH, demands that
      each connection begins with a header of the PROXY protocol, version 1 or
      2, in which a proxy names the client. Make ADDR accessible to the proxy
      only.
      metrics:ADDR, such as metrics:127.0.0.1:9700 or metrics:unix:PATH, is a
      listener for metrics (at the path of --metrics, default /metrics),
      /healthz and /readyz only. The metrics are then not on the other
      listeners. --reuse-port does not share its port.
      tls:ADDR, such as tls:8443 or proxy:tls:9700, speaks TLS (wss://). It
      needs a certificate, and a binary with the cargo feature tls.
      Sockets passed by systemd (LISTEN_FDS) are used in addition to those of
      -l, and instead of the default address if there is no -l. A socket with
      the name proxy, metrics or tls (FileDescriptorName) is used like
      proxy:ADDR, metrics:ADDR or tls:ADDR, and one with the name proxy-tls
      like proxy:tls:ADDR.
  -r, --route PATH=HANDLER
      Handler of the WebSockets on a path; repeatable; without it
      /echo=echo, /broadcast=broadcast and /=echo. PATH is exact, or ends in
      /* and matches every path below: /chat/* matches /chat/a, not /chat. An
      exact PATH takes precedence, then the longest with /*. HANDLER is
        echo            send each message back to its sender
        echo:PREFIX     the same, with PREFIX before each text message
        broadcast       send each message to all clients on the same path,
                        the sender included; a path of more than 512 bytes is
                        answered with HTTP 414
        reply:TEXT      answer each message with TEXT
  --host NAME
      Answer only requests with this Host header: a name or an IP address, with
      any port, or NAME:PORT; repeatable; * allows every host. Requests with
      another Host are refused with HTTP 421. Default: localhost, 127.0.0.1,
      [::1] and the hosts of -l if all TCP ports are on loopback addresses, to
      refuse websites that use DNS rebinding; otherwise every host.
  --origin ORIGIN
      Accept only WebSocket requests with this Origin header, such as
      https://example.org, or null; repeatable. `none` accepts requests without
      the header, which browsers always send; * accepts every request. Others
      are refused with HTTP 403. Default: if hosts are restricted, requests
      from pages of these hosts, on any port, and requests without an Origin;
      otherwise every request.
  --subprotocol NAME
      Select this subprotocol for clients that offer it; repeatable: the first
      of a client's offers that is listed. Default: the client's first offer.
  --no-page
      Do not answer GET / with the built-in page, which connects to the server
      from a browser. WebSockets at / are still served.
  --metrics PATH
      Answer GET PATH with metrics in the Prometheus text format: connections,
      messages, bytes, refusals, closes and durations of loop turns. Every
      client that can reach the server can read them, or with -l metrics:ADDR
      every client that can reach ADDR. Default: /metrics with -l metrics:ADDR,
      otherwise no metrics.
  --trusted-proxy NETWORK
      Read the client's address, for the log and the limits per address, from
      a header of the request if the peer is in NETWORK; repeatable. NETWORK is
      an address (127.0.0.1, ::1), an address with a prefix length (10.0.0.0/8)
      or unix, for the peers on Unix sockets. The client's address is the last
      one in the header that is in no NETWORK. Default: no peer is trusted.
  --forwarded-header x-forwarded-for|forwarded
      Header in which the trusted proxies name the client, X-Forwarded-For or
      Forwarded (RFC 7239); the other one is ignored. Default x-forwarded-for.
  --log-format text|json
      Print the log as text, or as one JSON object per line with a field for
      each figure. Default text.
  -h, --help
  -V, --version

N is a number. BYTES is a number of bytes, or a number with K, M or G (powers
of 1024). TIME is in seconds, or a number with ms, s, m or h, such as 0.5,
500ms or 2m. What follows "above:" happens when a limit is exceeded.

"#,
    tls_flags!(),
    redis_flags!(),
    r#"Sockets:
  --unix-mode OCTAL          permissions of Unix sockets, such as 660; default
                             777 without the bits of the umask
  --reuse-port               let other processes of the same user listen on
                             the same TCP ports (SO_REUSEPORT). The kernel
                             divides new connections among them; a broadcast
                             reaches the clients of one process only"#,
    unless_shared!(),
    r#"
  --tcp-keepalive TIME       probe a peer after this time without traffic, and
                             drop the connection if 3 probes, a third of TIME
                             apart, have no answer; default off
  --tcp-user-timeout TIME    drop a connection if sent data remains
                             unacknowledged this long; default off (Linux)

Messages:
  --message-bytes-max BYTES  payload of one message, default 16M; above: close
                             1009
  --fragments-max N          frames of one message, default 131072; above:
                             close 1008

Connections:
  --head-bytes-max BYTES     request line and headers together, default 16K;
                             above: HTTP 431
  --headers-max N            headers of a request, default 100, at most 124;
                             above: HTTP 431
  --handshake-timeout TIME   from accept to the end of the request, default
                             10s; above: HTTP 408, or nothing if not a single
                             byte has arrived
  --idle-timeout TIME        time without a byte from the peer, default 120s,
                             no limit if 0 or off; above: close 1001
  --ping-interval TIME       time without a byte from the peer until a ping,
                             default 25s, or half of the idle timeout if that
                             is less; no pings if 0 or off
  --close-timeout TIME       time to wait for the peer's Close, default 5s;
                             above: the socket is closed
  --write-timeout TIME       time in which a peer with unsent data must accept
                             64 KiB, or all of it, default 30s; above: the
                             connection is terminated

Data queued for one peer and not yet sent:
  --high-water-bytes BYTES   when more is queued, the server stops reading from
                             the peer, default 1M
  --low-water-bytes BYTES    when no more than this is queued, the server reads
                             from the peer again, default 256K, or a quarter of
                             --high-water-bytes if that flag is at most 256K
  --backlog-bytes-max BYTES  maximum queued, broadcasts not included, default
                             18M, or --high-water-bytes + --message-bytes-max
                             + 1M if either of them is raised; above: the
                             connection is terminated
  --lag-bytes-max BYTES      maximum of queued broadcasts, default 8M; above:
                             what --lag selects
  --lag disconnect|skip      above --lag-bytes-max, close 1013, or skip whole
                             messages up to the newest, default disconnect
  --kernel-unsent-bytes-max BYTES
                             maximum that the kernel accepts from the server
                             and has not sent, default off (up to megabytes);
                             above: the server queues it. With 1K and --lag
                             skip, slow clients receive current messages. A
                             small limit costs throughput. TCP only

Broadcasts:
  --replay N|BYTES           send the last messages on a path to each client
                             that connects to it later: the last N messages, or
                             with K, M or G as many bytes, and never more than
                             --lag-bytes-max; default none
  --replay-bytes-max BYTES   messages that all paths together retain for
                             --replay, and 1 KiB for each path, default 16M;
                             above: the path that was published to least
                             recently loses all of its messages

The server:
  --connections-max N        open connections, default the descriptor limit
                             less 32; above: one whose HTTP response is sent is
                             closed, else the oldest that sent no request in
                             1s; if there is none, the new one gets HTTP 503.
                             At start, the descriptor limit is raised to its
                             hard limit
  --handshakes-max N         connections without a complete request, default
                             4096; above: the oldest of them is closed
  --connections-per-address-max N
                             open connections of one IPv4 address or IPv6 /64,
                             default off; above: HTTP 503
  --handshakes-per-address-max N
                             requests per second of one such address, default
                             off; above: HTTP 429
  --stop-spread TIME         after SIGINT or SIGTERM, the peers are closed with
                             1001 one after the other within this time, default
                             0, all at once
  --shutdown-grace TIME      after the last of these closes, time for the peers
                             to answer, default 10s; above: their connections
                             are terminated. A second SIGINT or SIGTERM
                             terminates them immediately

Every flag has an environment variable: WSLOOP_IDLE_TIMEOUT=2m stands for
--idle-timeout 2m, and WSLOOP_NO_PAGE=1 for --no-page. A flag overrides its
variable. Several values are separated by blanks, as in
WSLOOP_LISTEN='80 unix:/run/ws', but in WSLOOP_ROUTE by line ends. An empty
variable is ignored. A variable WSLOOP_* that belongs to no flag is ignored
with a warning and is no error, because Kubernetes sets some (WSLOOP_PORT).
A flag that has no effect, such as --unix-mode without a Unix socket, is an
error; its variable is ignored with a warning, because several servers may
share an environment. Variables of TLS without a listener with TLS are an
error, so that no server is unencrypted by mistake. There is no configuration
file.

The log is printed on stderr. RUST_LOG sets its level: RUST_LOG=debug logs each
received message, RUST_LOG=off nothing. The server does not wait for the reader
of the log: when 128 KiB are unwritten, lines are dropped, and the log reports
how many.
GET /healthz is answered with 200 as long as the server runs, and GET /readyz
as long as it accepts clients, unless -r or --metrics names that path. After
SIGUSR1 the server drains: it answers GET /readyz and new WebSockets with 503,
and serves the open ones until SIGINT or SIGTERM.
The exit code is 0 after SIGINT or SIGTERM, 1 if the server failed, and 2 if an
argument or a variable is invalid.
"#
);

/// Text of `wsloop echo --help`.
pub(super) const ECHO: &str = r#"Sends each message back to its sender, on every path, until SIGINT or SIGTERM.

Usage: wsloop echo [-l ADDR]... [FLAG]...

  -l, --listen ADDR  PORT, HOST:PORT, [::1]:PORT or unix:PATH, repeatable;
                     default 127.0.0.1:8080
  -h, --help
  -V, --version

Equivalent to: wsloop serve -r '/*=echo'
All other flags and the environment variables of `wsloop serve --help` work
here too, except -r.

Examples:
  wsloop echo
  wsloop echo -l 9000 -l '[::1]:9000'
"#;

/// Text of `wsloop broadcast --help`.
pub(super) const BROADCAST: &str = r#"Sends each message to all clients on the same path, the sender included, until
SIGINT or SIGTERM.

Usage: wsloop broadcast [-l ADDR]... [FLAG]...

  -l, --listen ADDR  PORT, HOST:PORT, [::1]:PORT or unix:PATH, repeatable;
                     default 127.0.0.1:8080
  -h, --help
  -V, --version

Equivalent to: wsloop serve -r '/*=broadcast'
All other flags and the environment variables of `wsloop serve --help` work
here too, except -r.

Examples:
  wsloop broadcast -l 127.0.0.1:8181
  wsloop broadcast --lag skip --lag-bytes-max 1M
  wsloop broadcast --replay 20
"#;

/// Text of `wsloop bench --help`.
#[cfg(feature = "bench")]
pub(super) const BENCH: &str = r#"Puts load on a WebSocket server and measures it, as wrk does for HTTP.

Usage: wsloop bench [FLAG]... URL

URL is [ws://][USER:PASSWORD@]HOST[:PORT][/PATH][?QUERY], wss:// for TLS, or
PORT[/PATH] on 127.0.0.1. N is a number. BYTES is a number, or one with K, M
or G (powers of 1024). TIME is in seconds, or a number with ms, s, m or h.

The load:
  -c, --connections N     connections to open, default 100
  -d, --duration TIME     length of the measurement, default 10s
  -s, --size BYTES        payload of each message, default 20
  -p, --in-flight N       unanswered messages per connection, default 1: the
                          next message is sent when an answer arrives
      --rate N            instead of -p: messages per second over all
                          connections, sent even if answers are pending;
                          latency is counted from the scheduled time, which
                          corrects for coordinated omission
      --text, --binary    type of the messages, default text
      --mode echo         the server answers each message; the default
      --mode broadcast    rounds: some connections send, all connections
                          receive every message, then the next round starts;
                          latency is the duration of a round
      --senders N         connections that send in a broadcast, default all
                          connections
      --burst N           messages per sender and round, default 1
      --connect-rate N    connections to start per second; without it as many
                          as the server accepts. At most 4096 opening
                          handshakes are pending at a time
      --warmup TIME       load before the measurement, default 1s
      --timeout TIME      maximum time of an opening handshake, and maximum
                          time without received data while an answer is
                          pending, default 10s; above: an error is counted

The opening handshake:
  -H, --header NAME:VALUE  add a header, such as Authorization, or replace
                          Host; repeatable
      --subprotocol NAME  offer a subprotocol; repeatable
  -o, --origin ORIGIN     set the Origin header, exactly as written
      --skip-greeting N   do not take the first N messages of each connection
                          for answers. Default: those that arrive within 50ms
                          of the last opening handshake, and if the server
                          returns what it receives, those before the first
                          returned message

TLS 1.2 or 1.3, in a binary with the cargo feature tls-client. The certificate
must have the host of the URL as a name:
      --ca FILE           trust only the authorities in FILE (PEM), instead of
                          those of SSL_CERT_FILE and SSL_CERT_DIR, or of the
                          system
      --insecure          accept every certificate
      --cert FILE         client certificate and its chain (PEM)
      --key FILE          its private key (PEM), if not in the same file
      --tls-resume        open and close all connections once, then open them
                          again and resume their sessions, without full
                          handshakes

The report:
      --latency           add latency percentiles
      --chart FILE.svg    draw latency percentiles and throughput over time,
                          and the distribution of the latencies; not written
                          if nothing was measured
      --verify            compare the content of every received message
      --json              print one JSON object on one line, with latencies
                          in microseconds
      --pid PID           add figures of the server's process (Linux): CPU
                          time per message during the measurement, and memory
                          per connection, as the difference between before
                          the first connection and after the last message
  -h, --help
  -V, --version

Each message is one frame. All are copies of one frame with one masking key,
encoded before the start. Errors are failed connects, reads and writes,
timeouts, mismatches (an unexpected message or, with --verify, one with other
content) and missing messages. They are counted over the whole run, including
the opening handshakes and the warm-up.
Answers are late if they arrive after the measurement, within --timeout; they
count in no rate, but with --rate in the latencies. Never answered are messages
without an answer at the end of the run, such as those of lost connections. If
a signal ends the run, the answers pending then are neither late nor never.
While the load runs, a terminal on stderr shows rate and p99 each second.
SIGINT or SIGTERM ends the run early; the results until then are printed. The
exit code is 1 if nothing was measured, if the chart cannot be written (checked
before the load starts), or with --verify if there were mismatches.

Examples:
  wsloop bench ws://127.0.0.1:8080/
  wsloop bench -c 100 -p 32 -d 30s --latency ws://127.0.0.1:8080/
  wsloop bench --rate 10000 --latency ws://127.0.0.1:8080/
  wsloop bench -H 'Authorization: Bearer x' --chart a.svg ws://127.0.0.1:8080/
  wsloop bench --mode broadcast -c 50 --burst 16 ws://127.0.0.1:8181/
"#;

/// Text of `wsloop connect --help`.
#[cfg(feature = "connect")]
pub(super) const CONNECT: &str = r#"Connects to a WebSocket server, sends each line of stdin as a text message, and
prints each received message on a line of stdout.

Usage: wsloop connect [FLAG]... URL

URL is one of these:
  [ws://][USER:PASSWORD@]HOST[:PORT][/PATH][?QUERY], or with wss:// for TLS
  PORT[/PATH]              on 127.0.0.1; also :PORT[/PATH]
  unix:SOCKET[:/PATH]      the path of a Unix socket, and the path to request
TIME is in seconds, or a number with ms, s, m or h. BYTES is a number of bytes,
or a number with K, M or G (powers of 1024).

The opening handshake:
  -H, --header NAME:VALUE  add a header, or replace Host; repeatable
  -s, --subprotocol NAME   offer a subprotocol; repeatable
  -o, --origin ORIGIN      set the Origin header, exactly as written
      --connect-timeout TIME  maximum until the server's response, default 10s
  -v, --verbose            print the heads of request and response on stderr;
                           the value of Authorization is hidden

TLS 1.2 or 1.3, in a binary with the cargo feature tls-client. The certificate
must have the host of the URL as a name, also if -H replaces Host:
      --ca FILE            trust only the authorities in FILE (PEM), instead of
                           those of SSL_CERT_FILE and SSL_CERT_DIR, or of the
                           system
      --insecure           accept every certificate
      --cert FILE          client certificate and its chain (PEM)
      --key FILE           its private key (PEM), if not in the same file

Sending:
  -x, --execute MESSAGE    send MESSAGE and do not read stdin; repeatable
      --binary             send binary messages: one per line if stdin is a
                           terminal, otherwise all of stdin as one message
      --ping TIME          send a ping at this interval and print the time
                           until its pong, on stderr (on stdout if that is a
                           terminal)

On a terminal, lines of any length are edited with the keys of shells: arrows,
Home, End, Ctrl-A E W U K Y L, Alt-B F D; Up and Down show earlier lines, which
are kept in memory only. Ctrl-V inserts the next key as it is, such as Tab or
Enter. Ctrl-D ends the input.
      --plain              do not edit lines: leave that to the terminal, which
                           limits a line to 4095 bytes on Linux

Closing:
  After the last line or -x, a Close is sent when as many messages have arrived
  as were sent. It is also sent when none has arrived for 2s; this is reported
  on stderr (on stdout if that is a terminal), and is no error. Every message
  counts as an answer, also one that the server sends by itself. Messages that
  arrive before the server's Close are printed.
  -w, --wait TIME          send the Close this long after the last line or -x
  -n, --no-close           do not send a Close: stay connected until the server
                           closes or a signal arrives
      --close-timeout TIME  maximum time without a message or a Close from the
                           server after our Close, default 10s; above: error.
                           If the server continues to send messages, error
                           after 60s, or after TIME if that is longer
  Ctrl-C also sends a Close. If a Close was already sent, Ctrl-C ends the
  program immediately.

Output:
  Text messages are printed as they are, binary messages in hexadecimal, each
  followed by a line end. With --binary, binary messages are written as raw
  bytes with nothing between them, unless stdout is a terminal. On a terminal
  there are a prompt and colours (unless NO_COLOR is set), control characters
  are escaped, and the first 1024 bytes of a binary message are shown. The
  status and body of a refused request are printed on stderr.
      --message-bytes-max BYTES  maximum payload of a message, default 64M;
                           above: close 1009 if received, error if to be sent
  -h, --help
  -V, --version

The exit code is 0 if both sides sent a Close, the server's with code 1000 or
none. Otherwise it is 1, and the reason is printed on stderr.

Examples:
  wsloop connect ws://127.0.0.1:8080/echo
  wsloop connect -x hello -w 500ms ws://127.0.0.1:8181/
  wsloop connect -n --ping 1 -H 'Cookie: a=b' -s chat ws://127.0.0.1:8080/chat
  wsloop connect --binary ws://127.0.0.1:8080/echo
"#;
