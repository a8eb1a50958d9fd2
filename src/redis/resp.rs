//! Reads RESP3, the protocol of Redis 6 and newer and of Valkey.
//!
//! An *element* is a value of RESP3: a reply, or a *push*, which the broker sends without a request. [`Reader::read`] finds
//! the next element in a buffer and returns the positions of its parts. It neither copies nor allocates. For an incomplete
//! element, the reader retains how many bytes it has scanned, so that a long element, which arrives in many reads, is not
//! scanned again from its start. Nested elements are counted, without recursion. All lengths are checked against one limit
//! before a caller allocates memory for them.
//!
//! The crate `redis-protocol` 6 was compared (`decode_range`, which copies nothing either; both with level 2 and `lto`):
//!
//! | instructions | this reader | `redis-protocol` |
//! |---|---|---|
//! | a message with one frame of 64 bytes | 205 | 2 490 |
//! | a message with 16 such frames | 245 | 2 530 |
//! | `:1`, the reply to a publication | 90 | 483 |
//!
//! The crate allocates a vector for each message, adds 100 KB to a binary (this reader: 7 KB) and six crates to the
//! dependencies, and limits neither nesting nor lengths.
//!
//! Every type of the specification is read. Types that a client for Pub/Sub does not need are skipped. Streamed strings and aggregates
//! (`$?`, `*?`), which no broker sends, are errors.

use std::fmt;
use std::mem;
use std::ops::Range;

/// Finds elements in a buffer.
#[derive(Debug)]
pub(super) struct Reader {
    /// Maximum bytes of an element.
    element_bytes_max: usize,
    /// How far the incomplete element at the start of the buffer was scanned.
    scan: Scan,
    /// Number of bytes to skip before the next element: the rest of a message that exceeds the maximum.
    discard: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Scan {
    /// Number of bytes that were scanned: complete types, lengths and strings.
    offset: usize,
    /// Number of elements that are known to follow `offset`, including nested ones. 0: no byte was scanned.
    remaining: u64,
    /// Number of bytes without which the element is incomplete.
    needed: usize,
}

/// What [`Reader::read`] has found at the start of the buffer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Read {
    /// The element is incomplete as long as the buffer has fewer than `needed` bytes.
    Incomplete { needed: usize },
    /// An element.
    Complete(Found),
}

/// A complete element, the argument of [`Reader::consume`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) element: Element,
    /// Number of its bytes in the buffer.
    pub(super) len: usize,
    /// Number of bytes after it that are discarded as they arrive.
    discard: u64,
}

/// The parts of an element that a client for Pub/Sub needs, as ranges of the buffer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Element {
    /// A push: a publication to a channel.
    Message {
        channel: Range<usize>,
        payload: Range<usize>,
    },
    /// A push with a publication whose payload has `bytes`, more than the maximum. The payload is skipped.
    TooLong { channel: Range<usize>, bytes: u64 },
    /// A push: the subscription to a channel is confirmed.
    Subscribed { channel: Range<usize> },
    /// A push of another kind, or a skipped part of a message.
    Ignored,
    /// A reply that is a number.
    Integer(i64),
    /// A reply that is an error: its text.
    Error(Range<usize>),
    /// A reply of another type: the whole element without attributes.
    Other(Range<usize>),
}

/// Why the bytes are not RESP3, or not acceptable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReadError {
    /// An element begins with this byte, which is not a type of RESP3.
    Type(u8),
    /// A number or length has no digits, too many digits, or other characters.
    Number,
    /// A string or a line does not end with CR LF.
    Terminator,
    /// The element exceeds the limit.
    TooLong,
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Type(byte) => write!(
                f,
                "an element begins with \"{}\", which is no type of RESP3",
                byte.escape_ascii()
            ),
            Self::Number => f.write_str("a length or number is malformed"),
            Self::Terminator => f.write_str("an element does not end with CR LF"),
            Self::TooLong => f.write_str("an element is longer than the maximum"),
        }
    }
}

impl Reader {
    /// Returns a reader at the start of a stream.
    pub(super) fn new(element_bytes_max: usize) -> Self {
        Self {
            element_bytes_max,
            scan: Scan::default(),
            discard: 0,
        }
    }

    /// Returns whether the next bytes are the rest of a message that exceeds the maximum.
    pub(super) fn is_discarding(&self) -> bool {
        self.discard > 0
    }

