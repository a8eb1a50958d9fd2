//! The payload of a publication at the broker: one or more messages, each as the frame in which a server sends it to its
//! clients (RFC 6455 section 5.2: final, not masked).
//!
//! The first byte of such a frame is 0x81 (text) or 0x82 (binary). 0x83 begins a *note* about the next message: one byte
//! with the number of bytes that follow, one byte with the kind of the note, and the content. Notes of unknown kinds are
//! ignored. 0x84 to 0x87 are reserved.
//!
//! Valid UTF-8 never begins with one of these bytes. So a payload that does not begin with a byte from 0x81 to 0x87 is one
//! text message without a frame: `redis-cli PUBLISH wsloop:/chat hello` needs no encoding.
//!
//! Other clients of the broker are not trusted: [`check`] is called before any part of a payload is used.

use crate::id::Id;
use crate::proto::Message;
use std::fmt;

/// Random bytes that identify a server among all servers at the broker.
pub(crate) type Origin = [u8; 8];

/// A message in a payload.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Publication<'a> {
    pub(crate) message: Message<'a>,
    /// A session that does not receive the message, and the server to which it belongs.
    pub(crate) except: Option<(Origin, Id)>,
}

/// Why a payload is invalid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PayloadError {
    /// A text, in a frame or without one, is not valid UTF-8.
    NotUtf8,
    /// A frame or a note is longer than the rest of the payload.
    Truncated,
    /// A byte that begins neither a frame nor a note, where one must begin.
    Opcode(u8),
    /// A masked frame, or a length that is not encoded in the minimal number of bytes.
    Header,
    /// A message is longer than the maximum.
    TooLong,
}

impl fmt::Display for PayloadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotUtf8 => f.write_str("text that is not UTF-8"),
            Self::Truncated => f.write_str("a frame that is longer than the publication"),
            Self::Opcode(byte) => write!(f, "the unexpected byte 0x{byte:02x} in place of a frame"),
            Self::Header => f.write_str("an invalid frame header"),
            Self::TooLong => f.write_str("a message above the maximum length"),
        }
    }
}

/// Appends a message to a payload.
pub(crate) fn append(payload: &mut Vec<u8>, message: Message<'_>, except: Option<(Origin, Id)>) {
    if let Some((origin, id)) = except {
        payload.extend_from_slice(&[NOTE, EXCEPT_BYTES as u8, EXCEPT]);
        payload.extend_from_slice(&origin);
        payload.extend_from_slice(&id.slot.to_be_bytes());
        payload.extend_from_slice(&id.number.to_be_bytes());
    }
    payload.extend_from_slice(message.server_header().as_slice());
    payload.extend_from_slice(message.as_bytes());
}

/// Checks a whole payload. Returns the number of messages.
pub(crate) fn check(payload: &[u8], message_bytes_max: usize) -> Result<usize, PayloadError> {
    if !is_framed(payload) {
        if payload.len() > message_bytes_max {
            return Err(PayloadError::TooLong);
        }
        return match crate::proto::is_utf8(payload) {
            true => Ok(1),
            false => Err(PayloadError::NotUtf8),
        };
    }
    let mut rest = payload;
    let mut messages = 0;
    while !rest.is_empty() {
        match next_part(&mut rest)? {
            Part::Note(_) => {}
            Part::Frame { is_text, bytes } => {
                if bytes.len() > message_bytes_max {
                    return Err(PayloadError::TooLong);
                }
                if is_text && !crate::proto::is_utf8(bytes) {
                    return Err(PayloadError::NotUtf8);
                }
                messages += 1;
            }
        }
    }
    Ok(messages)
}

/// Returns the messages of a payload that [`check`] has accepted.
pub(crate) fn publications(payload: &[u8]) -> Publications<'_> {
    Publications {
        rest: Some(payload),
        is_framed: is_framed(payload),
    }
}

/// See [`publications`].
pub(crate) struct Publications<'a> {
    rest: Option<&'a [u8]>,
    is_framed: bool,
}

