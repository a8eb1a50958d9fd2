//! Decodes the chunked transfer coding (RFC 9112, section 7.1), which an HTTP server may use for the body of a refused
//! opening handshake.

/// Decodes the chunks in `bytes`, which may be incomplete. Returns the data, and whether the last chunk has been
/// received.
///
/// Malformed input ends the body without an error: the body is only printed for a person.
pub(super) fn decode(mut bytes: &[u8]) -> (Vec<u8>, bool) {
    let mut data = Vec::new();
    loop {
        let Some(end) = bytes.windows(2).position(|two| two == b"\r\n") else {
            return (data, false);
        };
        let (line, rest) = bytes.split_at(end);
        let Some(len) = size(line) else {
            return (data, true);
        };
        if len == 0 {
            return (data, true);
        }
        bytes = &rest[2..];
        data.extend_from_slice(&bytes[..bytes.len().min(len)]);
        let Some(rest) = len.checked_add(2).and_then(|next| bytes.get(next..)) else {
            return (data, false);
        };
        bytes = rest;
    }
}

/// Parses the size line of a chunk. Ignores chunk extensions.
fn size(line: &[u8]) -> Option<usize> {
    let digits = line.split(|&byte| byte == b';').next()?;
    let digits = std::str::from_utf8(digits).ok()?.trim_end();
    if !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    usize::from_str_radix(digits, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::decode;

    #[test]
    fn the_prefixes_of_a_chunked_body_are_decoded() {
        let whole =
            b"5\r\nhello\r\n1;name=\"value\"\r\n \r\nA\r\nworld, all\r\n000\r\nTrailer: x\r\n\r\n";
        assert_eq!(decode(whole), (b"hello world, all".to_vec(), true));
        let last = whole.len() - b"\r\nTrailer: x\r\n\r\n".len();
        for len in 0..=last {
            let (data, is_whole) = decode(&whole[..len]);
            assert!(b"hello world, all".starts_with(&data) && !is_whole, "{len}");
        }
    }

    #[test]
    fn a_malformed_chunk_ends_the_body() {
        let table: [(&[u8], &[u8]); 5] = [
            (b"2\r\nab\r\nxyz\r\n", b"ab"),
            (b"\r\n", b""),
            (b"-1\r\nab", b""),
            (b"+1\r\nab", b""),
            (b"fffffffffffffffff\r\nab", b""),
        ];
        for (bytes, data) in table {
            assert_eq!(decode(bytes), (data.to_vec(), true), "{bytes:?}");
        }
        // A size beyond the address space is valid.
        assert_eq!(decode(b"ffffffffffffffff\r\nab"), (b"ab".to_vec(), false));
    }
}
