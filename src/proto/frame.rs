//! Frame headers (RFC 6455 section 5.2): decoding, checks, encoding. Payloads are not processed in this module. An
//! incomplete header is decoded to `None`, which is not an error.
//!
//! tungstenite's `FrameHeader` is not used. Its `parse` accepts reserved bits and lengths that are not in their
//! shortest form, and reports no error before the masking key has arrived. Its `format` writes to any `Write`, a few
//! bytes at a time, and takes twice the instructions.

use super::error::ProtocolError;

/// The role of this endpoint of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// This endpoint accepted the connection. The peer's frames are masked, and ours are not.
    Server,
    /// This endpoint opened the connection. Our frames are masked, and the peer's are not.
    Client,
}

/// Type of a frame: the opcodes of section 5.2, without the reserved ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Continuation,
    Text,
    Binary,
    Close,
    Ping,
    Pong,
}

/// A decoded header. All checks that need only the header were made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) kind: Kind,
    pub(super) is_final: bool,
    pub(super) mask: Option<[u8; 4]>,
    /// Length of the payload in bytes, below 2^63.
    pub(super) payload_len: u64,
    /// Length of the header in bytes.
    pub(super) len: usize,
}

/// Length of the longest header: two bytes, a 64-bit length, a masking key.
pub(super) const HEADER_BYTES_MAX: usize = 14;

impl Header {
    /// Decodes the header at the start of `input`. `None` means that the header is incomplete, and its first bytes are
    /// valid.
    ///
    /// `check_frame` checks whether a frame of this kind and payload length is allowed. It is called as soon as the
    /// length has arrived, before the masking key.
    pub(super) fn decode(
        input: &[u8],
        role: Role,
        check_frame: impl FnOnce(Kind, u64) -> Result<(), ProtocolError>,
    ) -> Result<Option<Self>, ProtocolError> {
        let Some(&first) = input.first() else {
            return Ok(None);
        };
        let kind = check_first(first)?;
        let Some(&second) = input.get(1) else {
            return Ok(None);
        };
        check_second(kind, second, role)?;
        let Some((payload_len, length_end)) = payload_len(second & 0x7F, &input[2..])? else {
            return Ok(None);
        };
        check_frame(kind, payload_len)?;
        let (mask, len) = match role {
            Role::Client => (None, length_end),
            Role::Server => match input[length_end..].first_chunk() {
                Some(key) => (Some(*key), length_end + key.len()),
                None => return Ok(None),
            },
        };
        let is_final = first & FINAL != 0;
        Ok(Some(Self {
            kind,
            is_final,
            mask,
            payload_len,
            len,
        }))
    }
}

/// Returns the payload length that the 7 bits and the bytes after them encode, and the offset in the header behind it.
/// `None` if the length is incomplete.
fn payload_len(bits: u8, rest: &[u8]) -> Result<Option<(u64, usize)>, ProtocolError> {
    // Section 5.2: "in all cases, the minimal number of bytes MUST be used to encode the length".
    let (len, len_min, end) = match bits {
        LENGTH_IN_2_BYTES => {
            let Some(bytes) = rest.first_chunk() else {
                return Ok(None);
            };
            (u64::from(u16::from_be_bytes(*bytes)), 126, 4)
        }
        LENGTH_IN_8_BYTES => {
            // "the most significant bit MUST be 0"
            if rest.first().is_some_and(|byte| byte & 0x80 != 0) {
                return Err(ProtocolError::LengthTopBit);
            }
            let Some(bytes) = rest.first_chunk() else {
                return Ok(None);
            };
            (u64::from_be_bytes(*bytes), 65536, 10)
        }
        len => return Ok(Some((u64::from(len), 2))),
    };
    if len < len_min {
        Err(ProtocolError::LengthNotMinimal)
    } else {
        Ok(Some((len, end)))
    }
}

/// Checks the first byte of a header: FIN, RSV1 to RSV3, opcode.
fn check_first(first: u8) -> Result<Kind, ProtocolError> {
    if first & 0x70 != 0 {
        return Err(ProtocolError::ReservedBits);
    }
    let kind = match first & 0x0F {
        0 => Kind::Continuation,
        1 => Kind::Text,
        2 => Kind::Binary,
        8 => Kind::Close,
        9 => Kind::Ping,
        10 => Kind::Pong,
        opcode => return Err(ProtocolError::ReservedOpcode(opcode)),
    };
    // Section 5.5: control frames "MUST NOT be fragmented".
    if kind.is_control() && first & FINAL == 0 {
        return Err(ProtocolError::ControlFragmented);
    }
    Ok(kind)
}

/// Checks the second byte of a header: MASK, 7-bit length.
fn check_second(kind: Kind, second: u8, role: Role) -> Result<(), ProtocolError> {
    match (role, second & MASKED != 0) {
        (Role::Server, false) => return Err(ProtocolError::FrameNotMasked),
        (Role::Client, true) => return Err(ProtocolError::FrameMasked),
        (Role::Server, true) | (Role::Client, false) => {}
    }
    // Section 5.5: "All control frames MUST have a payload length of 125 bytes or less". Checked on the first
    // two bytes, before any payload is buffered.
    if kind.is_control() && second & 0x7F > 125 {
        return Err(ProtocolError::ControlTooLong);
    }
    // Section 5.5.1: "If there is a body, the first two bytes of the body MUST be a 2-byte unsigned integer".
    if kind == Kind::Close && second & 0x7F == 1 {
        return Err(ProtocolError::CloseCodeCut);
    }
    Ok(())
}

