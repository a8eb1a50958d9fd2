use super::*;
use std::time::Duration;

/// A client of a scripted broker, and the time.
struct Script {
    protocol: Protocol,
    now: Instant,
}

/// A [`Step`] with copies of its parts, or an error.
#[derive(Debug, PartialEq, Eq)]
enum Seen {
    Connected,
    Subscribed(String),
    Message(String, String),
    TooLong(String, u64),
    Acknowledged(u64),
    Failed(String),
    FailedForGood(String),
}

const HELLO: &str = "%7\r\n$6\r\nserver\r\n$5\r\nredis\r\n$7\r\nversion\r\n$6\r\n7.0.15\r\n$5\r\nproto\r\n:3\r\n\
    $2\r\nid\r\n:7\r\n$4\r\nmode\r\n$10\r\nstandalone\r\n$4\r\nrole\r\n$6\r\nmaster\r\n$7\r\nmodules\r\n*0\r\n";
const ROLE_CHECK: &str = "*2\r\n$5\r\nHELLO\r\n$1\r\n3\r\n";
const PROBE_CHANNEL: &str = "wsloop:probe:00000000deadbeef";

fn push(kind: &str, channel: &str, last: &str) -> String {
    let (kind_len, channel_len) = (kind.len(), channel.len());
    format!(">3\r\n${kind_len}\r\n{kind}\r\n${channel_len}\r\n{channel}\r\n{last}\r\n")
}

fn message(channel: &str, payload: &str) -> String {
    push(
        "message",
        channel,
        &format!("${}\r\n{payload}", payload.len()),
    )
}

fn confirmation(channel: &str) -> String {
    push("subscribe", channel, ":1")
}

/// Returns the reply to `CLIENT LIST`.
fn verbatim(text: &str) -> String {
    format!("={}\r\ntxt:{text}\r\n", 4 + text.len())
}

impl Script {
    fn new(url: &str) -> Self {
        Self {
            protocol: Protocol::new(url.parse().unwrap()),
            now: Instant::now(),
        }
    }

    /// Returns a client whose connection is established.
    fn established() -> Self {
        let mut script = Self::new("redis://h");
        script.establish();
        assert_eq!(script.output(), "");
        script
    }

    /// Establishes a connection without an earlier one.
    fn establish(&mut self) {
        self.protocol.connected(self.now, 0xdead_beef);
        let _ = self.output();
        let welcome = self.welcome();
        assert_eq!(self.receive(&welcome), [Seen::Connected]);
    }

    /// Returns the broker's answers to a greeting without `CLIENT LIST`.
    fn welcome(&self) -> String {
        let probe = message(PROBE_CHANNEL, "probe");
        [HELLO, &confirmation(PROBE_CHANNEL), &probe, ":1\r\n"].concat()
    }

    fn wait(&mut self, ms: u64) {
        self.now += Duration::from_millis(ms);
    }

    /// Writes all bytes that may be written. Returns them.
    fn output(&mut self) -> String {
        self.protocol.flush();
        let mut all = Vec::new();
        while self.protocol.has_output() {
            all.extend(self.write(usize::MAX));
        }
        String::from_utf8(all).unwrap()
    }

    /// Returns the output without a check of the role, and answers the check if there was one.
    fn output_besides_role(&mut self) -> String {
        let output = self.output();
        let rest = output.replace(ROLE_CHECK, "");
        if rest.len() < output.len() {
            assert_eq!(self.receive(HELLO), []);
        }
        rest
    }

    /// Writes once, at most `bytes_max` bytes. Returns them.
    fn write(&mut self, bytes_max: usize) -> Vec<u8> {
        let mut slices = [IoSlice::new(&[]); 16];
        let count = self.protocol.output(&mut slices);
        let mut bytes = Vec::new();
        for slice in &slices[..count] {
            bytes.extend_from_slice(slice);
        }
        bytes.truncate(bytes_max);
        self.protocol.written(bytes.len(), self.now);
        bytes
    }

    /// Receives bytes at once. Returns the steps that they cause.
    fn receive(&mut self, bytes: &str) -> Vec<Seen> {
        self.receive_in_steps(bytes.as_bytes(), usize::MAX)
    }

    /// Receives bytes, at most `step` at a time. Returns the steps that they cause.
    fn receive_in_steps(&mut self, bytes: &[u8], step: usize) -> Vec<Seen> {
        let (mut seen, mut rest) = (Vec::new(), bytes);
        while !rest.is_empty() {
            let space = self.protocol.space();
            let (part, after) = rest.split_at(rest.len().min(step).min(space.len()));
            space[..part.len()].copy_from_slice(part);
            self.protocol.received(part.len(), self.now);
            rest = after;
            loop {
                let next = self.protocol.next(self.now);
                match next {
                    Ok(Some(step)) => seen.push(self.seen(step)),
                    Ok(None) => break,
                    Err(error) => {
                        seen.push(failed(&error));
                        return seen;
                    }
                }
            }
        }
        seen
    }