    /// Returns the element at the start of `input`. After [`Read::Incomplete`], call it again with the same and further
    /// bytes.
    #[inline]
    pub(super) fn read(&mut self, input: &[u8]) -> Result<Read, ReadError> {
        if input.len() < self.scan.needed.max(1) {
            let needed = self.scan.needed.max(1);
            return Ok(Read::Incomplete { needed });
        }
        if self.discard > 0 {
            let len = self.discard.min(input.len() as u64) as usize;
            return Ok(found(Element::Ignored, len));
        }
        match input {
            _ if input.starts_with(MESSAGE) => self.read_message(input),
            [b':', b'0'..=b'9', ..] => self.read_count(input),
            _ => self.read_any(input),
        }
    }

    /// Finishes the element that [`read`](Self::read) has returned, whose bytes the caller removes. Without this call, `read`
    /// returns the element again.
    #[inline]
    pub(super) fn consume(&mut self, found: &Found) {
        self.scan = Scan::default();
        self.discard = match self.discard {
            0 => found.discard,
            discard => discard - found.len as u64,
        };
    }

    /// Reads a message in the form in which brokers write it. Other forms are read by [`read_any`](Self::read_any).
    fn read_message(&mut self, input: &[u8]) -> Result<Read, ReadError> {
        let Some((channel_len, start)) = length(input, MESSAGE.len())? else {
            return Ok(self.incomplete(input.len() + 1));
        };
        // CR LF, and the shortest element that can follow: a type, CR LF.
        if start as u64 + channel_len + 5 > self.element_bytes_max as u64 {
            return Err(ReadError::TooLong);
        }
        let channel = start..start + channel_len as usize;
        if input.len() < channel.end + 5 {
            return Ok(self.incomplete(channel.end + 5));
        }
        if input[channel.end..channel.end + 3] != *b"\r\n$" {
            return self.read_any(input);
        }
        let Some((payload_len, start)) = length(input, channel.end + 3)? else {
            return Ok(self.incomplete(input.len() + 1));
        };
        if start as u64 + payload_len + 2 > self.element_bytes_max as u64 {
            return Ok(Read::Complete(Found {
                element: Element::TooLong {
                    channel,
                    bytes: payload_len,
                },
                len: start,
                discard: payload_len + 2,
            }));
        }
        let payload = start..start + payload_len as usize;
        let end = payload.end + 2;
        if input.len() < end {
            return Ok(self.incomplete(end));
        }
        if input[payload.end..end] != *b"\r\n" {
            return Err(ReadError::Terminator);
        }
        Ok(found(Element::Message { channel, payload }, end))
    }

    /// Reads a number that is not negative: the reply to a publication.
    #[inline]
    fn read_count(&mut self, input: &[u8]) -> Result<Read, ReadError> {
        Ok(match length(input, 1)? {
            Some((count, end)) => found(Element::Integer(count as i64), end),
            None => self.incomplete(input.len() + 1),
        })
    }

    /// Reads an element of any type.
    fn read_any(&mut self, input: &[u8]) -> Result<Read, ReadError> {
        if self.scan.remaining == 0 {
            self.scan.remaining = 1;
        }
        // A buffer can have more bytes than an element may have. The result does not depend on how many of them are there.
        let input = &input[..input.len().min(self.element_bytes_max)];
        while self.scan.remaining > 0 {
            match token(input, self.scan.offset, self.element_bytes_max)? {
                Token::Incomplete { needed } if needed > self.element_bytes_max => {
                    return Err(ReadError::TooLong);
                }
                Token::Incomplete { needed } => return Ok(self.incomplete(needed)),
                Token::Complete { end, nested, .. } => {
                    self.scan.offset = end;
                    self.scan.remaining += nested;
                    self.scan.remaining -= 1;
                    // The shortest element has three bytes.
                    if self.scan.remaining > self.element_bytes_max as u64 / 3 {
                        return Err(ReadError::TooLong);
                    }
                }
            }
        }
        // The caller may read the element again before it consumes it.
        let len = mem::take(&mut self.scan).offset;
        Ok(found(interpret(&input[..len])?, len))
    }

    fn incomplete(&mut self, needed: usize) -> Read {
        self.scan.needed = needed;
        Read::Incomplete { needed }
    }
}

#[inline]
fn found(element: Element, len: usize) -> Read {
    Read::Complete(Found {
        element,
        len,
        discard: 0,
    })
}