impl Kind {
    pub(super) fn is_control(self) -> bool {
        match self {
            Self::Close | Self::Ping | Self::Pong => true,
            Self::Continuation | Self::Text | Self::Binary => false,
        }
    }

    pub(super) fn opcode(self) -> u8 {
        match self {
            Self::Continuation => 0,
            Self::Text => 1,
            Self::Binary => 2,
            Self::Close => 8,
            Self::Ping => 9,
            Self::Pong => 10,
        }
    }
}

/// An encoded header. Does not allocate.
#[derive(Clone, Copy, Debug)]
pub struct HeaderBytes {
    bytes: [u8; HEADER_BYTES_MAX],
    len: u8,
}

impl HeaderBytes {
    /// Encodes the header of an unfragmented frame of `kind` with `payload_len` bytes of payload.
    #[inline]
    pub(super) fn encode(kind: Kind, mask: Option<[u8; 4]>, payload_len: usize) -> Self {
        let mut bytes = [0; HEADER_BYTES_MAX];
        bytes[0] = FINAL | kind.opcode();
        // Section 5.2: "the minimal number of bytes MUST be used to encode the length".
        let mut len = if payload_len <= 125 {
            bytes[1] = payload_len as u8;
            2
        } else if let Ok(payload_len) = u16::try_from(payload_len) {
            bytes[1] = LENGTH_IN_2_BYTES;
            bytes[2..4].copy_from_slice(&payload_len.to_be_bytes());
            4
        } else {
            bytes[1] = LENGTH_IN_8_BYTES;
            bytes[2..10].copy_from_slice(&(payload_len as u64).to_be_bytes());
            10
        };
        if let Some(key) = mask {
            bytes[1] |= MASKED;
            bytes[len..len + 4].copy_from_slice(&key);
            len += 4;
        }
        Self {
            bytes,
            len: len as u8,
        }
    }