    fn seen(&self, step: Step) -> Seen {
        let text = |range| String::from_utf8(self.protocol.bytes(range).into()).unwrap();
        match step {
            Step::Connected => Seen::Connected,
            Step::Subscribed { topic } => Seen::Subscribed(text(topic)),
            Step::Message { topic, payload } => Seen::Message(text(topic), text(payload)),
            Step::TooLong { topic, bytes } => Seen::TooLong(text(topic), bytes),
            Step::Acknowledged(count) => Seen::Acknowledged(count),
        }
    }

    /// Returns the error if the connection is stale at the current time.
    fn stale(&mut self) -> Option<String> {
        self.protocol
            .check(self.now)
            .err()
            .map(|error| error.to_string())
    }
}

fn failed(error: &BackplaneError) -> Seen {
    match error.is_permanent() {
        true => Seen::FailedForGood(error.to_string()),
        false => Seen::Failed(error.to_string()),
    }
}

fn seen_message(topic: &str, payload: &str) -> Seen {
    Seen::Message(topic.into(), payload.into())
}

fn published(channel: &str, payload: &str) -> String {
    let (channel_len, payload_len) = (channel.len(), payload.len());
    format!("*3\r\n$7\r\nPUBLISH\r\n${channel_len}\r\n{channel}\r\n${payload_len}\r\n{payload}\r\n")
}

#[test]
fn the_greeting_has_the_credentials_the_name_and_a_probe() {
    let hello = |words: &str| {
        format!(
            "{words}$7\r\nSETNAME\r\n$15\r\nwsloop-deadbeef\r\n*2\r\n$9\r\nSUBSCRIBE\r\n$29\r\n{PROBE_CHANNEL}\r\n{}",
            published(PROBE_CHANNEL, "probe")
        )
    };
    let table = [
        ("redis://h", "*4\r\n$5\r\nHELLO\r\n$1\r\n3\r\n"),
        (
            "redis://:pw@h",
            "*7\r\n$5\r\nHELLO\r\n$1\r\n3\r\n$4\r\nAUTH\r\n$7\r\ndefault\r\n$2\r\npw\r\n",
        ),
        (
            "redis://bob:p%0D%0Aw@h",
            "*7\r\n$5\r\nHELLO\r\n$1\r\n3\r\n$4\r\nAUTH\r\n$3\r\nbob\r\n$4\r\np\r\nw\r\n",
        ),
        (
            "redis://bob@h",
            "*7\r\n$5\r\nHELLO\r\n$1\r\n3\r\n$4\r\nAUTH\r\n$3\r\nbob\r\n$0\r\n\r\n",
        ),
    ];
    for (url, words) in table {
        let mut script = Script::new(url);
        assert!(!script.protocol.has_output());
        script.protocol.connected(script.now, 0xdead_beef);
        assert_eq!(script.output(), hello(words), "{url}");
    }
}

#[test]
fn the_connection_is_established_when_the_probe_and_its_reply_have_arrived_in_either_order() {
    let confirmation = confirmation(PROBE_CHANNEL);
    let probe = message(PROBE_CHANNEL, "probe");
    for tail in [[&probe, ":1\r\n"], [":1\r\n", &probe]] {
        let mut script = Script::new("redis://h");
        script.protocol.connected(script.now, 0xdead_beef);
        let _ = script.output();
        assert_eq!(script.receive(HELLO), []);
        assert_eq!(script.receive(&confirmation), []);
        assert_eq!(script.receive(tail[0]), []);
        assert_eq!(script.receive(tail[1]), [Seen::Connected]);
    }
}

