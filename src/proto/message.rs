//! Messages (RFC 6455 section 5.6): what applications send and receive.

use super::frame::{FINAL, HeaderBytes, Kind, LENGTH_IN_2_BYTES};
use super::utf8::from_utf8;
use crate::buffer::AssemblyBuffer;
use std::borrow::Cow;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::rc::Rc;
use std::sync::Arc;

/// A complete message, text or binary. Its payload is borrowed.
///
/// A received text message was checked to be UTF-8. It still stores bytes and not a `str`, because most texts are
/// forwarded or parsed as bytes: [`as_bytes`](Self::as_bytes) costs nothing, and [`as_text`](Self::as_text) may check
/// the bytes again.
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
    /// Bytes that were checked to be UTF-8. Without unsafe code, only another check converts them to a `str`.
    CheckedText(&'a [u8]),
    Binary(&'a [u8]),
}

impl<'a> Message<'a> {
    /// Returns a text message.
    #[inline]
    pub const fn text(text: &'a str) -> Self {
        Self(Payload::Text(text))
    }

    /// Returns a binary message.
    #[inline]
    pub const fn binary(bytes: &'a [u8]) -> Self {
        Self(Payload::Binary(bytes))
    }

    /// Returns a text message of bytes that were checked to be UTF-8.
    #[inline]
    pub(crate) fn checked_text(bytes: &'a [u8]) -> Self {
        debug_assert!(std::str::from_utf8(bytes).is_ok());
        Self(Payload::CheckedText(bytes))
    }

    /// Returns whether this is a text message.
    #[inline]
    pub fn is_text(&self) -> bool {
        match self.0 {
            Payload::Text(_) | Payload::CheckedText(_) => true,
            Payload::Binary(_) => false,
        }
    }

    /// Returns the payload.
    #[inline]
    pub fn as_bytes(&self) -> &'a [u8] {
        match self.0 {
            Payload::Text(text) => text.as_bytes(),
            Payload::CheckedText(bytes) | Payload::Binary(bytes) => bytes,
        }
    }

    /// Returns the text, or `None` if the message is binary.
    ///
    /// For a received message each call checks the bytes as [`str::from_utf8`] does, so retain the result. The check
    /// costs a fraction of what receiving the message cost.
    pub fn as_text(&self) -> Option<&'a str> {
        match self.0 {
            Payload::Text(text) => Some(text),
            Payload::CheckedText(bytes) => from_utf8(bytes),
            Payload::Binary(_) => None,
        }
    }

    /// Returns the number of bytes of the payload.
    #[inline]
    pub fn len(&self) -> usize {
        self.as_bytes().len()
    }

    /// Returns whether the payload is empty. RFC 6455 allows empty messages.
    pub fn is_empty(&self) -> bool {
        self.as_bytes().is_empty()
    }

    /// As [`server_header`](Self::server_header), for a message of less than 64 KiB. `None` if the message is longer.
    #[inline]
    pub(crate) fn short_header(&self) -> Option<ShortHeader> {
        let len = u16::try_from(self.len()).ok()?;
        let first = FINAL | self.kind().opcode();
        Some(if len <= 125 {
            ShortHeader {
                bytes: [first, len as u8, 0, 0],
                len: 2,
            }
        } else {
            let [high, low] = len.to_be_bytes();
            ShortHeader {
                bytes: [first, LENGTH_IN_2_BYTES, high, low],
                len: 4,
            }
        })
    }

    /// Returns the header of the one frame in which a server sends this message: final and not masked.
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

/// What can be sent as a message: strings as text, bytes as binary, a [`Message`] as what it is. Owned values,
/// references, `Box`, `Rc`, `Arc` and `Cow` of them can be passed alike. Passing a value instead of a reference saves a
/// copy only with a [`Handle`](crate::Handle).
///
/// ```
/// use wsloop::{Message, ToMessage};
///
/// fn is_text(message: impl ToMessage) -> bool {
///     message.to_message().is_text()
/// }
/// assert!(is_text("a") && is_text(String::from("a")) && is_text(&String::from("a")) && is_text(format!("{}", 1)));
/// assert!(is_text(Message::text("a")) && is_text(std::sync::Arc::<str>::from("a")));
/// assert!(!is_text(b"a") && !is_text(vec![1, 2]) && !is_text(&[1, 2][..]));
/// ```
///
/// An application can implement it for its own types:
///
/// ```
/// use wsloop::{Message, ToMessage};
///
/// struct Json(String);
///
/// impl ToMessage for Json {
///     fn to_message(&self) -> Message<'_> {
///         Message::text(&self.0)
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be sent as a message",
    label = "neither text nor bytes",
    note = "pass a `Message`, a string or bytes, for example `format!(..)` or `&bytes[..]`"
)]
pub trait ToMessage {
    /// Returns the message, which borrows its payload from `self`.
    fn to_message(&self) -> Message<'_>;

