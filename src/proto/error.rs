//! Protocol violations of the peer on an open connection: one variant for each rule of RFC 6455 that is checked and
//! for each limit of the receiver, with its close code. Errors of the opening handshake are in `opening`, and have
//! HTTP statuses instead.

use super::opening::OpeningError;
use std::fmt;

/// A rule of RFC 6455 that the peer broke. The connection has failed, and processes no further input.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ProtocolError {
    /// Sections 4.1 and 4.2: the opening handshake is invalid. Answered with an HTTP response, not with a Close.
    Opening(OpeningError),
    /// Section 5.2: RSV1 to RSV3 MUST be 0 unless an extension that defines them was negotiated.
    ReservedBits,
    /// Section 5.2: opcodes 3 to 7 and 11 to 15 are reserved.
    ReservedOpcode(u8),
    /// Section 5.1: a server MUST close the connection upon receiving a frame that is not masked.
    FrameNotMasked,
    /// Section 5.1: a client MUST close a connection if it detects a masked frame.
    FrameMasked,
    /// Section 5.5: control frames MUST NOT be fragmented.
    ControlFragmented,
    /// Section 5.5: control frames MUST have a payload length of 125 bytes or less.
    ControlTooLong,
    /// Section 5.2: the minimal number of bytes MUST be used to encode the length.
    LengthNotMinimal,
    /// Section 5.2: the most significant bit of a 64-bit length MUST be 0.
    LengthTopBit,
    /// Section 5.4: a continuation frame arrived while no fragmented message was incomplete.
    ContinuationWithoutMessage,
    /// Section 5.4: the fragments of one message MUST NOT be interleaved with those of another.
    MessageInsideMessage,
    /// Section 10.4: the message exceeds [`Limits::message_bytes_max`](super::Limits::message_bytes_max).
    MessageTooBig,
    /// Section 10.4: the message exceeds [`Limits::fragments_max`](super::Limits::fragments_max).
    TooManyFragments,
    /// Section 8.1: a text message MUST be UTF-8.
    TextNotUtf8,
    /// Section 5.5.1: the body of a Close is one byte long, but a body MUST begin with a 2-byte code.
    CloseCodeCut,
    /// Section 7.4: the code of a Close MUST NOT be set in a Close frame, or is not defined.
    CloseCode(u16),
    /// Section 5.5.1: the reason in a Close MUST be UTF-8.
    CloseReasonNotUtf8,
}

impl ProtocolError {
    /// Returns the close code (section 7.4.1) of the Close that answers the violation. `None` for an error of the
    /// opening handshake, which is answered with an HTTP response.
    pub fn close_code(&self) -> Option<u16> {
        match self {
            Self::Opening(_) => None,
            Self::ReservedBits
            | Self::ReservedOpcode(_)
            | Self::FrameNotMasked
            | Self::FrameMasked
            | Self::ControlFragmented
            | Self::ControlTooLong
            | Self::LengthNotMinimal
            | Self::LengthTopBit
            | Self::ContinuationWithoutMessage
            | Self::MessageInsideMessage
            | Self::CloseCodeCut
            | Self::CloseCode(_) => Some(1002),
            Self::TextNotUtf8 | Self::CloseReasonNotUtf8 => Some(1007),
            Self::TooManyFragments => Some(1008),
            Self::MessageTooBig => Some(1009),
        }
    }
}

impl fmt::Display for ProtocolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Opening(error) => error.fmt(f),
            Self::ReservedBits => f.write_str("reserved bits are set"),
            Self::ReservedOpcode(opcode) => write!(f, "opcode {opcode} is reserved"),
            Self::FrameNotMasked => f.write_str("a client's frame is not masked"),
            Self::FrameMasked => f.write_str("a server's frame is masked"),
            Self::ControlFragmented => f.write_str("a control frame is fragmented"),
            Self::ControlTooLong => f.write_str("a control frame exceeds 125 bytes"),
            Self::LengthNotMinimal => f.write_str("a length is not in its shortest form"),
            Self::LengthTopBit => f.write_str("a length has its top bit set"),
            Self::ContinuationWithoutMessage => f.write_str("a continuation without a message"),
            Self::MessageInsideMessage => f.write_str("a message inside a message"),
            Self::MessageTooBig => f.write_str("the message is too big"),
            Self::TooManyFragments => f.write_str("the message has too many fragments"),
            Self::TextNotUtf8 => f.write_str("a text message is not UTF-8"),
            Self::CloseCodeCut => f.write_str("the body of a Close is one byte long"),
            Self::CloseCode(code) => write!(f, "close code {code} is not allowed"),
            Self::CloseReasonNotUtf8 => f.write_str("a close reason is not UTF-8"),
        }
    }
}

impl std::error::Error for ProtocolError {}

impl From<OpeningError> for ProtocolError {
    fn from(error: OpeningError) -> Self {
        Self::Opening(error)
    }
}