/// The type, length and text of an element without the elements nested in it.
enum Token {
    /// The token is incomplete as long as the buffer has fewer than `needed` bytes.
    Incomplete { needed: usize },
    Complete {
        kind: u8,
        /// The text of a string, line or number; empty for other types.
        text: Range<usize>,
        /// Number of elements nested in it, which follow.
        nested: u64,
        end: usize,
    },
}

/// Reads the token at position `at`. A string may have at most `bytes_max` bytes.
fn token(input: &[u8], at: usize, bytes_max: usize) -> Result<Token, ReadError> {
    let Some(&kind) = input.get(at) else {
        return Ok(Token::Incomplete { needed: at + 1 });
    };
    let start = at + 1;
    let nested = match kind {
        b'+' | b'-' | b':' | b'_' | b'#' | b',' | b'(' => return line(input, kind, start),
        b'$' | b'!' | b'=' => {
            let Some((len, start)) = length_or_null(input, start)? else {
                let needed = input.len() + 1;
                return Ok(Token::Incomplete { needed });
            };
            return string(input, kind, start, len, bytes_max);
        }
        b'*' | b'~' | b'>' => 1,
        b'%' => 2,
        // An attribute precedes the element that it belongs to.
        b'|' => 2,
        other => return Err(ReadError::Type(other)),
    };
    let Some((count, end)) = length_or_null(input, start)? else {
        let needed = input.len() + 1;
        return Ok(Token::Incomplete { needed });
    };
    Ok(Token::Complete {
        kind,
        text: end..end,
        nested: count.unwrap_or(0) * nested + u64::from(kind == b'|'),
        end,
    })
}

/// Reads a string at `start` that has `len` bytes. `None` is null, which has no bytes.
fn string(
    input: &[u8],
    kind: u8,
    start: usize,
    len: Option<u64>,
    bytes_max: usize,
) -> Result<Token, ReadError> {
    let Some(len) = len else {
        return Ok(Token::Complete {
            kind,
            text: start..start,
            nested: 0,
            end: start,
        });
    };
    if len > bytes_max as u64 {
        return Err(ReadError::TooLong);
    }
    let text = start..start + len as usize;
    let end = text.end + 2;
    match input.get(text.end..end) {
        None => Ok(Token::Incomplete { needed: end }),
        Some(b"\r\n") => Ok(Token::Complete {
            kind,
            text,
            nested: 0,
            end,
        }),
        Some(_) => Err(ReadError::Terminator),
    }
}

/// Reads the line at `start`.
fn line(input: &[u8], kind: u8, start: usize) -> Result<Token, ReadError> {
    let scanned = &input[start..input.len().min(start + LINE_BYTES_MAX + 1)];
    let Some(len) = scanned
        .iter()
        .position(|byte| matches!(byte, b'\r' | b'\n'))
    else {
        return match scanned.len() <= LINE_BYTES_MAX {
            true => Ok(Token::Incomplete {
                needed: input.len() + 1,
            }),
            false => Err(ReadError::TooLong),
        };
    };
    let text = start..start + len;
    match input[text.end..] {
        [b'\r', b'\n', ..] => Ok(Token::Complete {
            kind,
            end: text.end + 2,
            text,
            nested: 0,
        }),
        [b'\r'] => Ok(Token::Incomplete {
            needed: input.len() + 1,
        }),
        _ => Err(ReadError::Terminator),
    }
}

/// Reads a length and its CR LF at `start`. Returns the length and the position after CR LF; `None` if it is incomplete.
#[inline]
fn length(input: &[u8], start: usize) -> Result<Option<(u64, usize)>, ReadError> {
    let mut value = 0;
    let mut at = start;
    loop {
        match input.get(at) {
            None => return Ok(None),
            Some(digit @ b'0'..=b'9') if at < start + LENGTH_DIGITS_MAX => {
                value = value * 10 + u64::from(digit - b'0');
            }
            Some(b'\r') if at > start => break,
            Some(_) => return Err(ReadError::Number),
        }
        at += 1;
    }
    match input.get(at + 1) {
        None => Ok(None),
        Some(b'\n') => Ok(Some((value, at + 2))),
        Some(_) => Err(ReadError::Terminator),
    }
}

/// Reads as [`length`] does, but accepts the length -1 and returns `None` for it: null in the form of RESP2.
fn length_or_null(input: &[u8], start: usize) -> Result<Option<(Option<u64>, usize)>, ReadError> {
    if input.get(start) != Some(&b'-') {
        return Ok(length(input, start)?.map(|(value, end)| (Some(value), end)));
    }
    match length(input, start + 1)? {
        None => Ok(None),
        Some((1, end)) => Ok(Some((None, end))),
        Some(_) => Err(ReadError::Number),
    }
}