    /// Converts the value to a message that owns its payload. `String` and `Vec<u8>` are moved. The default copies.
    fn into_owned_message(self) -> OwnedMessage
    where
        Self: Sized,
    {
        self.to_message().into()
    }
}

impl ToMessage for Message<'_> {
    #[inline]
    fn to_message(&self) -> Message<'_> {
        *self
    }
}

impl ToMessage for str {
    #[inline]
    fn to_message(&self) -> Message<'_> {
        Message::text(self)
    }
}

impl ToMessage for String {
    #[inline]
    fn to_message(&self) -> Message<'_> {
        Message::text(self)
    }

    fn into_owned_message(self) -> OwnedMessage {
        OwnedMessage {
            bytes: self.into_bytes(),
            is_text: true,
        }
    }
}

impl ToMessage for [u8] {
    #[inline]
    fn to_message(&self) -> Message<'_> {
        Message::binary(self)
    }
}

impl<const N: usize> ToMessage for [u8; N] {
    #[inline]
    fn to_message(&self) -> Message<'_> {
        Message::binary(self)
    }
}

impl ToMessage for Vec<u8> {
    #[inline]
    fn to_message(&self) -> Message<'_> {
        Message::binary(self)
    }

    fn into_owned_message(self) -> OwnedMessage {
        OwnedMessage {
            bytes: self,
            is_text: false,
        }
    }
}

impl<T: ToMessage + ?Sized> ToMessage for &T {
    #[inline]
    fn to_message(&self) -> Message<'_> {
        (**self).to_message()
    }
}

impl<T: ToMessage + ?Sized> ToMessage for &mut T {
    #[inline]
    fn to_message(&self) -> Message<'_> {
        (**self).to_message()
    }
}

impl<T: ToMessage + ?Sized> ToMessage for Box<T> {
    #[inline]
    fn to_message(&self) -> Message<'_> {
        (**self).to_message()
    }
}

impl<T: ToMessage + ?Sized> ToMessage for Rc<T> {
    #[inline]
    fn to_message(&self) -> Message<'_> {
        (**self).to_message()
    }
}

impl<T: ToMessage + ?Sized> ToMessage for Arc<T> {
    #[inline]
    fn to_message(&self) -> Message<'_> {
        (**self).to_message()
    }
}

impl<T: ToMessage + ToOwned<Owned: ToMessage> + ?Sized> ToMessage for Cow<'_, T> {
    #[inline]
    fn to_message(&self) -> Message<'_> {
        (**self).to_message()
    }

    fn into_owned_message(self) -> OwnedMessage {
        self.into_owned().into_owned_message()
    }
}

/// A message that owns its payload, to be stored or passed to another thread.
///
/// ```
/// use wsloop::{Message, OwnedMessage, ToMessage};
///
/// let stored: OwnedMessage = Message::text("later").into();
/// assert_eq!(stored.as_message(), Message::text("later"));
/// assert_eq!(String::from("later").into_owned_message(), stored);
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct OwnedMessage {
    bytes: Vec<u8>,
    /// The bytes are UTF-8.
    is_text: bool,
}

impl OwnedMessage {
    /// Returns the message, which borrows the payload.
    pub fn as_message(&self) -> Message<'_> {
        if self.is_text {
            Message::checked_text(&self.bytes)
        } else {
            Message::binary(&self.bytes)
        }
    }

    /// Returns the payload.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// Returns the bytes of memory that the message owns, at least its length.
    pub(crate) fn capacity(&self) -> usize {
        self.bytes.capacity()
    }
}

impl ToMessage for OwnedMessage {
    fn to_message(&self) -> Message<'_> {
        self.as_message()
    }

    fn into_owned_message(self) -> OwnedMessage {
        self
    }
}

/// Copies the payload.
impl From<Message<'_>> for OwnedMessage {
    fn from(message: Message<'_>) -> Self {
        Self {
            bytes: message.as_bytes().to_owned(),
            is_text: message.is_text(),
        }
    }
}

