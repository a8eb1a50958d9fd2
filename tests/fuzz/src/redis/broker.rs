//! A broker that answers commands as Redis does, and has a choice of hostile answers.

use super::Seen;
use super::calls::{Calls, NUMBER_BYTES};
use std::collections::{HashSet, VecDeque};

pub(super) struct Broker {
    prefix: String,
    /// All that was sent on this connection are answers.
    pub(super) is_honest: bool,
    /// The end of a connection is noticed late: it is listed until it is killed.
    is_slow: bool,
    /// The reply to a publication precedes the message.
    replies_first: bool,
    connections: u64,
    /// Number and name of each connection that is listed.
    listed: Vec<(u64, String)>,
    /// The bytes of an incomplete command.
    input: Vec<u8>,
    /// Commands on this connection.
    commands: usize,
    channels: HashSet<String>,
    answers: Vec<u8>,
    /// Messages in the answers that were not delivered.
    expected: VecDeque<(String, usize, Vec<u8>)>,
}

impl Broker {
    pub(super) fn new(prefix: &str, choice: usize) -> Self {
        Self {
            prefix: prefix.into(),
            is_honest: true,
            is_slow: choice & 64 != 0,
            replies_first: choice & 128 != 0,
            connections: 0,
            listed: Vec::new(),
            input: Vec::new(),
            commands: 0,
            channels: HashSet::new(),
            answers: Vec::new(),
            expected: VecDeque::new(),
        }
    }

    /// Begins a connection. Returns its random number.
    pub(super) fn connected(&mut self) -> u64 {
        self.is_honest = true;
        self.connections += 1;
        self.random()
    }

    fn random(&self) -> u64 {
        self.connections.wrapping_mul(0x9E37_79B9_7F4A_7C15)
    }

    fn name(&self) -> String {
        format!("wsloop-{:08x}", self.random() as u32)
    }

    fn probe_channel(&self) -> String {
        format!("{}probe:{:016x}", self.prefix, self.random())
    }

    pub(super) fn disconnected(&mut self) {
        if !self.is_slow {
            self.listed.clear();
        }
        self.input.clear();
        self.commands = 0;
        self.channels.clear();
        self.answers.clear();
        self.expected.clear();
    }

    pub(super) fn is_within_command(&self) -> bool {
        !self.input.is_empty()
    }

    /// Takes answers: all, or a part.
    pub(super) fn answers(&mut self, argument: usize) -> Vec<u8> {
        let len = match argument & 3 {
            0 | 1 => self.answers.len(),
            2 => self.answers.len() / 2,
            _ => (argument / 4).min(self.answers.len()),
        };
        self.answers.drain(..len).collect()
    }

    // Commands.

    /// Receives the client's bytes. Returns the number of publications that are complete.
    pub(super) fn receive(&mut self, bytes: &[u8], calls: &mut Calls, is_established: bool) -> u64 {
        self.input.extend_from_slice(bytes);
        let input = std::mem::take(&mut self.input);
        let (mut rest, mut publications) = (&input[..], 0);
        while let Some((words, after)) = command(rest) {
            publications += self.process(&words, calls, is_established);
            self.commands += 1;
            rest = after;
        }
        self.input = rest.to_vec();
        publications
    }

