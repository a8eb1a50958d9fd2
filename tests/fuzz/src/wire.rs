//! Encodes and decodes frames, and decodes HTTP responses, independently of the crate under test.

use crate::input::Cursor;
use wsloop::proto::Role;

/// A complete final frame.
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

/// Splits the output of an endpoint in `role` into frames. Returns them with the bytes of an incomplete frame at the end.
///
/// # Panics
/// A frame is not as the crate must encode it: final, without reserved bits, masked if and only if a client sent it,
/// with the length in the shortest form.
pub(crate) fn split_frames(mut bytes: &[u8], role: Role) -> (Vec<Frame>, &[u8]) {
    let mut frames = Vec::new();
    while let Some((frame, len)) = first_frame(bytes, role) {
        frames.push(frame);
        bytes = &bytes[len..];
    }
    (frames, bytes)
}

/// Returns the first frame and its length in bytes, or `None` if it is incomplete. Panics like [`split_frames`].
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

/// Returns a frame as the peer of an endpoint in `role` sends it. `first` is its first byte.
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

/// Encodes the output of the peer of an endpoint in `role`, from a list of frames in a compact form: first byte, length
/// code, and up to 16 payload bytes, which repeat up to the length. Most frames are legal; the length codes from 248 on
/// give illegal headers.
pub(crate) fn compose(list: &[u8], role: Role) -> Vec<u8> {
    let mut cursor = Cursor(list);
    let mut bytes = Vec::new();
    while !cursor.is_empty() && bytes.len() < COMPOSED_BYTES_MAX {
        let first = cursor.byte();
        let len = cursor.byte();
        // Sets a reserved bit only if all three are set in the input, so that most frames are accepted.
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
                // Illegal headers, with the length from the input: not in the shortest form, with the top bit set, larger
                // than the payload that follows, or with the wrong mask bit.
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

/// The head of an HTTP response.
pub(crate) struct ResponseHead {
    pub(crate) status: u16,
    /// Length in bytes, including the blank line.
    pub(crate) len: usize,
    headers: Vec<(String, String)>,
}

impl ResponseHead {
    /// Parses the head at the start of `bytes`. Returns `None` if it is incomplete, and panics if it is malformed.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        let len = bytes.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
        let text = std::str::from_utf8(&bytes[..len - 4]).expect("the head is ASCII");
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

    /// Returns the value of a header, or `None`. Panics if the header appears twice.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.iter().filter(|(header, _)| header == name);
        let value = values.next().map(|(_, value)| &**value);
        assert!(values.next().is_none(), "{name} appears twice");
        value
    }
}

/// Checks that `bytes` are exactly one complete HTTP response that closes the connection, with the length of its body.
/// `is_head`: the request was a HEAD, so the response has no body. Returns the status, and panics if a check fails.
pub(crate) fn check_refusal(bytes: &[u8], is_head: bool) -> u16 {
    let head = ResponseHead::parse(bytes).expect("a response has a head");
    let connection = head
        .header("connection")
        .expect("a refusal has a Connection header");
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

/// Panics unless `bytes` are exactly one 101 response.
pub(crate) fn check_101(bytes: &[u8]) {
    let head = ResponseHead::parse(bytes).expect("a response has a head");
    assert_eq!((head.status, head.len), (101, bytes.len()));
    assert_eq!(head.header("connection"), Some("Upgrade"));
    assert_eq!(head.header("upgrade"), Some("websocket"));
    assert_eq!(head.header("sec-websocket-accept").map(str::len), Some(28));
    assert_eq!(head.header("content-length"), None);
}

/// Length in encoded bytes at which [`compose`] ends the list. More frames find nothing further.
const COMPOSED_BYTES_MAX: usize = 10_000;