    /// Returns the bytes of the header, to be sent before the payload.
    pub fn as_slice(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

/// The FIN bit in the first byte: this is the final fragment of a message.
pub(super) const FINAL: u8 = 0x80;

/// The MASK bit in the second byte: the payload is masked.
const MASKED: u8 = 0x80;

/// Value of the 7-bit length field: the length follows in 16 bits.
pub(super) const LENGTH_IN_2_BYTES: u8 = 126;

/// Value of the 7-bit length field: the length follows in 64 bits.
const LENGTH_IN_8_BYTES: u8 = 127;

#[cfg(test)]
mod tests {
    use super::*;

    fn header(
        kind: Kind,
        is_final: bool,
        payload_len: u64,
        len: usize,
    ) -> Result<Option<Header>, ProtocolError> {
        Ok(Some(Header {
            kind,
            is_final,
            mask: None,
            payload_len,
            len,
        }))
    }

    fn decode(bytes: &[u8], role: Role) -> Result<Option<Header>, ProtocolError> {
        Header::decode(bytes, role, |_, _| Ok(()))
    }

    #[test]
    fn headers_with_every_form_of_length_are_decoded() {
        let unmasked = |bytes: &[u8]| decode(bytes, Role::Client);
        assert_eq!(unmasked(b"\x81\x00"), header(Kind::Text, true, 0, 2));
        assert_eq!(unmasked(b"\x02\x7D"), header(Kind::Binary, false, 125, 2));
        assert_eq!(
            unmasked(b"\x80\x7E\x00\x7E"),
            header(Kind::Continuation, true, 126, 4)
        );
        assert_eq!(
            unmasked(b"\x82\x7E\xFF\xFF"),
            header(Kind::Binary, true, 65535, 4)
        );
        assert_eq!(
            unmasked(b"\x82\x7F\0\0\0\0\0\x01\0\0"),
            header(Kind::Binary, true, 65536, 10)
        );
        assert_eq!(
            unmasked(b"\x82\x7F\x7F\xFF\xFF\xFF\xFF\xFF\xFF\xFF"),
            header(Kind::Binary, true, (1 << 63) - 1, 10)
        );
        let masked = decode(b"\x89\x85\x01\x02\x03\x04", Role::Server);
        let expected = Header {
            kind: Kind::Ping,
            is_final: true,
            mask: Some([1, 2, 3, 4]),
            payload_len: 5,
            len: 6,
        };
        assert_eq!(masked, Ok(Some(expected)));
    }

    #[test]
    fn a_header_that_is_cut_anywhere_is_incomplete() {
        for whole in [
            &b"\x81\x85\x01\x02\x03\x04"[..],
            b"\x82\xFE\x01\x00abcd",
            b"\x82\xFF\0\0\0\0\0\x01\0\0abcd",
        ] {
            for cut in 0..whole.len() {
                assert_eq!(
                    decode(&whole[..cut], Role::Server),
                    Ok(None),
                    "{whole:x?} cut at {cut}"
                );
            }
            assert!(matches!(decode(whole, Role::Server), Ok(Some(_))));
        }
    }

    #[test]
    fn every_error_is_reported_at_the_first_invalid_byte() {
        use ProtocolError::*;
        let vectors: [(&[u8], Role, ProtocolError); 21] = [
            (b"\xC1", Role::Server, ReservedBits),
            (b"\xA1", Role::Server, ReservedBits),
            (b"\x91", Role::Server, ReservedBits),
            (b"\x83", Role::Server, ReservedOpcode(3)),
            (b"\x07", Role::Server, ReservedOpcode(7)),
            (b"\x8B", Role::Server, ReservedOpcode(11)),
            (b"\x8F", Role::Client, ReservedOpcode(15)),
            (b"\x08", Role::Server, ControlFragmented),
            (b"\x09", Role::Client, ControlFragmented),
            (b"\x81\x05", Role::Server, FrameNotMasked),
            (b"\x81\x85", Role::Client, FrameMasked),
            (b"\x88\xFE", Role::Server, ControlTooLong),
            (b"\x8A\x7F", Role::Client, ControlTooLong),
            (b"\x88\x81", Role::Server, CloseCodeCut),
            (b"\x88\x01", Role::Client, CloseCodeCut),
            (b"\x82\x7E\x00\x7D", Role::Client, LengthNotMinimal),
            (b"\x82\xFE\x00\x7D", Role::Server, LengthNotMinimal),
            (
                b"\x82\x7F\0\0\0\0\0\0\xFF\xFF",
                Role::Client,
                LengthNotMinimal,
            ),
            (
                b"\x82\xFF\0\0\0\0\0\0\xFF\xFF",
                Role::Server,
                LengthNotMinimal,
            ),
            (b"\x82\x7F\x80", Role::Client, LengthTopBit),
            (b"\x82\xFF\xFF", Role::Server, LengthTopBit),
        ];
        for (bytes, role, error) in vectors {
            for cut in 0..bytes.len() {
                assert_eq!(
                    decode(&bytes[..cut], role),
                    Ok(None),
                    "{bytes:x?} cut at {cut}"
                );
            }
            assert_eq!(decode(bytes, role), Err(error), "{bytes:x?}");
        }
    }

    #[test]
    fn a_frame_is_checked_before_its_masking_key_has_arrived() {
        let check_frame = |kind: Kind, payload_len: u64| {
            assert_eq!((kind, payload_len), (Kind::Binary, 65536));
            Err(ProtocolError::MessageTooBig)
        };
        let header = b"\x82\xFF\0\0\0\0\0\x01\0\0";
        assert_eq!(
            Header::decode(header, Role::Server, check_frame),
            Err(ProtocolError::MessageTooBig)
        );
    }

    #[test]
    fn headers_are_encoded_in_the_shortest_form() {
        let table: &[(Kind, usize, &[u8])] = &[
            (Kind::Text, 0, b"\x81\x00"),
            (Kind::Binary, 125, b"\x82\x7D"),
            (Kind::Binary, 126, b"\x82\x7E\x00\x7E"),
            (Kind::Continuation, 65535, b"\x80\x7E\xFF\xFF"),
            (Kind::Text, 65536, b"\x81\x7F\0\0\0\0\0\x01\0\0"),
            (Kind::Text, 1 << 31, b"\x81\x7F\0\0\0\0\x80\0\0\0"),
            #[cfg(target_pointer_width = "64")]
            (Kind::Text, 1 << 40, b"\x81\x7F\0\0\x01\0\0\0\0\0"),
            (Kind::Close, 2, b"\x88\x02"),
            (Kind::Ping, 1, b"\x89\x01"),
            (Kind::Pong, 125, b"\x8A\x7D"),
        ];
        for &(kind, payload_len, expected) in table {
            let unmasked = HeaderBytes::encode(kind, None, payload_len);
            assert_eq!(unmasked.as_slice(), expected);
            let masked = HeaderBytes::encode(kind, Some([9, 8, 7, 6]), payload_len);
            let mut expected = [expected, &[9, 8, 7, 6]].concat();
            expected[1] |= 0x80;
            assert_eq!(masked.as_slice(), expected);
        }
    }

    #[test]
    fn encoded_headers_are_decoded_to_the_same_values() {
        for payload_len in [0, 1, 125, 126, 65535, 65536, usize::MAX >> 1] {
            for (mask, role) in [(None, Role::Client), (Some([9, 8, 7, 6]), Role::Server)] {
                let encoded = HeaderBytes::encode(Kind::Binary, mask, payload_len);
                let decoded = decode(encoded.as_slice(), role).unwrap().unwrap();
                assert_eq!(
                    (decoded.payload_len, decoded.mask),
                    (payload_len as u64, mask)
                );
                assert_eq!(decoded.len, encoded.as_slice().len());
            }
        }
    }
}