    /// Processes a command. Returns the number of publications of the server.
    fn process(&mut self, words: &[&[u8]], calls: &mut Calls, is_established: bool) -> u64 {
        let text = |word: &[u8]| String::from_utf8(word.to_vec()).expect("names are UTF-8");
        let verb = text(words[0]);
        assert!(self.commands > 0 || verb == "HELLO", "{verb}");
        match (&*verb, &words[1..]) {
            // A check of the role.
            ("HELLO", [b"3"]) => {
                assert!(is_established);
                let answer = hello(self.connections, "standalone", "master");
                self.answers.extend(answer);
            }
            ("HELLO", [version, .., name]) => {
                assert_eq!(*version, b"3");
                assert_eq!(text(name), self.name());
                let answer = hello(self.connections, "standalone", "master");
                self.answers.extend(answer);
                self.listed.push((self.connections, self.name()));
            }
            ("CLIENT", [b"LIST", b"ID", number]) => {
                let number = text(number).parse().expect("a number");
                assert!(number < self.connections, "an earlier connection");
                let listed = self.listed.iter().find(|(listed, _)| *listed == number);
                let line = listed.map_or(String::new(), |(number, name)| {
                    format!("id={number} addr=/s:0 name={name} age=1\n")
                });
                let answer = format!("={}\r\ntxt:{line}\r\n", 4 + line.len());
                self.answers.extend(answer.into_bytes());
            }
            ("CLIENT", [b"KILL", b"ID", number]) => {
                let number = text(number).parse::<u64>().expect("a number");
                let before = self.listed.len();
                self.listed.retain(|(listed, _)| *listed != number);
                let is_earlier = before > self.listed.len() && number < self.connections;
                assert!(is_earlier || !self.is_honest, "kills another client");
                self.answers.extend(b":1\r\n");
            }
            ("SUBSCRIBE" | "UNSUBSCRIBE", names) => {
                assert!((1..=512).contains(&names.len()), "{} names", names.len());
                let is_subscribe = verb == "SUBSCRIBE";
                for channel in names.iter().map(|name| text(name)) {
                    if channel != self.probe_channel() {
                        let topic = channel.strip_prefix(&*self.prefix).expect("the prefix");
                        calls.received_name(topic, is_subscribe);
                        assert!(is_established);
                    }
                    let answer = push_of(&verb.to_lowercase(), &channel, b":1\r\n");
                    self.answers.extend(answer);
                    match is_subscribe {
                        true => self.channels.insert(channel),
                        false => self.channels.remove(&channel),
                    };
                }
            }
            ("PUBLISH", [channel, payload]) => {
                let channel = text(channel);
                return self.publication(channel, payload, calls, is_established);
            }
            _ => panic!("unexpected command {verb}"),
        }
        0
    }

    fn publication(
        &mut self,
        channel: String,
        payload: &[u8],
        calls: &mut Calls,
        is_established: bool,
    ) -> u64 {
        let is_probe = channel == self.probe_channel();
        let topic = channel.strip_prefix(&*self.prefix).expect("the prefix");
        if !is_probe {
            calls.received_publication(topic, payload);
            assert!(is_established);
        }
        if self.replies_first {
            self.answers.extend(b":1\r\n");
        }
        if self.channels.contains(&channel) {
            let last = [
                format!("${}\r\n", payload.len()).as_bytes(),
                payload,
                b"\r\n",
            ]
            .concat();
            self.answers.extend(push_of("message", &channel, &last));
            if !is_probe {
                let begin = payload[..NUMBER_BYTES].to_vec();
                self.expected
                    .push_back((topic.into(), payload.len(), begin));
            }
        }
        if !self.replies_first {
            self.answers.extend(b":1\r\n");
        }
        u64::from(!is_probe)
    }

    /// The client has reported a message.
    pub(super) fn delivered(&mut self, seen: &Seen) {
        if !self.is_honest {
            return;
        }
        let expected = self.expected.pop_front().expect("a message was sent");
        let is_expected = match seen {
            Seen::Message(topic, len, begin) => {
                (topic, len, begin) == (&expected.0, &expected.1, &expected.2)
            }
            Seen::TooLong(topic, bytes) => (topic, *bytes) == (&expected.0, expected.1 as u64),
            _ => false,
        };
        assert!(is_expected, "{seen:?} instead of {expected:?}");
    }

    pub(super) fn check_all_delivered(&self) {
        assert!(
            self.expected.is_empty(),
            "not delivered: {:?}",
            self.expected
        );
    }

    // What was not asked for.

    pub(super) fn push(&self, kind: &str, topic: &str, last: &[u8]) -> Vec<u8> {
        push_of(kind, &format!("{}{topic}", self.prefix), last)
    }

    pub(super) fn message_header(&self, topic: &str, len: usize) -> Vec<u8> {
        self.push("message", topic, format!("${len}\r\n").as_bytes())
    }

    pub(super) fn message(&self, topic: &str, payload: &[u8]) -> Vec<u8> {
        let header = self.message_header(topic, payload.len());
        [&header, payload, b"\r\n"].concat()
    }

