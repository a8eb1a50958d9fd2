//! Percent-decoding of a target: its path, and the name-value pairs of its query (the WHATWG URL standard's
//! `application/x-www-form-urlencoded` parser).
//!
//! Invalid input is not an error: an incomplete or invalid percent sequence stays as it is, and bytes that are not
//! UTF-8 become U+FFFD. Decoded text is never longer than its encoding, so `HeadLimits` limits its length, too.

use std::borrow::Cow;

/// Returns the decoded name and value of each pair of a query, in order. Empty pairs are skipped. The value of a pair
/// without "=" is empty.
pub(super) fn pairs(query: &str) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
    query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(name, value)| (decode(name, Plus::Space), decode(value, Plus::Space)))
}

/// What a "+" is decoded to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Plus {
    /// A "+", in a path.
    Plus,
    /// A space, in a query.
    Space,
}

/// Decodes the percent sequences of `text` (RFC 3986 section 2.1). Borrows `text` if there is nothing to decode.
pub(super) fn decode(text: &str, plus: Plus) -> Cow<'_, str> {
    let is_decoded = |at: usize| match text.as_bytes()[at] {
        b'%' => encoded_byte(&text.as_bytes()[at..]).is_some(),
        b'+' => plus == Plus::Space,
        _ => false,
    };
    let Some(first) = (0..text.len()).find(|&at| is_decoded(at)) else {
        return Cow::Borrowed(text);
    };
    let (start, mut rest) = text.as_bytes().split_at(first);
    let mut bytes = Vec::with_capacity(text.len());
    bytes.extend_from_slice(start);
    while let [byte, after @ ..] = rest {
        let (decoded, after) = match (byte, encoded_byte(rest)) {
            (_, Some(decoded)) => (decoded, &rest[3..]),
            (b'+', None) if plus == Plus::Space => (b' ', after),
            (byte, None) => (*byte, after),
        };
        bytes.push(decoded);
        rest = after;
    }
    let text = String::from_utf8(bytes)
        .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned());
    Cow::Owned(text)
}

/// Returns the byte that the percent sequence at the start of `text` stands for; `None` if there is no valid sequence.
fn encoded_byte(text: &[u8]) -> Option<u8> {
    let [b'%', high, low, ..] = text else {
        return None;
    };
    let digit = |byte: &u8| char::from(*byte).to_digit(16);
    Some((digit(high)? << 4 | digit(low)?) as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_split_and_decoded() {
        let table: &[(&str, &[(&str, &str)])] = &[
            ("", &[]),
            ("a=1&b=2", &[("a", "1"), ("b", "2")]),
            ("a=1&a=2", &[("a", "1"), ("a", "2")]),
            ("&&a=1&&", &[("a", "1")]),
            ("a", &[("a", "")]),
            ("=", &[("", "")]),
            ("=1", &[("", "1")]),
            ("a=b=c", &[("a", "b=c")]),
            ("a=1;b=2", &[("a", "1;b=2")]),
            (
                "first+name=J%C3%B6rg+%2B+co",
                &[("first name", "Jörg + co")],
            ),
            // Decoded only after the query was split.
            ("a%3D1%26b=2", &[("a=1&b", "2")]),
        ];
        for (query, expected) in table {
            let pairs: Vec<_> = pairs(query).collect();
            let pairs: Vec<_> = pairs.iter().map(|(n, v)| (&**n, &**v)).collect();
            assert_eq!(pairs, *expected, "{query}");
        }
    }

    #[test]
    fn invalid_percent_sequences_stay_as_they_are() {
        for text in [
            "%", "%4", "%zz", "%4z", "%z4", "%%", "%+4", "%é", "a%", "100%",
        ] {
            assert_eq!(decode(text, Plus::Plus), text);
        }
        assert_eq!(decode("%%41", Plus::Plus), "%A");
        assert_eq!(decode("%4%41", Plus::Plus), "%4A");
        assert_eq!(decode("%2541", Plus::Plus), "%41");
        assert_eq!(decode("%0a%0D%00", Plus::Plus), "\n\r\0");
    }

    #[test]
    fn bytes_that_are_not_utf8_are_replaced() {
        assert_eq!(decode("%FF", Plus::Plus), "\u{FFFD}");
        assert_eq!(decode("a%C3", Plus::Plus), "a\u{FFFD}");
        assert_eq!(decode("%C3+%A9", Plus::Space), "\u{FFFD} \u{FFFD}");
        assert_eq!(decode("%ED%A0%80", Plus::Plus), "\u{FFFD}\u{FFFD}\u{FFFD}");
    }

    #[test]
    fn text_with_nothing_to_decode_is_borrowed() {
        for text in ["", "abc", "%zz", "é"] {
            assert!(matches!(decode(text, Plus::Space), Cow::Borrowed(_)));
        }
        assert!(matches!(decode("a+b", Plus::Plus), Cow::Borrowed("a+b")));
        assert!(matches!(decode("a+b", Plus::Space), Cow::Owned(_)));
    }

    /// Every query of up to four symbols, and longer random ones, give the pairs of the crate `form_urlencoded`; paths
    /// give the text of `percent_encoding`. Decoded text is never longer than its encoding.
    #[test]
    fn queries_and_paths_are_decoded_as_well_kept_crates_decode_them() {
        let symbols = [
            "%", "+", "&", "=", "4", "1", "a", "F", "z", "%41", "%C3", "%A9", "%26", "%2b", "é",
            ";",
        ];
        let mut texts = vec![String::new()];
        for _ in 0..4 {
            texts = texts
                .iter()
                .flat_map(|text| symbols.map(|symbol| format!("{text}{symbol}")))
                .collect();
            texts.iter().for_each(|text| compare(text));
        }
        // xorshift64, always with the same seed.
        let mut state = 7_u64;
        for number in 0..20_000 {
            let mut text = String::new();
            for _ in 0..number % 40 {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                text += symbols[(state >> 11) as usize % symbols.len()];
            }
            compare(&text);
        }
    }

    fn compare(text: &str) {
        let ours: Vec<_> = pairs(text).collect();
        let theirs: Vec<_> = form_urlencoded::parse(text.as_bytes()).collect();
        assert_eq!(ours, theirs, "{text:?}");
        let ours = decode(text, Plus::Plus);
        let theirs = percent_encoding::percent_decode_str(text).decode_utf8_lossy();
        assert_eq!(ours, theirs, "{text:?}");
        assert!(ours.len() <= text.len(), "{text:?}");
    }
}
