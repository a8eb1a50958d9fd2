//! The grammar of values inside header fields: tokens and lists of tokens (RFC 7230 sections 3.2.6 and 7), and the
//! base64 of the 16 bytes of a `Sec-WebSocket-Key`. This module checks and splits values. It does not interpret them.

use tungstenite::http::header::{HeaderMap, HeaderName, HeaderValue, ValueIter};

/// Returns whether a token may contain `byte`.
#[inline]
pub(super) fn is_token_byte(byte: u8) -> bool {
    TOKEN_BYTES[usize::from(byte)]
}

static TOKEN_BYTES: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < table.len() {
        table[byte] = (byte as u8).is_ascii_alphanumeric();
        byte += 1;
    }
    let others = b"!#$%&'*+-.^_`|~";
    let mut at = 0;
    while at < others.len() {
        table[others[at] as usize] = true;
        at += 1;
    }
    table
};

/// Returns whether `text` is a token. Methods, names of fields and subprotocols are tokens.
pub(crate) fn is_token(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().copied().all(is_token_byte)
}

/// Returns the elements of the comma-separated field `name`, in order, without the spaces and tabs around them. If the
/// field has several lines, their lists are joined. Empty elements are skipped, as RFC 7230 section 7 demands of a
/// recipient.
pub(super) fn list<'h>(headers: &'h HeaderMap, name: &HeaderName) -> List<'h> {
    List {
        lines: headers.get_all(name).into_iter(),
        rest: None,
    }
}

/// The iterator of [`list`]. Its users share one `next`; iterator adapters would be compiled once for each of them.
pub(super) struct List<'h> {
    lines: ValueIter<'h, HeaderValue>,
    /// The part of a line that is not split yet.
    rest: Option<&'h [u8]>,
}

impl<'h> Iterator for List<'h> {
    type Item = &'h [u8];

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let rest = match self.rest.take() {
                Some(rest) => rest,
                None => self.lines.next()?.as_bytes(),
            };
            let element = match rest.iter().position(|&byte| byte == b',') {
                Some(comma) => {
                    self.rest = Some(&rest[comma + 1..]);
                    &rest[..comma]
                }
                None => rest,
            };
            let element = element.trim_ascii();
            if !element.is_empty() {
                return Some(element);
            }
        }
    }
}

/// Returns whether the comma-separated field `name` contains `token`, regardless of case.
pub(super) fn list_contains(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    list(headers, name).any(|element| element.eq_ignore_ascii_case(token.as_bytes()))
}

/// How often a field occurs in a head.
pub(super) enum Occurrence<'h> {
    Missing,
    Once(&'h [u8]),
    Repeated,
}

/// Returns how often the field `name` occurs, and its value if it occurs once.
pub(super) fn occurrence<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Occurrence<'h> {
    let mut lines = headers.get_all(name).into_iter();
    match (lines.next(), lines.next()) {
        (None, _) => Occurrence::Missing,
        (Some(value), None) => Occurrence::Once(value.as_bytes()),
        (Some(_), Some(_)) => Occurrence::Repeated,
    }
}

/// Returns whether `key` is 16 bytes in base64 (RFC 6455 section 4.2.1 point 5): 22 letters of the base64 alphabet,
/// which includes digits, "+" and "/", and then "==". The last letter encodes 2 of the 128 bits, so its low 4 bits are
/// 0 in canonical base64. A lenient decoder ignores these 4 bits. A strict decoder, such as tungstenite's, rejects the
/// key if they are not 0, and so does this function.
pub(super) fn is_key(key: &[u8]) -> bool {
    let [letters @ .., b'=', b'='] = key else {
        return false;
    };
    let [.., last] = letters else { return false };
    letters.len() == 22
        && letters.iter().all(|letter| BASE64.contains(letter))
        && BASE64
            .iter()
            .position(|letter| letter == last)
            .is_some_and(|bits| bits & 0x0F == 0)
}

/// Returns the base64 of a key, 24 characters.
pub(super) fn encode_key(key: [u8; 16]) -> String {
    let bits = u128::from_be_bytes(key);
    // 21 letters of 6 bits each, from the highest bit on, and one letter of the last 2 bits and 4 zeros.
    let letters = (0..21).map(|i| bits >> (122 - 6 * i)).chain([bits << 4]);
    let mut text: String = letters
        .map(|bits| char::from(BASE64[(bits & 0x3F) as usize]))
        .collect();
    text.push_str("==");
    text
}

const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_canonical_base64_of_16_bytes_is_a_key() {
        let table: &[(&str, bool)] = &[
            ("dGhlIHNhbXBsZSBub25jZQ==", true),
            ("AAAAAAAAAAAAAAAAAAAAAA==", true),
            ("/////////////////////w==", true),
            ("", false),
            ("==", false),
            ("dGhlIHNhbXBsZSBub25jZQ=", false),
            ("dGhlIHNhbXBsZSBub25jZQ", false),
            ("dGhlIHNhbXBsZSBub25jZR==", false), // the last 4 bits are not 0
            ("dGhlIHNhbXBsZSBub25jZ===", false), // 15 bytes and 6 bits
            ("dGhlIHNhbXBsZSBub25j", false),     // 15 bytes
            ("dGhlIHNhbXBsZSBub25jZSE=", false), // 17 bytes
            ("AAAAAAAAAAAAAAAAAAAAAAAA", false), // 18 bytes
            ("dGhlIHNhbXBsZSBub25j-Q==", false), // the URL-safe alphabet
            ("dGhlIHNhbXBsZSBub25 ZQ==", false),
            ("dGhlIHNhbXBsZSBub25jZQ==AA==", false),
        ];
        for (key, expected) in table {
            assert_eq!(is_key(key.as_bytes()), *expected, "{key}");
        }
    }

    #[test]
    fn a_key_is_encoded_as_base64() {
        assert_eq!(encode_key(*b"the sample nonce"), "dGhlIHNhbXBsZSBub25jZQ==");
        assert_eq!(encode_key([0; 16]), "AAAAAAAAAAAAAAAAAAAAAA==");
        assert_eq!(encode_key([255; 16]), "/////////////////////w==");
    }
}