    /// Returns one of the answers that mean something to a client, which it has asked for or not.
    pub(super) fn fixed(&self, argument: usize) -> Vec<u8> {
        let probe = self.probe_channel();
        let list = |name: &str| format!("={}\r\ntxt:name={name}\r\n", 9 + name.len()).into_bytes();
        match argument % 24 {
            0 => hello(7, "standalone", "master"),
            1 => hello(u64::MAX, "cluster", "slave"),
            2 => hello(1, "sentinel", "sentinel"),
            3 => hello(1, "standalone", "replica"),
            4 => push_of("message", &probe, b"$5\r\nprobe\r\n"),
            5 => push_of("message", &probe, b"$-1\r\n"),
            6 => push_of("subscribe", &probe, b":1\r\n"),
            7 => list(&self.name()),
            8 => {
                let earlier = self.connections.wrapping_sub(1);
                let random = earlier.wrapping_mul(0x9E37_79B9_7F4A_7C15);
                list(&format!("wsloop-{:08x}", random as u32))
            }
            9 => b"-WRONGPASS bob sEcret\r\n".to_vec(),
            10 => b"-NOPERM no permission sEcret\r\n".to_vec(),
            11 => b"-ERR unknown command 'HELLO', with args beginning with: '3' 'AUTH' 'bob' 'sEcret'\r\n"
                .to_vec(),
            12 => b"-LOADING\r\n".to_vec(),
            13 => b"!10\r\nERR sEcret\r\n".to_vec(),
            14 => b"+OK\r\n".to_vec(),
            15 => b"$-1\r\n".to_vec(),
            16 => b"|1\r\n+a\r\n*1\r\n_\r\n".to_vec(),
            17 => b">3\r\n$7\r\nmessage\r\n$3\r\n\xff\xfe\xfd\r\n$1\r\np\r\n".to_vec(),
            18 => b">3\r\n+message\r\n+wsloop:/chat\r\n+hi\r\n".to_vec(),
            19 => b">3\r\n$7\r\nmessage\r\n".to_vec(),
            20 => b">3\r\n$7\r\nmessage\r\n$999999999999999999\r\n".to_vec(),
            21 => b">3\r\n$9\r\nsubscribe\r\n$-1\r\n:1\r\n".to_vec(),
            22 => b"%2\r\n$5\r\nproto\r\n|1\r\n+a\r\n+b\r\n:3\r\n$2\r\nid\r\n:-5\r\n".to_vec(),
            _ => b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(),
        }
    }
}

fn push_of(kind: &str, channel: &str, last: &[u8]) -> Vec<u8> {
    let (kind_len, channel_len) = (kind.len(), channel.len());
    let header = format!(">3\r\n${kind_len}\r\n{kind}\r\n${channel_len}\r\n{channel}\r\n");
    [header.as_bytes(), last].concat()
}

fn hello(number: u64, mode: &str, role: &str) -> Vec<u8> {
    let (mode_len, role_len) = (mode.len(), role.len());
    format!(
        "%6\r\n$6\r\nserver\r\n$5\r\nredis\r\n$5\r\nproto\r\n:3\r\n$2\r\nid\r\n:{number}\r\n\
         $4\r\nmode\r\n${mode_len}\r\n{mode}\r\n$4\r\nrole\r\n${role_len}\r\n{role}\r\n\
         $7\r\nmodules\r\n*1\r\n%1\r\n$2\r\nid\r\n:3\r\n"
    )
    .into_bytes()
}

/// Returns the words of the first command in `bytes` and the bytes after it; `None` if it is incomplete. Panics if it is no
/// array of strings.
fn command(bytes: &[u8]) -> Option<(Vec<&[u8]>, &[u8])> {
    let (count, mut rest) = number(bytes, b'*')?;
    let mut words = Vec::new();
    for _ in 0..count {
        let (len, after) = number(rest, b'$')?;
        let word = after.get(..len)?;
        let end = after.get(len..len + 2)?;
        assert_eq!(end, b"\r\n");
        words.push(word);
        rest = &after[len + 2..];
    }
    Some((words, rest))
}

/// Returns the number after `kind`, and the bytes after its line.
fn number(bytes: &[u8], kind: u8) -> Option<(usize, &[u8])> {
    let first = bytes.first()?;
    assert_eq!(*first, kind, "{}", bytes.escape_ascii());
    let end = bytes.windows(2).take(30).position(|two| two == b"\r\n")?;
    let number = std::str::from_utf8(&bytes[1..end]).expect("digits");
    Some((number.parse().expect("a number"), &bytes[end + 2..]))
}
