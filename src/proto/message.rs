//! Messages (RFC 6455 section 5.6): what applications send and receive.

use super::frame::{HeaderBytes, Kind};
use super::utf8::from_utf8;
use crate::buffer::AssemblyBuffer;
use std::fmt;
use std::hash::{Hash, Hasher};

/// A whole message, text or binary, borrowed from the owner of its bytes.
///
/// A text is known to be UTF-8 when it is received. It is carried as bytes all the same, because most texts are
/// forwarded or parsed as bytes: [`as_bytes`](Self::as_bytes) costs nothing, [`as_text`](Self::as_text) may check the
/// bytes again.
///
/// ```
/// use wsloop::Message;
///
/// let message = Message::from("hi");
/// assert_eq!(message, Message::text("hi"));
/// assert_eq!(message.as_text(), Some("hi"));
/// assert_eq!(message.as_bytes(), b"hi");
///
/// assert_ne!(message, Message::binary(b"hi"));
/// assert_eq!(Message::binary(b"hi").as_text(), None);
/// ```
#[derive(Clone, Copy)]
pub struct Message<'a>(Payload<'a>);

#[derive(Clone, Copy)]
enum Payload<'a> {
    Text(&'a str),
    /// Bytes that were found to be UTF-8. Without unsafe code they become a `str` only by another check.
    CheckedText(&'a [u8]),
    Binary(&'a [u8]),
}

impl<'a> Message<'a> {
    /// A text message.
    #[inline]
    pub const fn text(text: &'a str) -> Self {
        Self(Payload::Text(text))
    }

    /// A binary message.
    #[inline]
    pub const fn binary(bytes: &'a [u8]) -> Self {
        Self(Payload::Binary(bytes))
    }

    /// A text message of bytes that were found to be UTF-8.
    #[inline]
    pub(crate) fn checked_text(bytes: &'a [u8]) -> Self {
        debug_assert!(std::str::from_utf8(bytes).is_ok());
        Self(Payload::CheckedText(bytes))
    }

    /// Whether this is a text message.
    #[inline]
    pub fn is_text(&self) -> bool {
        match self.0 {
            Payload::Text(_) | Payload::CheckedText(_) => true,
            Payload::Binary(_) => false,
        }
    }

    /// The payload.
    #[inline]
    pub fn as_bytes(&self) -> &'a [u8] {
        match self.0 {
            Payload::Text(text) => text.as_bytes(),
            Payload::CheckedText(bytes) | Payload::Binary(bytes) => bytes,
        }
    }

    /// The text; `None` if the message is binary.
    ///
    /// The cost is that of [`str::from_utf8`] for a received message, a fraction of what receiving it cost; ask once.
    pub fn as_text(&self) -> Option<&'a str> {
        match self.0 {
            Payload::Text(text) => Some(text),
            Payload::CheckedText(bytes) => from_utf8(bytes),
            Payload::Binary(_) => None,
        }
    }

    /// Bytes of payload.
    #[inline]
    pub fn len(&self) -> usize {
        self.as_bytes().len()
    }

    /// Whether the payload is empty, which is legal.
    pub fn is_empty(&self) -> bool {
        self.as_bytes().is_empty()
    }

    /// The header of this message as one frame of a server's: unmasked and final.
    #[inline]
    pub(crate) fn server_header(&self) -> HeaderBytes {
        HeaderBytes::encode(self.kind(), None, self.len())
    }

    #[inline]
    pub(super) fn kind(&self) -> Kind {
        if self.is_text() {
            Kind::Text
        } else {
            Kind::Binary
        }
    }
}

/// Equal if both are text or both are binary, and the payloads are equal.
impl PartialEq for Message<'_> {
    fn eq(&self, other: &Self) -> bool {
        (self.is_text(), self.as_bytes()) == (other.is_text(), other.as_bytes())
    }
}

impl Eq for Message<'_> {}

impl Hash for Message<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.is_text(), self.as_bytes()).hash(state);
    }
}

impl fmt::Debug for Message<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.as_text() {
            Some(text) => f.debug_tuple("Text").field(&text).finish(),
            None => f.debug_tuple("Binary").field(&self.as_bytes()).finish(),
        }
    }
}

impl<'a> From<&'a str> for Message<'a> {
    fn from(text: &'a str) -> Self {
        Self::text(text)
    }
}

impl<'a> From<&'a String> for Message<'a> {
    fn from(text: &'a String) -> Self {
        Self::text(text)
    }
}

impl<'a> From<&'a [u8]> for Message<'a> {
    fn from(bytes: &'a [u8]) -> Self {
        Self::binary(bytes)
    }
}

impl<'a> From<&'a Vec<u8>> for Message<'a> {
    fn from(bytes: &'a Vec<u8>) -> Self {
        Self::binary(bytes)
    }
}

impl<'a, const N: usize> From<&'a [u8; N]> for Message<'a> {
    fn from(bytes: &'a [u8; N]) -> Self {
        Self::binary(bytes)
    }
}

/// A message as [`Connection::receive`](super::Connection::receive) returns it: borrowed from the input if it was whole
/// there, else assembled from pieces. Then it owns its memory, which is released with it.
#[derive(Debug)]
pub struct ReceivedMessage<'i>(Source<'i>);

#[derive(Debug)]
enum Source<'i> {
    Whole(Message<'i>),
    Assembled {
        bytes: AssemblyBuffer,
        is_text: bool,
    },
}

impl<'i> ReceivedMessage<'i> {
    /// A message of bytes that were assembled and, if it is a text, found to be UTF-8.
    pub(super) fn assembled(bytes: AssemblyBuffer, is_text: bool) -> Self {
        debug_assert!(!is_text || std::str::from_utf8(&bytes).is_ok());
        Self(Source::Assembled { bytes, is_text })
    }

    /// The message.
    pub fn as_message(&self) -> Message<'_> {
        match &self.0 {
            Source::Whole(message) => *message,
            Source::Assembled { bytes, is_text } if *is_text => Message::checked_text(bytes),
            Source::Assembled { bytes, .. } => Message::binary(bytes),
        }
    }

    /// The payload.
    pub fn into_bytes(self) -> Vec<u8> {
        match self.0 {
            Source::Whole(message) => message.as_bytes().to_vec(),
            Source::Assembled { bytes, .. } => bytes.into_vec(),
        }
    }

    /// Bytes of memory that the message owns: zero if it is borrowed from the input.
    pub fn capacity(&self) -> usize {
        match &self.0 {
            Source::Whole(_) => 0,
            Source::Assembled { bytes, .. } => bytes.capacity(),
        }
    }

    /// The memory that the message owns, for the next one.
    pub(crate) fn into_buffer(self) -> Option<AssemblyBuffer> {
        match self.0 {
            Source::Whole(_) => None,
            Source::Assembled { bytes, .. } => Some(bytes),
        }
    }
}

impl<'i> From<Message<'i>> for ReceivedMessage<'i> {
    fn from(message: Message<'i>) -> Self {
        Self(Source::Whole(message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_the_same_message_whether_its_bytes_or_its_characters_are_known() {
        let text = "Hell\u{F6}";
        let (whole, checked) = (Message::text(text), Message::checked_text(text.as_bytes()));
        assert_eq!(whole, checked);
        assert_eq!(
            (whole.as_text(), checked.as_text()),
            (Some(text), Some(text))
        );
        assert_eq!(format!("{checked:?}"), "Text(\"Hell\u{F6}\")");
        let binary = Message::binary(text.as_bytes());
        assert_ne!(checked, binary);
        assert_eq!(
            (binary.as_text(), binary.as_bytes()),
            (None, text.as_bytes())
        );
    }
}
