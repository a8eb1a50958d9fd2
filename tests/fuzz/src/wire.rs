//! What goes over the wire, read and written without the crate under test: frames and HTTP responses.

use crate::input::Cursor;
use wsloop::proto::Role;

/// A whole frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) opcode: u8,
    pub(crate) payload: Vec<u8>,
}

impl Frame {
    pub(crate) fn new(opcode: u8, payload: &[u8]) -> Self {
        Self {
            opcode,
            payload: payload.to_vec(),
        }
    }
}

pub(crate) const TEXT: u8 = 1;
pub(crate) const BINARY: u8 = 2;
pub(crate) const CLOSE: u8 = 8;
pub(crate) const PING: u8 = 9;
pub(crate) const PONG: u8 = 10;

/// Splits what an endpoint in `role` sent into frames and the cut one at the end; panics if one is not as this crate
/// must make them: final, no reserved bits, masked if and only if from a client, its length in the shortest form.
pub(crate) fn split_frames(mut bytes: &[u8], role: Role) -> (Vec<Frame>, &[u8]) {
    let mut frames = Vec::new();
    while let Some((frame, len)) = first_frame(bytes, role) {
        frames.push(frame);
        bytes = &bytes[len..];
    }
    (frames, bytes)
}

/// A frame that was sent, and how long it is; `None`: it is cut.
fn first_frame(bytes: &[u8], role: Role) -> Option<(Frame, usize)> {
    let [first, second, ..] = *bytes else {
        return None;
    };
    let opcode = first & 0x0F;
    assert_eq!(first & 0xF0, 0x80, "not final, or with reserved bits");
    assert!([TEXT, BINARY, CLOSE, PING, PONG].contains(&opcode));
    let is_masked = second & 0x80 != 0;
    assert_eq!(is_masked, role == Role::Client);
    let (len, len_end) = match second & 0x7F {
        126 => {
            let len = u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?);
            assert!(len > 125);
            (usize::from(len), 4)
        }
        127 => {
            let len = u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?);
            assert!(len > 65_535);
            (usize::try_from(len).ok()?, 10)
        }
        len => (usize::from(len), 2),
    };
    assert!(opcode < CLOSE || len <= 125);
    let start = len_end + if is_masked { 4 } else { 0 };
    let mut payload = bytes.get(start..start + len)?.to_vec();
    if is_masked {
        xor(&mut payload, &bytes[len_end..start]);
    }
    Some((Frame { opcode, payload }, start + len))
}

fn xor(payload: &mut [u8], key: &[u8]) {
    for (at, byte) in payload.iter_mut().enumerate() {
        *byte ^= key[at % 4];
    }
}

/// A frame of a peer of an endpoint in `role`: `first` is its first byte.
pub(crate) fn peers_frame(first: u8, payload: &[u8], role: Role) -> Vec<u8> {
    let mask_bit = if role == Role::Server { 0x80 } else { 0 };
    let mut frame = vec![first];
    match payload.len() {
        len @ 0..=125 => frame.push(mask_bit | len as u8),
        len @ 126..=65_535 => {
            frame.push(mask_bit | 126);
            frame.extend((len as u16).to_be_bytes());
        }
        len => {
            frame.push(mask_bit | 127);
            frame.extend((len as u64).to_be_bytes());
        }
    }
    let start = frame.len();
    frame.extend(payload);
    if role == Role::Server {
        let key = [first, 0x5A, payload.len() as u8, 0xC3];
        xor(&mut frame[start..], &key);
        frame.splice(start..start, key);
    }
    frame
}