#[test]
fn a_greeting_that_is_refused_is_an_error_with_the_remedy() {
    let sentinel = HELLO.replace("$10\r\nstandalone", "$8\r\nsentinel");
    let resp2 = HELLO.replace("%7", "*14").replace(":3", ":2");
    let permanent = [
        ("-WRONGPASS invalid username-password pair\r\n", "correct"),
        ("-NOAUTH HELLO must be called\r\n", "needs a password"),
        ("-NOPROTO unsupported protocol version\r\n", "Redis 7"),
        (
            "-ERR unknown command `HELLO`, with args beginning with: `3`, `AUTH`, `x`, `sEcret`\r\n",
            "Redis 7",
        ),
        ("-DENIED Redis is running in protected mode\r\n", "password"),
        ("+OK\r\n", "RESP3"),
        (":1\r\n", "RESP3"),
        (resp2.as_str(), "RESP3"),
        (sentinel.as_str(), "Sentinel"),
        ("HTTP/1.1 400 Bad Request\r\n", "neither Redis nor Valkey"),
    ];
    for (reply, remedy) in permanent {
        let mut script = Script::new("redis://:sEcret@h");
        script.protocol.connected(script.now, 0xdead_beef);
        let _ = script.output();
        let seen = script.receive(reply);
        let [Seen::FailedForGood(text)] = &seen[..] else {
            panic!("{reply}: {seen:?}");
        };
        assert!(text.contains(remedy), "{reply}: {text}");
        assert!(!text.contains("sEcret"), "{text}");
        assert_eq!(script.protocol.disconnected(), 0);
    }
    // An error to the SUBSCRIBE of the probe's channel.
    let mut script = Script::new("redis://h");
    script.protocol.connected(script.now, 0xdead_beef);
    let _ = script.output();
    let seen = script.receive(&format!(
        "{HELLO}-NOPERM No permissions to access a channel\r\n"
    ));
    let [Seen::FailedForGood(text)] = &seen[..] else {
        panic!("{seen:?}");
    };
    assert!(text.contains("&wsloop:*"), "{text}");
    for reply in [
        "-ERR max number of clients reached\r\n",
        "-LOADING Redis is loading the dataset in memory\r\n",
    ] {
        let mut script = Script::new("redis://h");
        script.protocol.connected(script.now, 0xdead_beef);
        let seen = script.receive(reply);
        assert!(matches!(&seen[..], [Seen::Failed(_)]), "{seen:?}");
    }
}

#[test]
fn everything_that_a_broker_sends_is_understood_at_every_size_of_a_read() {
    let conversation = [
        ":1\r\n",
        &confirmation("wsloop:/a"),
        &message("wsloop:/a", "one"),
        ":0\r\n:2\r\n",
        // Attributes, other kinds of push, other channels, names that are not UTF-8.
        "|1\r\n+key-popularity\r\n%1\r\n$1\r\na\r\n,0.19\r\n",
        &message("wsloop:/é", ""),
        &push("unsubscribe", "wsloop:/a", ":0"),
        &push("invalidate", "x", "_"),
        &push("message", "x:/a", "$1\r\ny"),
        ">2\r\n+tracking\r\n*1\r\n$3\r\nkey\r\n",
        &message(PROBE_CHANNEL, "again"),
    ]
    .concat();
    let mut conversation = conversation.into_bytes();
    conversation.extend_from_slice(b">3\r\n$7\r\nmessage\r\n$9\r\nwsloop:\xff\xff\r\n$1\r\nx\r\n");
    conversation.extend_from_slice(message("wsloop:", "\r\n:1\r\n").as_bytes());
    for step in [usize::MAX, 1, 2, 3, 5, 11] {
        let mut script = Script::established();
        script.protocol.subscribe("/a");
        for payload in ["one", "two", "three"] {
            script.protocol.publish("/a", payload.as_bytes());
        }
        let _ = script.output();
        let mut seen = script.receive_in_steps(&conversation, step);
        // Acknowledgements that arrive together are one step, so only their sum is compared.
        let mut acknowledged = 0;
        seen.retain(|seen| match seen {
            Seen::Acknowledged(count) => {
                acknowledged += count;
                false
            }
            _ => true,
        });
        assert_eq!(acknowledged, 3, "{step}");
        let expected = [
            Seen::Subscribed("/a".into()),
            seen_message("/a", "one"),
            seen_message("/é", ""),
            seen_message("", "\r\n:1\r\n"),
        ];
        assert_eq!(seen, expected, "{step}");
    }
}

#[test]
fn subscriptions_are_sent_in_batches_and_in_the_order_of_the_calls() {
    let mut script = Script::established();
    for number in 0..1100 {
        script.protocol.subscribe(&format!("/{number}"));
    }
    script.protocol.publish("/0", b"x");
    script.protocol.unsubscribe("/0");
    script.protocol.subscribe("/1");
    let output = script.output();
    let commands: Vec<&str> = output.split('*').filter(|text| !text.is_empty()).collect();
    let begins = [
        "513\r\n$9\r\nSUBSCRIBE\r\n$9\r\nwsloop:/0\r\n",
        "513\r\n$9\r\nSUBSCRIBE\r\n$11\r\nwsloop:/512\r\n",
        "77\r\n$9\r\nSUBSCRIBE\r\n$12\r\nwsloop:/1024\r\n",
        "3\r\n$7\r\nPUBLISH\r\n$9\r\nwsloop:/0\r\n",
        "2\r\n$11\r\nUNSUBSCRIBE\r\n$9\r\nwsloop:/0\r\n",
        "2\r\n$9\r\nSUBSCRIBE\r\n$9\r\nwsloop:/1\r\n",
    ];
    assert_eq!(commands.len(), begins.len());
    for (command, begin) in commands.iter().zip(begins) {
        assert!(command.starts_with(begin), "{command}");
    }
}