impl<'a> Iterator for Publications<'a> {
    type Item = Publication<'a>;

    fn next(&mut self) -> Option<Publication<'a>> {
        if !self.is_framed {
            let text = self.rest.take()?;
            return Some(Publication {
                message: Message::checked_text(text),
                except: None,
            });
        }
        let rest = self.rest.as_mut()?;
        let mut except = None;
        while !rest.is_empty() {
            match next_part(rest).ok()? {
                Part::Note(note) => except = exception(note).or(except),
                Part::Frame { is_text, bytes } => {
                    let message = match is_text {
                        true => Message::checked_text(bytes),
                        false => Message::binary(bytes),
                    };
                    return Some(Publication { message, except });
                }
            }
        }
        None
    }
}

enum Part<'a> {
    /// The kind and the content of a note.
    Note(&'a [u8]),
    Frame {
        is_text: bool,
        bytes: &'a [u8],
    },
}

fn is_framed(payload: &[u8]) -> bool {
    payload.first().is_some_and(|first| FRAMED.contains(first))
}

/// Removes the first frame or note from `rest`, which must not be empty.
fn next_part<'a>(rest: &mut &'a [u8]) -> Result<Part<'a>, PayloadError> {
    let take = |rest: &mut &'a [u8], len: usize| {
        let (taken, left) = rest.split_at_checked(len).ok_or(PayloadError::Truncated)?;
        *rest = left;
        Ok(taken)
    };
    let &[first, len] = take(rest, 2)? else {
        unreachable!("two bytes were taken");
    };
    match first {
        NOTE => Ok(Part::Note(take(rest, usize::from(len))?)),
        TEXT | BINARY => {
            let len = match len {
                0..=125 => u64::from(len),
                126 => {
                    let bytes = take(rest, 2)?;
                    let len = u64::from(u16::from_be_bytes([bytes[0], bytes[1]]));
                    if len <= 125 {
                        return Err(PayloadError::Header);
                    }
                    len
                }
                127 => {
                    let bytes = take(rest, 8)?;
                    let bytes = bytes.try_into().expect("eight bytes were taken");
                    let len = u64::from_be_bytes(bytes);
                    if len <= u64::from(u16::MAX) {
                        return Err(PayloadError::Header);
                    }
                    len
                }
                // The frame is masked.
                128.. => return Err(PayloadError::Header),
            };
            let len = usize::try_from(len).map_err(|_| PayloadError::Truncated)?;
            Ok(Part::Frame {
                is_text: first == TEXT,
                bytes: take(rest, len)?,
            })
        }
        other => Err(PayloadError::Opcode(other)),
    }
}

/// Returns the session that the next message is not sent to, if the note is of this kind and valid.
fn exception(note: &[u8]) -> Option<(Origin, Id)> {
    let content = note.strip_prefix(&[EXCEPT])?;
    let (origin, id) = content.split_first_chunk::<8>()?;
    let (slot, number) = id.split_first_chunk::<4>()?;
    let id = Id {
        slot: u32::from_be_bytes(*slot),
        number: u64::from_be_bytes(number.try_into().ok()?),
    };
    Some((*origin, id))
}

/// Maximum bytes that [`append`] adds to a message: a note and a frame header.
pub(crate) const OVERHEAD_BYTES_MAX: usize = 2 + EXCEPT_BYTES + 10;

/// First bytes of a payload that consists of frames and notes. Valid UTF-8 never begins with them.
const FRAMED: std::ops::RangeInclusive<u8> = 0x81..=0x87;

/// First byte of a text frame: FIN and the opcode 1.
const TEXT: u8 = 0x81;
/// First byte of a binary frame.
const BINARY: u8 = 0x82;
/// First byte of a note.
const NOTE: u8 = 0x83;