/// Returns the parts of a complete element.
fn interpret(input: &[u8]) -> Result<Element, ReadError> {
    let mut tokens = Tokens { input, at: 0 };
    while input[tokens.at] == b'|' {
        let Some((_, _, nested)) = tokens.next() else {
            return Err(ReadError::Terminator);
        };
        tokens.skip_elements(nested - 1);
    }
    let start = tokens.at;
    let Some((kind, text, nested)) = tokens.next() else {
        return Err(ReadError::Terminator);
    };
    Ok(match kind {
        b'>' => interpret_push(&mut tokens, nested),
        b':' => {
            let number = std::str::from_utf8(&input[text]).ok();
            let number = number.and_then(|text| text.parse().ok());
            Element::Integer(number.ok_or(ReadError::Number)?)
        }
        b'-' | b'!' => Element::Error(text),
        _ => Element::Other(start..input.len()),
    })
}

fn interpret_push(tokens: &mut Tokens<'_>, elements: u64) -> Element {
    let parts = match elements {
        3 => (tokens.next(), tokens.next(), tokens.next()),
        _ => return Element::Ignored,
    };
    let (Some((_, kind, 0)), Some((_, channel, 0)), Some((last, payload, 0))) = parts else {
        return Element::Ignored;
    };
    match &tokens.input[kind] {
        b"message" if matches!(last, b'$' | b'+') => Element::Message { channel, payload },
        b"subscribe" => Element::Subscribed { channel },
        _ => Element::Ignored,
    }
}

/// Iterates over the tokens of complete elements: type, range of the text, and number of nested elements.
struct Tokens<'a> {
    input: &'a [u8],
    at: usize,
}

impl Tokens<'_> {
    /// Skips elements, including those nested in them.
    fn skip_elements(&mut self, elements: u64) {
        let mut remaining = elements;
        while remaining > 0 {
            let Some((_, _, nested)) = self.next() else {
                return;
            };
            remaining = remaining - 1 + nested;
        }
    }
}

impl Iterator for Tokens<'_> {
    type Item = (u8, Range<usize>, u64);

    fn next(&mut self) -> Option<Self::Item> {
        match token(self.input, self.at, self.input.len()) {
            Ok(Token::Complete {
                kind,
                text,
                nested,
                end,
            }) => {
                self.at = end;
                Some((kind, text, nested))
            }
            Ok(Token::Incomplete { .. }) | Err(_) => None,
        }
    }
}

/// Returns the text of the value with this key in a map, or `None` if the element is not a map, or has no such key, or the
/// value is an aggregate.
pub(super) fn map_value<'a>(element: &'a [u8], key: &[u8]) -> Option<&'a [u8]> {
    let mut tokens = Tokens {
        input: element,
        at: 0,
    };
    let (b'%', _, nested) = tokens.next()? else {
        return None;
    };
    for _ in 0..nested / 2 {
        let (_, text, nested) = tokens.next()?;
        tokens.skip_elements(nested);
        let (_, value, nested) = tokens.next()?;
        tokens.skip_elements(nested);
        if element[text] == *key {
            return (nested == 0).then_some(&element[value]);
        }
    }
    None
}

/// Returns whether an element is a map.
pub(super) fn is_map(element: &[u8]) -> bool {
    element.first() == Some(&b'%')
}

/// Returns the text of a string. That of a verbatim string begins with its format, as in `txt:`. Empty for aggregates.
pub(super) fn text(element: &[u8]) -> &[u8] {
    let mut tokens = Tokens {
        input: element,
        at: 0,
    };
    tokens.next().map_or(&[], |(_, text, _)| &element[text])
}

/// The bytes of a message before the length of the channel's name.
const MESSAGE: &[u8] = b">3\r\n$7\r\nmessage\r\n$";

/// Maximum digits of a length, so that the sum of two lengths does not overflow 64 bits.
const LENGTH_DIGITS_MAX: usize = 18;

/// Maximum bytes of a line: an error, a number, a simple string. Errors of brokers have less than 1 KB. An incomplete line is
/// scanned again from its start when further bytes arrive, which the limit makes cheap.
const LINE_BYTES_MAX: usize = 16 * 1024;

#[cfg(test)]
mod tests;