#[test]
fn publications_that_were_not_written_follow_the_next_subscriptions() {
    let mut script = Script::established();
    let one = published("wsloop:/a", "one");
    for payload in ["one", "two", "three"] {
        script.protocol.publish("/a", payload.as_bytes());
    }
    script.protocol.flush();
    script.write(one.len() + 5);
    assert_eq!(script.protocol.disconnected(), 1);
    script.protocol.publish("/b", b"while away");
    assert!(!script.protocol.has_output());
    let waiting = [
        published("wsloop:/a", "two"),
        published("wsloop:/a", "three"),
        published("wsloop:/b", "while away"),
    ]
    .concat();
    assert_eq!(script.protocol.outbox_bytes(), waiting.len());

    script.protocol.connected(script.now, 0xdead_beef);
    assert!(!script.output().contains("while away"));
    let list = verbatim("");
    let welcome = script
        .welcome()
        .replacen(HELLO, &[HELLO, &list].concat(), 1);
    assert_eq!(script.receive(&welcome), [Seen::Connected]);
    assert!(!script.protocol.has_output());
    script.protocol.publish("/b", b"new");
    script.protocol.subscribe("/a");
    script.protocol.subscribe("/b");
    let subscribe = "*3\r\n$9\r\nSUBSCRIBE\r\n$9\r\nwsloop:/a\r\n$9\r\nwsloop:/b\r\n";
    let new = published("wsloop:/b", "new");
    assert_eq!(script.output(), [subscribe, &waiting, &new].concat());
    assert_eq!(script.protocol.outbox_bytes(), 0);
    let seen = script.receive(":1\r\n:1\r\n:1\r\n:1\r\n");
    assert_eq!(seen, [Seen::Acknowledged(4)]);
}

#[test]
fn discarded_publications_are_counted_and_never_written() {
    let mut script = Script::established();
    script.protocol.publish("/a", b"one");
    assert_eq!(script.protocol.disconnected(), 0);
    script.protocol.publish("/a", b"two");
    assert_eq!(script.protocol.discard_outbox(), 2);
    assert_eq!(script.protocol.outbox_bytes(), 0);
    script.establish_again(&verbatim(""));
    assert_eq!(script.output(), "");
}

impl Script {
    /// Establishes a connection after an earlier one. `list` is the reply to `CLIENT LIST ID` for the earlier one.
    fn establish_again(&mut self, list: &str) {
        self.protocol.connected(self.now, 0xdead_beef);
        let _ = self.output();
        let welcome = self.welcome().replacen(HELLO, &[HELLO, list].concat(), 1);
        assert_eq!(self.receive(&welcome), [Seen::Connected]);
    }
}

#[test]
fn an_earlier_connection_that_is_still_there_is_killed_before_this_one_is_used() {
    let there = verbatim("id=7 addr=1.2.3.4:5 name=wsloop-deadbeef age=9 db=0\n");
    let mut script = Script::established();
    script.protocol.disconnected();
    script.protocol.connected(script.now, 0xdead_beef);
    let list = "*4\r\n$6\r\nCLIENT\r\n$4\r\nLIST\r\n$2\r\nID\r\n$1\r\n7\r\n";
    assert!(script.output().contains(list));
    let welcome = script
        .welcome()
        .replacen(HELLO, &[HELLO, &there].concat(), 1);
    assert_eq!(script.receive(&welcome), []);
    let kill = "*4\r\n$6\r\nCLIENT\r\n$4\r\nKILL\r\n$2\r\nID\r\n$1\r\n7\r\n";
    assert_eq!(script.output(), kill);
    assert_eq!(script.receive(":1\r\n"), [Seen::Connected]);
}

#[test]
fn another_client_with_the_number_of_the_earlier_connection_is_not_killed() {
    for list in [
        &verbatim(""),
        &verbatim("id=7 addr=1.2.3.4:5 name=wsloop-deadbeee age=9 db=0\n"),
        &verbatim("id=7 addr=1.2.3.4:5 name=wsloop-deadbeef0 age=9 db=0\n"),
        "$4\r\nid=7\r\n",
        "-NOPERM this user has no permissions to run the 'client|list' command\r\n",
        "-ERR syntax error\r\n",
    ] {
        let mut script = Script::established();
        script.protocol.disconnected();
        script.establish_again(list);
        assert_eq!(script.output(), "", "{list}");
    }
}

