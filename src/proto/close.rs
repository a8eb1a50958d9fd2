//! The body of a Close frame (RFC 6455 sections 5.5.1 and 7.4): the close codes that are allowed in it, decoding and
//! encoding.

use super::error::ProtocolError;

/// The body of a Close frame. Without a body the code is 1005 ([`CODE_NONE`], section 7.1.5), which is never sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CloseFrame {
    /// The close code (section 7.4).
    pub code: u16,
    /// The reason: at most 123 bytes of UTF-8, often empty.
    pub reason: String,
}

/// Section 7.4.1: the Close frame had no code.
pub const CODE_NONE: u16 = 1005;

/// Section 7.4.1: the connection ended without a Close frame.
pub const CODE_ABNORMAL: u16 = 1006;

/// Maximum bytes of a reason: a control frame has at most 125 bytes of payload, of which the code takes 2.
pub const REASON_BYTES_MAX: usize = 123;

/// Returns whether `code` is allowed in a Close frame: it is defined by the RFC or in its registry (1012 to 1014 were
/// added later), or lies in the ranges for libraries (3000 to 3999) and applications (4000 to 4999). 1004 is reserved.
/// 1005, 1006 and 1015 MUST NOT be sent.
pub fn is_code_allowed(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

impl CloseFrame {
    /// Decodes the payload of a Close.
    pub(super) fn parse(payload: &[u8]) -> Result<Self, ProtocolError> {
        match *payload {
            [] => Ok(Self {
                code: CODE_NONE,
                reason: String::new(),
            }),
            [_] => Err(ProtocolError::CloseCodeCut),
            [high, low, ref reason @ ..] => {
                let code = u16::from_be_bytes([high, low]);
                if !is_code_allowed(code) {
                    return Err(ProtocolError::CloseCode(code));
                }
                let reason =
                    std::str::from_utf8(reason).map_err(|_| ProtocolError::CloseReasonNotUtf8)?;
                Ok(Self {
                    code,
                    reason: reason.to_owned(),
                })
            }
        }
    }
}

/// Returns the payload of a Close with `code` and `reason`, which is cut to [`REASON_BYTES_MAX`] bytes, between two
/// characters. Empty for [`CODE_NONE`].
pub(super) fn payload(code: u16, reason: &str) -> Vec<u8> {
    if code == CODE_NONE {
        return Vec::new();
    }
    let mut end = reason.len().min(REASON_BYTES_MAX);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    let mut payload = code.to_be_bytes().to_vec();
    payload.extend_from_slice(&reason.as_bytes()[..end]);
    payload
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_codes_of_section_7_4_are_allowed() {
        let allowed = |code: &u16| is_code_allowed(*code);
        assert!(
            [
                1000, 1001, 1002, 1003, 1007, 1011, 1012, 1014, 3000, 3999, 4000, 4999
            ]
            .iter()
            .all(allowed)
        );
        assert!(
            ![
                0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535
            ]
            .iter()
            .any(allowed)
        );
    }

    #[test]
    fn a_body_is_decoded_as_code_and_reason() {
        let frame = |code, reason: &str| {
            Ok(CloseFrame {
                code,
                reason: reason.to_owned(),
            })
        };
        assert_eq!(CloseFrame::parse(b""), frame(1005, ""));
        assert_eq!(CloseFrame::parse(b"\x03"), Err(ProtocolError::CloseCodeCut));
        assert_eq!(CloseFrame::parse(b"\x03\xE8"), frame(1000, ""));
        assert_eq!(CloseFrame::parse(b"\x0F\xA0bye"), frame(4000, "bye"));
        assert_eq!(
            CloseFrame::parse(b"\x03\xEDx"),
            Err(ProtocolError::CloseCode(1005))
        );
        assert_eq!(
            CloseFrame::parse(b"\x03\xE8\xC2"),
            Err(ProtocolError::CloseReasonNotUtf8)
        );
    }

    #[test]
    fn a_long_reason_is_cut_between_characters() {
        let body = payload(1000, &"ü".repeat(100));
        assert_eq!(body.len(), 2 + 122);
        assert!(CloseFrame::parse(&body).is_ok());
        assert_eq!(payload(1000, &"x".repeat(200)).len(), 125);
        assert_eq!(payload(CODE_NONE, "not sent"), []);
    }
}