/// Kind of the note that names a session to which the next message is not sent.
const EXCEPT: u8 = 1;
/// Bytes of such a note after its length: kind, origin, slot and number.
const EXCEPT_BYTES: usize = 1 + 8 + 4 + 8;

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether the message is text, its bytes, and the excepted session.
    type Read = (bool, Vec<u8>, Option<(Origin, Id)>);

    fn read(payload: &[u8]) -> Result<Vec<Read>, PayloadError> {
        let count = check(payload, 70_000)?;
        let all: Vec<_> = publications(payload)
            .map(|one| {
                (
                    one.message.is_text(),
                    one.message.as_bytes().to_vec(),
                    one.except,
                )
            })
            .collect();
        assert_eq!(all.len(), count);
        Ok(all)
    }

    #[test]
    fn messages_of_every_length_are_read_as_they_were_appended() {
        let id = Id {
            slot: 7,
            number: 1 << 40,
        };
        let except = Some(([9; 8], id));
        let mut payload = Vec::new();
        let mut expected = Vec::new();
        for len in [0, 1, 125, 126, 127, 65_535, 65_536, 70_000] {
            for (is_text, except) in [(true, None), (false, except), (true, except)] {
                let bytes = vec![b'x'; len];
                let message = match is_text {
                    true => Message::checked_text(&bytes),
                    false => Message::binary(&bytes),
                };
                append(&mut payload, message, except);
                expected.push((is_text, bytes, except));
            }
        }
        assert_eq!(read(&payload), Ok(expected));
    }

    #[test]
    fn a_payload_without_frames_is_one_text_message() {
        for text in ["", "hi", "{\"a\":1}", "\u{7f}", "\u{80}", "\u{10ffff}"] {
            assert_eq!(
                read(text.as_bytes()),
                Ok(vec![(true, text.as_bytes().to_vec(), None)])
            );
        }
    }

    #[test]
    fn a_payload_that_is_cut_at_any_byte_is_rejected() {
        let mut payload = Vec::new();
        let except = Some(([1; 8], Id { slot: 1, number: 2 }));
        append(&mut payload, Message::text("abc"), except);
        let first = payload.len();
        append(&mut payload, Message::binary(&[0; 200]), None);
        for len in 1..payload.len() {
            let is_whole = len == first || len == first - 5;
            assert_eq!(read(&payload[..len]).is_ok(), is_whole, "{len}");
        }
    }

    #[test]
    fn junk_is_rejected() {
        let long = [&[0x82, 127][..], &70_001_u64.to_be_bytes(), &[0; 70_001]].concat();
        let huge = [&[0x82, 127][..], &u64::MAX.to_be_bytes()].concat();
        let table: [(&[u8], PayloadError); 14] = [
            (&[0x81], PayloadError::Truncated),
            (&[0x81, 0x80, 1, 2, 3, 4], PayloadError::Header),
            (&[0x81, 126, 0, 125], PayloadError::Header),
            (
                &[0x82, 127, 0, 0, 0, 0, 0, 0, 255, 255],
                PayloadError::Header,
            ),
            (&[0x81, 1, 0xff], PayloadError::NotUtf8),
            (&[0xff], PayloadError::NotUtf8),
            (&[b'a', 0x80], PayloadError::NotUtf8),
            (&[0x80], PayloadError::NotUtf8),
            (&[0x84, 0], PayloadError::Opcode(0x84)),
            (&[0x87, 0], PayloadError::Opcode(0x87)),
            (&[0x82, 0, b'a', b'b'], PayloadError::Opcode(b'a')),
            (&[0x83, 2, 1], PayloadError::Truncated),
            (&long, PayloadError::TooLong),
            (&huge, PayloadError::Truncated),
        ];
        for (payload, expected) in table {
            assert_eq!(
                read(payload),
                Err(expected),
                "{:?}",
                &payload[..payload.len().min(16)]
            );
        }
        let text = vec![b'x'; 70_001];
        assert_eq!(read(&text), Err(PayloadError::TooLong));
    }

    #[test]
    fn a_note_of_an_unknown_kind_is_ignored() {
        let payload = [&[0x83, 3, 99, 0, 0][..], &[0x83, 0], &[0x81, 1, b'a']].concat();
        assert_eq!(read(&payload), Ok(vec![(true, b"a".to_vec(), None)]));
    }
}