#[test]
fn a_script_that_runs_during_the_greeting_does_not_save_the_earlier_connection() {
    let busy = "-BUSY Redis is busy running a script.\r\n";
    let there = verbatim("id=7 addr=1.2.3.4:5 name=wsloop-deadbeef age=9 db=0\n");
    let list = "$4\r\nLIST\r\n$2\r\nID\r\n$1\r\n7\r\n";
    let mut script = Script::established();
    script.protocol.disconnected();
    // The reply to CLIENT LIST, then the reply to CLIENT KILL.
    for is_listed in [false, true] {
        script.protocol.connected(script.now, 0xdead_beef);
        assert!(script.output().contains(list), "listed: {is_listed}");
        if is_listed {
            let welcome = script
                .welcome()
                .replacen(HELLO, &[HELLO, &there].concat(), 1);
            assert_eq!(script.receive(&welcome), []);
            assert!(script.output().contains("KILL"));
        } else {
            assert_eq!(script.receive(HELLO), []);
        }
        let seen = script.receive(busy);
        assert!(matches!(&seen[..], [Seen::Failed(_)]), "{seen:?}");
        script.protocol.disconnected();
    }
    script.protocol.connected(script.now, 0xdead_beef);
    assert!(script.output().contains(list));
}

#[test]
fn after_an_attempt_that_fails_the_next_kills_the_earlier_connection() {
    let mut script = Script::established();
    script.protocol.disconnected();
    for _ in 0..2 {
        script.protocol.connected(script.now, 0x1234_5678);
        assert!(
            script
                .output()
                .contains("$4\r\nLIST\r\n$2\r\nID\r\n$1\r\n7\r\n")
        );
        script.protocol.disconnected();
    }
    // Without an established connection, no publication was written, so nothing is to be killed.
    let mut script = Script::new("redis://h");
    script.protocol.connected(script.now, 1);
    let _ = script.output();
    assert_eq!(script.receive(HELLO), []);
    script.protocol.disconnected();
    script.protocol.connected(script.now, 2);
    assert!(!script.output().contains("LIST"));
}

#[test]
fn an_error_to_a_publication_or_subscription_ends_the_connection() {
    let mut script = Script::established();
    script.protocol.publish("/a", b"one");
    script.protocol.publish("/a", b"two");
    script.protocol.publish("/a", b"three");
    let _ = script.output();
    let seen = script.receive(":1\r\n-NOPERM No permissions to access a channel\r\n");
    let [Seen::Acknowledged(1), Seen::FailedForGood(text)] = &seen[..] else {
        panic!("{seen:?}");
    };
    assert!(text.contains("ACL SETUSER"), "{text}");
    assert_eq!(script.protocol.disconnected(), 2);

    let mut script = Script::established();
    script.protocol.publish("/a", b"one");
    let _ = script.output();
    let seen = script.receive("-OOM command not allowed\r\n");
    assert!(matches!(&seen[..], [Seen::Failed(_)]), "{seen:?}");
    assert_eq!(script.protocol.disconnected(), 1);
}

#[test]
fn a_reply_that_was_not_asked_for_ends_the_connection() {
    for reply in [":1\r\n", "+OK\r\n", "*0\r\n"] {
        let mut script = Script::established();
        let seen = script.receive(reply);
        assert!(matches!(&seen[..], [Seen::Failed(_)]), "{seen:?}");
    }
    let mut script = Script::established();
    script.protocol.publish("/a", b"one");
    let _ = script.output();
    let seen = script.receive("+QUEUED\r\n");
    assert!(matches!(&seen[..], [Seen::Failed(_)]), "{seen:?}");
    let mut script = Script::established();
    let seen = script.receive("?");
    assert!(matches!(&seen[..], [Seen::Failed(_)]), "{seen:?}");
}

#[test]
fn acknowledgements_before_an_error_are_reported_before_it() {
    let table = [
        ("HTTP/1.1 400\r\n", "what is not RESP3"),
        (":x\r\n", "what is not RESP3"),
        ("-ERR no\r\n", "ERR no"),
        ("+OK\r\n", "not asked for"),
        (":1\r\n:1\r\n", "not asked for"),
    ];
    for (bytes, text) in table {
        for step in [1, usize::MAX] {
            let mut script = Script::established();
            for payload in ["a", "b", "c"] {
                script.protocol.publish("/t", payload.as_bytes());
            }
            let _ = script.output();
            let mut seen = script.receive_in_steps(format!(":1\r\n:1\r\n{bytes}").as_bytes(), step);
            let Some(Seen::Failed(error)) = seen.pop() else {
                panic!("{seen:?} after {bytes:?}");
            };
            assert!(error.contains(text), "{error}");
            let acknowledged = seen.iter().map(|seen| match seen {
                Seen::Acknowledged(count) => *count,
                other => panic!("{other:?} after {bytes:?}"),
            });
            let acknowledged = acknowledged.sum::<u64>();
            let unacknowledged = script.protocol.disconnected();
            assert_eq!(acknowledged + unacknowledged, 3, "{bytes:?}");
        }
    }
}