impl fmt::Debug for OwnedMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_message().fmt(f)
    }
}

/// A message that [`Connection::receive`](super::Connection::receive) returned. Its payload is borrowed from the input
/// if it was complete there. Otherwise it was assembled from pieces, and is owned.
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
    /// Returns a message of assembled bytes. The bytes of a text were checked to be UTF-8.
    pub(super) fn assembled(bytes: AssemblyBuffer, is_text: bool) -> Self {
        debug_assert!(!is_text || std::str::from_utf8(&bytes).is_ok());
        Self(Source::Assembled { bytes, is_text })
    }

    /// Returns the message.
    pub fn as_message(&self) -> Message<'_> {
        match &self.0 {
            Source::Whole(message) => *message,
            Source::Assembled { bytes, is_text } if *is_text => Message::checked_text(bytes),
            Source::Assembled { bytes, .. } => Message::binary(bytes),
        }
    }

    /// Returns the payload. Copies it if it is borrowed.
    pub fn into_bytes(self) -> Vec<u8> {
        match self.0 {
            Source::Whole(message) => message.as_bytes().to_vec(),
            Source::Assembled { bytes, .. } => bytes.into_vec(),
        }
    }

    /// Returns the bytes of memory that the message owns. Zero if the payload is borrowed from the input.
    pub fn capacity(&self) -> usize {
        match &self.0 {
            Source::Whole(_) => 0,
            Source::Assembled { bytes, .. } => bytes.capacity(),
        }
    }

    /// Returns the memory that the message owns, to be used for another message. `None` if the payload is borrowed.
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
    #[expect(
        clippy::needless_borrows_for_generic_args,
        reason = "references to what can be sent are tested, too"
    )]
    fn values_and_references_and_pointers_to_both_can_be_sent() {
        fn sent(message: impl ToMessage) -> OwnedMessage {
            let borrowed = OwnedMessage::from(message.to_message());
            assert_eq!(message.into_owned_message(), borrowed);
            borrowed
        }
        let (string, bytes) = (String::from("ab"), vec![b'a', b'b']);
        let texts = [
            sent("ab"),
            sent(&"ab"),
            sent(&string),
            sent(string.clone()),
            sent(&mut string.clone()),
            sent(Box::<str>::from("ab")),
            sent(Rc::<str>::from("ab")),
            sent(&Arc::<str>::from("ab")),
            sent(Arc::new(string.clone())),
            sent(Cow::Borrowed("ab")),
            sent(Cow::<str>::Owned(string)),
            sent(Message::text("ab")),
            sent(&Message::checked_text(b"ab")),
        ];
        let binaries = [
            sent(b"ab"),
            sent(*b"ab"),
            sent(&b"ab"[..]),
            sent(&bytes),
            sent(bytes.clone()),
            sent(Box::<[u8]>::from(&b"ab"[..])),
            sent(Arc::<[u8]>::from(&b"ab"[..])),
            sent(Cow::Borrowed(&b"ab"[..])),
            sent(Cow::<[u8]>::Owned(bytes)),
            sent(Message::binary(b"ab")),
            sent(OwnedMessage::from(Message::binary(b"ab"))),
        ];
        assert!(
            texts
                .iter()
                .all(|text| text.as_message() == Message::text("ab"))
        );
        assert!(
            binaries
                .iter()
                .all(|binary| binary.as_message() == Message::binary(b"ab"))
        );
        assert_ne!(texts[0], binaries[0]);
        assert_eq!(format!("{:?}", texts[0]), "Text(\"ab\")");
    }

    #[test]
    fn an_owned_string_or_vector_is_moved() {
        let text = String::from("text");
        let address = text.as_ptr();
        let moved = text.into_owned_message();
        assert_eq!(moved.bytes.as_ptr(), address);
        let bytes = vec![1, 2];
        let address = bytes.as_ptr();
        let moved = Cow::<[u8]>::Owned(bytes).into_owned_message();
        assert_eq!(moved.bytes.as_ptr(), address);
    }

    #[test]
    fn a_text_from_a_str_equals_a_text_from_checked_bytes() {
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

/// A header of at most 4 bytes: the first `len` of `bytes`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ShortHeader {
    pub(crate) bytes: [u8; 4],
    pub(crate) len: usize,
}