/// What a peer of an endpoint in `role` sends, from a list of frames in short form: first byte, length, up to 16 bytes
/// of payload, which are repeated. Most are legal; lengths in illegal forms have codes of their own.
pub(crate) fn compose(list: &[u8], role: Role) -> Vec<u8> {
    let mut cursor = Cursor(list);
    let mut bytes = Vec::new();
    while !cursor.is_empty() && bytes.len() < COMPOSED_BYTES_MAX {
        let first = cursor.byte();
        let len = cursor.byte();
        // Bits that are reserved are set only when all three are, so that most frames go further.
        let reserved = if first & 0x70 == 0x70 { 0x40 } else { 0 };
        let opcode = [
            0,
            1,
            2,
            8,
            9,
            10,
            1,
            2,
            0,
            9,
            10,
            0,
            1,
            2,
            3,
            first >> 4 & 15,
        ][usize::from(first & 0x0F)];
        let first = first & 0x80 | reserved | opcode;
        let mask_bit = if role == Role::Server { 0x80 } else { 0 };
        let payload_len = match len {
            0..=125 => usize::from(len),
            126..=199 => usize::from(len - 126) * 8 + 126,
            200..=239 => usize::from(len - 200) * 100 + 700,
            240..=247 => 65_532 + usize::from(len - 240),
            _ => {
                // As it stands: not the shortest form, a top bit, a claim without bytes, the wrong mask bit.
                bytes.push(first);
                bytes.push(match len {
                    248 => mask_bit ^ 0x80 | 5,
                    249 | 250 => mask_bit | 126,
                    _ => mask_bit | 127,
                });
                bytes.extend(cursor.bytes(if len < 251 { 2 } else { 8 }));
                continue;
            }
        };
        let pattern = cursor.bytes(payload_len.min(16));
        let payload: Vec<u8> = pattern
            .iter()
            .chain(if pattern.is_empty() { &b"x"[..] } else { &[] })
            .copied()
            .cycle()
            .take(payload_len)
            .collect();
        bytes.extend(peers_frame(first, &payload, role));
    }
    bytes
}

/// The head of an HTTP response at the start of `bytes`, and how long it is; `None`: it is cut.
pub(crate) struct ResponseHead {
    pub(crate) status: u16,
    pub(crate) len: usize,
    headers: Vec<(String, String)>,
}

impl ResponseHead {
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        let len = bytes.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
        let text = std::str::from_utf8(&bytes[..len - 4]).expect("a head of ours is ASCII");
        let mut lines = text.split("\r\n");
        let status_line = lines.next().expect("split gives at least one");
        let rest = status_line.strip_prefix("HTTP/1.1 ").expect("HTTP/1.1");
        let (status, reason) = rest.split_once(' ').expect("a code and a reason");
        assert!(!reason.is_empty());
        let headers = lines.map(|line| {
            let (name, value) = line.split_once(": ").expect("a name and a value");
            (name.to_ascii_lowercase(), value.to_owned())
        });
        Some(Self {
            status: status.parse().expect("three digits"),
            len,
            headers: headers.collect(),
        })
    }

    /// The value of a header that is there once or not at all.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.iter().filter(|(header, _)| header == name);
        let value = values.next().map(|(_, value)| &**value);
        assert!(values.next().is_none(), "{name} is there twice");
        value
    }
}

/// Panics unless `bytes` are one response, whole, with its length, and nothing after it.
pub(crate) fn check_refusal(bytes: &[u8], is_head: bool) -> u16 {
    let head = ResponseHead::parse(bytes).expect("a response has a head");
    let connection = head.header("connection").expect("Connection is there");
    assert!(connection.split(", ").any(|option| option == "close"));
    let body_len = bytes.len() - head.len;
    match (head.header("content-length"), head.status) {
        (None, 204 | 304) => assert_eq!(body_len, 0),
        (Some(len), _) if is_head => {
            let _: usize = len.parse().expect("a number");
            assert_eq!(body_len, 0);
        }
        (Some(len), _) => assert_eq!(len, body_len.to_string()),
        (None, status) => panic!("{status} without Content-Length"),
    }
    head.status
}

/// Panics unless `bytes` are a 101 and nothing after it.
pub(crate) fn check_101(bytes: &[u8]) {
    let head = ResponseHead::parse(bytes).expect("a response has a head");
    assert_eq!((head.status, head.len), (101, bytes.len()));
    assert_eq!(head.header("connection"), Some("Upgrade"));
    assert_eq!(head.header("upgrade"), Some("websocket"));
    assert_eq!(head.header("sec-websocket-accept").map(str::len), Some(28));
    assert_eq!(head.header("content-length"), None);
}

/// Longer lists of frames say nothing new.
const COMPOSED_BYTES_MAX: usize = 10_000;