#[test]
fn a_message_above_the_limit_is_reported_and_the_connection_goes_on() {
    let mut script = Script::new("redis://h");
    script.protocol.set_payload_bytes_max(1000);
    script.establish();
    let long = "x".repeat(1_000_000);
    let bytes = [message("wsloop:/a", &long), message("wsloop:/a", "next")].concat();
    let seen = script.receive(&bytes);
    let expected = [
        Seen::TooLong("/a".into(), 1_000_000),
        seen_message("/a", "next"),
    ];
    assert_eq!(seen, expected);
    // The longest payload is received whole.
    let longest = "x".repeat(1000);
    let seen = script.receive(&message("wsloop:/a", &longest));
    assert_eq!(seen, [seen_message("/a", &longest)]);
}

#[test]
fn a_publication_without_a_reply_makes_the_connection_stale_after_5_s() {
    let mut script = Script::established();
    script.protocol.publish("/a", b"one");
    script.wait(1000);
    let _ = script.output();
    script.protocol.publish("/a", b"two");
    script.wait(1000);
    let _ = script.output();
    // 4 s do not end the connection, so neither does a pause of 3 s.
    script.wait(3999);
    assert_eq!(script.stale(), None);
    // A reply is progress: the time begins again.
    assert_eq!(script.receive(":1\r\n"), [Seen::Acknowledged(1)]);
    script.wait(4999);
    // The probe that is due by now was written, and is not answered either.
    let _ = script.receive(&message("wsloop:/b", "x"));
    assert_eq!(script.stale(), None);
    script.wait(10);
    let stale = script.stale().unwrap();
    assert!(stale.contains("replied"), "{stale}");
    assert_eq!(script.protocol.disconnected(), 1);
}

#[test]
fn a_subscription_without_a_confirmation_makes_the_connection_stale() {
    let mut script = Script::established();
    script.protocol.subscribe("/a");
    script.protocol.subscribe("/b");
    let _ = script.output();
    script.wait(4000);
    let seen = script.receive(&confirmation("wsloop:/a"));
    assert_eq!(seen, [Seen::Subscribed("/a".into())]);
    script.wait(4900);
    assert_eq!(script.stale(), None);
    script.wait(200);
    let stale = script.stale().unwrap();
    assert!(stale.contains("confirmed"), "{stale}");
}

#[test]
fn a_silent_connection_is_probed_and_stale_if_only_replies_come() {
    let mut script = Script::established();
    assert_eq!(
        script.protocol.deadline(),
        Some(script.now + Duration::from_secs(5))
    );
    for _ in 0..3 {
        script.wait(4999);
        assert_eq!(script.stale(), None);
        assert_eq!(script.output_besides_role(), "");
        script.wait(1);
        assert_eq!(script.stale(), None);
        assert_eq!(script.stale(), None);
        assert_eq!(
            script.output_besides_role(),
            published(PROBE_CHANNEL, "probe")
        );
        script.wait(100);
        let seen = script.receive(&[":1\r\n", &message(PROBE_CHANNEL, "probe")].concat());
        assert_eq!(seen, []);
    }
    // Publications are answered, but no message arrives. This is detected within two intervals of the probe.
    let silent_since = script.now;
    let stale = loop {
        script.wait(100);
        script.protocol.publish("/a", b"x");
        let replies = script.output_besides_role().matches("PUBLISH").count();
        let _ = script.receive(&":1\r\n".repeat(replies));
        if let Some(stale) = script.stale() {
            break stale;
        }
    };
    assert!(stale.contains("deliver"), "{stale}");
    assert!(script.now - silent_since <= Duration::from_millis(10_200));
}

#[test]
fn messages_of_others_make_probes_unnecessary() {
    let mut script = Script::established();
    for _ in 0..20 {
        script.wait(1000);
        let seen = script.receive(&message("wsloop:/a", "x"));
        assert_eq!(seen.len(), 1);
        assert_eq!(script.stale(), None);
        assert_eq!(script.output_besides_role(), "");
    }
    // So do the parts of a message that takes a minute to arrive.
    let long = message("wsloop:/a", &"x".repeat(60));
    let (first, last) = long.split_at(long.len() - 62);
    assert_eq!(script.receive(first), []);
    for byte in last.as_bytes() {
        script.wait(1000);
        assert_eq!(script.stale(), None);
        let output = script.output();
        assert!(output.is_empty() || output == ROLE_CHECK, "{output}");
        let _ = script.receive_in_steps(&[*byte], 1);
    }
}

