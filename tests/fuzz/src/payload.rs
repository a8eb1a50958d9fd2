//! The target for the payloads of publications at a broker, whose other clients are not trusted.

use crate::ALLOCATOR;
use crate::input::Cursor;
use crate::wire::{self, BINARY, TEXT};
use wsloop::Message;
use wsloop::backplane::internals::{append, check, publications};
use wsloop::proto::Role;

/// Checks a payload, verbatim or composed of frames and notes, and what it is if it is cut.
pub fn payload(data: &[u8]) {
    let mut cursor = Cursor(data);
    let (limit, how) = (cursor.byte(), cursor.byte());
    let message_bytes_max = [0, 1, 125, 126, 1000, 65_535, 65_536, 1 << 20][usize::from(limit & 7)];
    let bytes = match how & 1 {
        0 => cursor.0.to_vec(),
        _ => composed(&mut cursor),
    };
    let whole = read(&bytes, message_bytes_max);
    let cuts_end = if bytes.len() <= CUTS_MAX {
        bytes.len()
    } else {
        0
    };
    let chosen = [
        1,
        2,
        3,
        4,
        9,
        10,
        11,
        125,
        126,
        127,
        65_535,
        65_536,
        bytes.len() - bytes.len().min(1),
    ];
    for cut in (1..cuts_end).chain(chosen.into_iter().filter(|cut| *cut < bytes.len())) {
        let Some(part) = read(&bytes[..cut], message_bytes_max) else {
            continue;
        };
        let is_framed = (0x81..=0x87).contains(&bytes[0]);
        if let Some(whole) = whole.as_ref().filter(|_| is_framed) {
            assert!(whole.starts_with(&part), "cut after {cut} bytes");
        }
    }
}

/// Whether it is text, the bytes, and the excepted session.
type Read = (bool, Vec<u8>, Option<([u8; 8], u32, u64)>);

/// Returns the messages of a payload, or `None` if it is invalid.
fn read(bytes: &[u8], message_bytes_max: usize) -> Option<Vec<Read>> {
    let count = check(bytes, message_bytes_max).ok()?;
    let before = ALLOCATOR.current_usage();
    ALLOCATOR.reset_peak_usage();
    assert_eq!(check(bytes, message_bytes_max), Ok(count));
    assert_eq!(publications(bytes).count(), count);
    assert_eq!(ALLOCATOR.peak_usage() as usize, before, "allocates");

    let messages = collected(bytes);
    assert!(
        messages
            .iter()
            .all(|(_, bytes, _)| bytes.len() <= message_bytes_max)
    );
    let mut encoded = Vec::new();
    publications(bytes).for_each(|one| append(&mut encoded, one));
    // An empty payload is one empty text. A payload of notes alone has no message.
    if count > 0 {
        assert_eq!(check(&encoded, message_bytes_max), Ok(count));
        assert!(collected(&encoded) == messages, "encoded again");
        let mut again = Vec::new();
        publications(&encoded).for_each(|one| append(&mut again, one));
        assert!(encoded == again, "encoded twice");
    }
    Some(messages)
}

fn collected(bytes: &[u8]) -> Vec<Read> {
    publications(bytes)
        .map(|(message, except)| {
            let bytes = message.as_bytes().to_vec();
            if message.is_text() {
                assert!(String::from_utf8(bytes.clone()).is_ok(), "text is UTF-8");
            }
            (message.is_text(), bytes, except)
        })
        .collect()
}

fn composed(cursor: &mut Cursor<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    while !cursor.is_empty() && bytes.len() < COMPOSED_BYTES_MAX {
        let (what, argument) = (cursor.byte(), cursor.byte());
        match what % 6 {
            0 => {
                let text = cursor.bytes(usize::from(argument % 128));
                bytes.extend(wire::peers_frame(0x80 | TEXT, text, Role::Client));
            }
            1 => {
                let len = [0, 1, 125, 126, 127, 65_535, 65_536, 300][usize::from(argument & 7)];
                let opcode = [TEXT, BINARY][usize::from(what >> 7)];
                let payload = vec![b'a' + (argument >> 4); len];
                bytes.extend(wire::peers_frame(0x80 | opcode, &payload, Role::Client));
            }
            2 => {
                let content = cursor.bytes(usize::from(argument % 32));
                bytes.extend([0x83, content.len() as u8]);
                bytes.extend(content);
            }
            3 => {
                // What a server appends.
                let mut id = [0; 20];
                let given = cursor.bytes(20);
                id[..given.len()].copy_from_slice(given);
                let server: [u8; 8] = id[..8].try_into().expect("8 bytes");
                let slot = u32::from_be_bytes(id[8..12].try_into().expect("4 bytes"));
                let number = u64::from_be_bytes(id[12..].try_into().expect("8 bytes"));
                let content = cursor.bytes(usize::from(argument));
                let except = Some((server, slot, number));
                append(&mut bytes, (Message::binary(content), except));
            }
            4 => {
                // A header of the fuzzer's choice, and fewer or more bytes.
                let len = u64::from(argument) << (cursor.byte() % 57);
                bytes.extend([0x81 + (what >> 6), 127]);
                bytes.extend(len.to_be_bytes());
                bytes.extend(cursor.bytes(usize::from(argument)));
            }
            _ => bytes.extend(cursor.bytes(usize::from(argument % 32))),
        }
    }
    bytes
}

/// Up to this length, a payload is cut at each byte.
const CUTS_MAX: usize = 600;

const COMPOSED_BYTES_MAX: usize = 300_000;
