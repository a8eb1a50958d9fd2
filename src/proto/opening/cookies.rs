//! The name-value pairs of the `Cookie` header field (RFC 6265 section 4.2). This module splits the field. It does not
//! decode or check the values.

use std::str;
use tungstenite::http::HeaderMap;
use tungstenite::http::header::COOKIE;

/// Returns the cookies of all `Cookie` lines, in order. RFC 6265 section 5.4 allows one line, but a proxy that converts
/// HTTP/2 may pass on several (RFC 7540 section 8.1.2.5).
///
/// Skips a part that has no `=`, has an empty name, or is not UTF-8. Removes white space around names and values.
/// Quotes around a value are part of the value, as in browsers (section 5.2): a browser returns the quotes that a
/// server has set.
pub(super) fn cookies(headers: &HeaderMap) -> impl Iterator<Item = (&str, &str)> {
    headers
        .get_all(COOKIE)
        .into_iter()
        .flat_map(|line| line.as_bytes().split(|&byte| byte == b';'))
        .filter_map(|pair| str::from_utf8(pair).ok()?.split_once('='))
        .map(|(name, value)| (name.trim_ascii(), value.trim_ascii()))
        .filter(|(name, _)| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tungstenite::http::HeaderValue;

    #[test]
    fn cookies_of_all_lines_are_split() {
        /// Lines, and the expected cookies.
        type Row<'r> = (&'r [&'r [u8]], &'r [(&'r str, &'r str)]);
        let table: &[Row<'_>] = &[
            (&[], &[]),
            (&[b""], &[]),
            (&[b"a=1"], &[("a", "1")]),
            (&[b"a=1; b=2"], &[("a", "1"), ("b", "2")]),
            (&[b"a=1;b=2;"], &[("a", "1"), ("b", "2")]),
            (&[b" a = 1 ;\tb\t=\t2\t"], &[("a", "1"), ("b", "2")]),
            (
                &[b"a=1", b"b=2; a=3"],
                &[("a", "1"), ("b", "2"), ("a", "3")],
            ),
            (&[b"a=b=c=="], &[("a", "b=c==")]),
            (&[b"a="], &[("a", "")]),
            (&[b"A=1; a=2"], &[("A", "1"), ("a", "2")]),
            // Quotes and percent sequences are part of the value, and quotes do not protect a semicolon.
            (&[b"a=\"1\"; b=%20"], &[("a", "\"1\""), ("b", "%20")]),
            (&[b"a=\"1;2\"; b=3"], &[("a", "\"1"), ("b", "3")]),
            // Commas do not separate cookies.
            (&[b"a=1, b=2"], &[("a", "1, b=2")]),
            (&[b"; ;a; =1; = ;b=2"], &[("b", "2")]),
            (&[b"a=\xFF; b=\xC3\xA9; \xFF=1"], &[("b", "é")]),
        ];
        for (lines, expected) in table {
            let mut headers = HeaderMap::new();
            for line in *lines {
                headers.append(COOKIE, HeaderValue::from_bytes(line).unwrap());
            }
            let cookies: Vec<_> = cookies(&headers).collect();
            assert_eq!(cookies, *expected, "{lines:?}");
        }
    }
}