#[test]
fn a_push_behind_a_reply_makes_a_probe_unnecessary_whether_both_arrive_at_once_or_byte_by_byte() {
    let long = format!(
        ">3\r\n$7\r\nmessage\r\n$9\r\nwsloop:/t\r\n$70000\r\n{}\r\n",
        "x".repeat(70_000)
    );
    let unknown = ">2\r\n$10\r\ninvalidate\r\n_\r\n".to_owned();
    for push in [message("wsloop:/t", "a"), unknown, long] {
        for step in [1, usize::MAX] {
            let mut script = Script::new("redis://h");
            script.protocol.set_payload_bytes_max(1000);
            script.establish();
            script.protocol.publish("/t", b"x");
            let _ = script.output();
            script.wait(1000);
            script.receive_in_steps(format!(":1\r\n{push}").as_bytes(), step);
            let expected = script.now + Duration::from_millis(5000);
            assert_eq!(
                script.protocol.deadline(),
                Some(expected),
                "{step}: {push:.30}"
            );
        }
    }
}

#[test]
fn a_socket_that_accepts_nothing_makes_the_connection_stale() {
    let mut script = Script::established();
    script.protocol.publish("/a", &[b'x'; 100_000]);
    script.protocol.flush();
    script.write(64_000);
    script.protocol.blocked(script.now);
    // 1 s more than 5 s, because 64 KB are in transit.
    script.wait(5990);
    let _ = script.receive(&message("wsloop:/b", "x"));
    assert_eq!(script.stale(), None);
    script.wait(10);
    let stale = script.stale().unwrap();
    assert!(stale.contains("accepted"), "{stale}");
    assert_eq!(script.protocol.disconnected(), 0);
    assert!(script.protocol.outbox_bytes() > 100_000);
}

#[test]
fn a_greeting_that_is_not_answered_fails_after_5_s() {
    for (received, reason) in [
        (String::new(), "replied"),
        (format!("{HELLO}:1\r\n"), "deliver"),
    ] {
        let mut script = Script::new("redis://h");
        script.protocol.connected(script.now, 0xdead_beef);
        let _ = script.output();
        assert_eq!(script.receive(&received), []);
        script.wait(4999);
        assert_eq!(script.stale(), None);
        let deadline = script.now + Duration::from_millis(1);
        assert_eq!(script.protocol.deadline(), Some(deadline));
        script.wait(1);
        let stale = script.stale().unwrap();
        assert!(stale.contains(reason), "{stale}");
    }
}

#[test]
fn at_most_the_window_is_written_and_not_answered() {
    let mut script = Script::established();
    let payload = vec![b'x'; 1000];
    for _ in 0..2000 {
        script.protocol.publish("/a", &payload);
    }
    let mut written = script.output().matches("PUBLISH").count();
    assert!((WINDOW_BYTES / 1100..=WINDOW_BYTES / 1000 + 1).contains(&written));
    // Replies open the window again only when half of it is free, so there are few writes.
    let (mut replied, mut writes) = (0, 0);
    while replied < 2000 {
        assert_eq!(script.receive(":1\r\n"), [Seen::Acknowledged(1)]);
        replied += 1;
        let output = script.output();
        writes += usize::from(!output.is_empty());
        written += output.matches("PUBLISH").count();
        assert!(script.protocol.unanswered_bytes <= WINDOW_BYTES + 1100);
    }
    assert_eq!(written, 2000);
    assert!(writes < 20, "{writes}");
    assert_eq!(script.protocol.unanswered_bytes, 0);
    // A publication that is longer than the window is written whole.
    script.protocol.publish("/a", &vec![b'x'; 4 * WINDOW_BYTES]);
    assert!(script.output().len() > 4 * WINDOW_BYTES);
    assert_eq!(script.receive(":1\r\n"), [Seen::Acknowledged(1)]);
    assert_eq!(script.protocol.unanswered_bytes, 0);
}

#[test]
fn a_reply_that_waited_in_the_socket_while_the_process_was_stopped_is_in_time() {
    // After a stop of a minute, the caller receives before it checks the time.
    let mut script = Script::established();
    script.protocol.publish("/a", b"x");
    let _ = script.output();
    script.wait(60_000);
    assert_eq!(script.receive(":1\r\n"), [Seen::Acknowledged(1)]);
    assert_eq!(script.stale(), None);
    let probe = published(PROBE_CHANNEL, "probe");
    assert_eq!(script.output(), probe + ROLE_CHECK);
    assert_eq!(script.stale(), None);
}

