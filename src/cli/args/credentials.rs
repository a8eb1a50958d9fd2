//! The user name and the password in a URL: HTTP Basic authentication (RFC 7617).

use super::UsageError;

/// Returns the error for an invalid URL. Its message has no user name and no password.
pub(super) fn invalid_url(word: &str, reason: &str) -> UsageError {
    UsageError(format!("the URL {:?} {reason}", without_credentials(word)))
}

/// Returns an invalid argument without what may be a user name and a password.
fn without_credentials(word: &str) -> String {
    let Some((before, rest)) = word.rsplit_once('@') else {
        return word.to_owned();
    };
    let scheme = before.find("://").map_or("", |end| &before[..end + 3]);
    format!("{scheme}***@{rest}")
}

/// Returns the value of the Authorization header for `USER[:PASSWORD]`, in which percent sequences are decoded
/// (RFC 7617).
pub(super) fn basic(credentials: &str) -> String {
    let mut decoded = percent_decoded(credentials.as_bytes());
    if !credentials.contains(':') {
        decoded.push(b':');
    }
    format!("Basic {}", base64(&decoded))
}

/// Decodes percent sequences. An invalid one stays as it is.
fn percent_decoded(mut text: &[u8]) -> Vec<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let mut decoded = Vec::new();
    while let Some((&first, rest)) = text.split_first() {
        text = rest;
        if let (b'%', &[high, low, ref after @ ..]) = (first, rest)
            && let (Some(high), Some(low)) = (digit(high), digit(low))
        {
            decoded.push((16 * high + low) as u8);
            text = after;
        } else {
            decoded.push(first);
        }
    }
    decoded
}

/// Encodes bytes in base64 with padding (RFC 4648 section 4).
pub(super) fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let byte = |index: usize| u32::from(group.get(index).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for letter in 0..4 {
            text.push(if letter > group.len() {
                '='
            } else {
                char::from(LETTERS[(bits >> (18 - 6 * letter) & 63) as usize])
            });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_invalid_url_is_shown_without_credentials() {
        for (word, shown) in [
            ("ws://u:pa/ss@a/", "ws://***@a/"),
            ("u:pa/ss@a/", "***@a/"),
            ("ws://a/", "ws://a/"),
        ] {
            assert_eq!(without_credentials(word), shown);
        }
    }

    #[test]
    fn base64_has_the_test_vectors_of_rfc_4648() {
        let table = [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ];
        for (bytes, text) in table {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
        assert_eq!(base64(b"\xFB\xFF"), "+/8=");
    }
}