#[test]
fn a_broker_that_becomes_a_replica_is_detected_within_10_s() {
    let replica = HELLO.replace("$6\r\nmaster", "$5\r\nslave");
    let mut script = Script::established();
    for _ in 0..3 {
        script.wait(9999);
        let _ = script.receive(&message("wsloop:/a", "x"));
        assert_eq!(script.stale(), None);
        assert_eq!(script.output(), "");
        script.wait(1);
        assert_eq!(script.protocol.deadline(), Some(script.now));
        assert_eq!(script.stale(), None);
        assert_eq!(script.output(), ROLE_CHECK);
        assert_eq!(script.receive(HELLO), []);
    }
    script.wait(10_000);
    let _ = script.receive(&message("wsloop:/a", "x"));
    script.protocol.publish("/a", b"x");
    assert_eq!(script.stale(), None);
    assert!(script.output().ends_with(ROLE_CHECK));
    let seen = script.receive(&[":0\r\n", &replica].concat());
    let [Seen::Acknowledged(1), Seen::Failed(error)] = &seen[..] else {
        panic!("{seen:?}");
    };
    assert!(error.contains("has become a replica"), "{error}");
    // A broker that was a replica from the beginning is used, until it becomes a primary server.
    script.protocol.disconnected();
    script.protocol.connected(script.now, 0xdead_beef);
    let _ = script.output();
    let answers = [&*replica, &verbatim("")].concat();
    let welcome = script.welcome().replacen(HELLO, &answers, 1);
    assert_eq!(script.receive(&welcome), [Seen::Connected]);
    for reply in [&*replica, HELLO] {
        script.wait(10_000);
        let _ = script.receive(&message("wsloop:/a", "x"));
        assert_eq!(script.stale(), None);
        assert_eq!(script.output(), ROLE_CHECK);
        let seen = script.receive(reply);
        assert_eq!(seen.is_empty(), reply == replica, "{seen:?}");
    }
}

/// Redis 7.2 and later acknowledge a publication before they deliver it.
#[test]
fn an_acknowledgement_is_not_reported_while_the_delivery_is_incomplete() {
    let mut script = Script::established();
    script.protocol.publish("/a", b"x");
    let _ = script.output();
    let delivery = message("wsloop:/a", &"x".repeat(100));
    let (first, last) = delivery.split_at(60);
    assert_eq!(script.receive(&[":1\r\n", first].concat()), []);
    let seen = script.receive(last);
    assert!(
        matches!(&seen[..], [Seen::Message(..), Seen::Acknowledged(1)]),
        "{seen:?}"
    );
    // Under load, most reads end within a push. The acknowledgements before the last complete one are reported.
    script.protocol.publish("/a", b"x");
    script.protocol.publish("/a", b"y");
    let _ = script.output();
    let seen = script.receive(&[":1\r\n", &delivery, ":1\r\n", first].concat());
    assert!(
        matches!(&seen[..], [Seen::Message(..), Seen::Acknowledged(1)]),
        "{seen:?}"
    );
    let seen = script.receive(last);
    assert!(
        matches!(&seen[..], [Seen::Message(..), Seen::Acknowledged(1)]),
        "{seen:?}"
    );
    // At the end of the connection, it counts as missing.
    script.protocol.publish("/a", b"x");
    let _ = script.output();
    assert_eq!(script.receive(&[":1\r\n", first].concat()), []);
    assert_eq!(script.protocol.disconnected(), 1);
}

#[test]
fn a_check_of_the_role_behind_a_long_message_does_not_make_the_connection_stale() {
    let mut script = Script::established();
    script.wait(10_000);
    let long = message("wsloop:/a", &"x".repeat(60));
    let (first, last) = long.split_at(long.len() - 62);
    let _ = script.receive(first);
    assert_eq!(script.stale(), None);
    assert_eq!(script.output(), ROLE_CHECK);
    for byte in last.as_bytes() {
        script.wait(1000);
        assert_eq!(script.stale(), None);
        let _ = script.receive_in_steps(&[*byte], 1);
    }
    assert_eq!(script.output(), "");
    assert_eq!(script.receive(HELLO), []);
    // The reply to a publication is awaited, whatever is before it.
    script.wait(10_000);
    let _ = script.receive(&message("wsloop:/a", "x"));
    assert_eq!(script.stale(), None);
    script.protocol.publish("/a", b"x");
    assert!(script.output().contains("HELLO"));
    assert_eq!(script.receive(HELLO), []);
    script.wait(4999);
    assert_eq!(script.stale(), None);
    script.wait(1);
    assert!(script.stale().is_some());
}
