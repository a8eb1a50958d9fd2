//! The PROXY protocol, versions 1 and 2: the header at the beginning of a connection in which a proxy names the client.
//! Sections are those of <https://www.haproxy.org/download/3.2/doc/proxy-protocol.txt>.
//!
//! The crate `proxy-header` parses the header. This module determines where the header ends, limits its length, and
//! rejects bytes that do not begin a header at the first wrong byte.

use proxy_header::{Error, ParseConfig, ProxyHeader};
use std::net::SocketAddr;

/// A complete header at the beginning of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    /// Length in bytes, with the extensions (TLVs) of version 2, which are skipped.
    pub(crate) len: usize,
    /// The client's address. `None` if the header has none: the command is `LOCAL`, for example for a health check, or
    /// the address family is `UNKNOWN` or that of Unix sockets.
    pub(crate) client: Option<SocketAddr>,
}

/// The bytes are not a header, or the header is longer than allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct InvalidHeader;

/// Parses the header at the beginning of `bytes`. Other bytes can follow it. Returns `None` if the header is not
/// complete yet. A header can have at most `bytes_max` bytes, and a header of version 1 at most [`V1_BYTES_MAX`]. O(1).
pub(crate) fn parse(bytes: &[u8], bytes_max: usize) -> Result<Option<Header>, InvalidHeader> {
    let begins_as = |start: &[u8]| {
        let len = start.len().min(bytes.len());
        bytes[..len] == start[..len]
    };
    let len = if begins_as(V1_START) {
        v1_len(bytes)?
    } else if begins_as(V2_START) {
        v2_len(bytes)
    } else {
        return Err(InvalidHeader);
    };
    if len.unwrap_or(bytes.len()) > bytes_max {
        return Err(InvalidHeader);
    }
    let header = len.and_then(|len| bytes.get(..len));
    let is_complete = header.is_some();
    let config = ParseConfig {
        include_tlvs: false,
        ..ParseConfig::default()
    };
    match ProxyHeader::parse(header.unwrap_or(bytes), config) {
        Ok((parsed, len)) if is_complete => {
            let address = parsed.proxied_address();
            let client = address.map(|address| {
                let source = address.source;
                SocketAddr::new(source.ip().to_canonical(), source.port())
            });
            Ok(Some(Header { len, client }))
        }
        Err(Error::BufferTooShort) if !is_complete => Ok(None),
        Ok(_) | Err(_) => Err(InvalidHeader),
    }
}

/// Returns the length of a header of version 1, with the CRLF that ends it. `None` if the CRLF has not arrived. The
/// length is needed because the crate's parser would wait for more bytes if a field is missing in a complete line.
fn v1_len(bytes: &[u8]) -> Result<Option<usize>, InvalidHeader> {
    let line = &bytes[..bytes.len().min(V1_BYTES_MAX)];
    match line.windows(2).position(|pair| pair == b"\r\n") {
        Some(at) if is_v1_line(&line[V1_START.len()..at]) => Ok(Some(at + 2)),
        Some(_) => Err(InvalidHeader),
        None if line.len() == V1_BYTES_MAX => Err(InvalidHeader),
        None => Ok(None),
    }
}

/// Returns whether a line passes the checks that the crate's parser does not make: `UNKNOWN` is a whole word, and no
/// number has a sign. `fields` is the line after `PROXY `. Section 2.1 demands that the receiver "must ignore anything
/// presented before the CRLF" only after the word `UNKNOWN`.
fn is_v1_line(fields: &[u8]) -> bool {
    match fields.strip_prefix(b"UNKNOWN") {
        Some(rest) => rest.first().is_none_or(|&byte| byte == b' '),
        None => !fields.contains(&b'+'),
    }
}

/// Returns the length of a header of version 2, or `None` if its first 16 bytes have not arrived. Section 2.2:
/// "The 15th and 16th bytes" are "the address length in bytes in network endian order".
fn v2_len(bytes: &[u8]) -> Option<usize> {
    let fixed = bytes.get(..V2_FIXED_BYTES)?;
    Some(V2_FIXED_BYTES + usize::from(u16::from_be_bytes([fixed[14], fixed[15]])))
}

const V1_START: &[u8] = b"PROXY ";
const V2_START: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// Section 2.1: "the worst case" of a header of version 1 is "107 chars".
const V1_BYTES_MAX: usize = 107;

/// Length of the part of a header of version 2 that every such header has.
const V2_FIXED_BYTES: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns a header of version 2.
    fn v2(version_and_command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let len = (rest.len() as u16).to_be_bytes();
        [V2_START, &[version_and_command, family], &len, rest].concat()
    }

    const V4: &[u8] = &[192, 0, 2, 1, 10, 0, 0, 1, 0x12, 0x34, 0, 80];
    const TLVS: &[u8] = &[0x04, 0, 2, 0, 0, 0xE0, 0, 3, 1, 2, 3];

    fn valid() -> Vec<(Vec<u8>, Option<&'static str>)> {
        let v6: Vec<u8> = [
            &[0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1][..],
            &[0; 16],
            &[0x12, 0x34, 0, 80],
        ]
        .concat();
        let mapped: Vec<u8> = [&[0; 10][..], &[255, 255, 192, 0, 2, 1], &v6[16..]].concat();
        vec![
            (
                b"PROXY TCP4 192.0.2.1 10.0.0.1 4660 80\r\n".to_vec(),
                Some("192.0.2.1:4660"),
            ),
            (
                b"PROXY TCP6 2001:db8::1 ::1 65535 80\r\n".to_vec(),
                Some("[2001:db8::1]:65535"),
            ),
            (b"PROXY UNKNOWN\r\n".to_vec(), None),
            (
                b"PROXY UNKNOWN ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff \
                  ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n"
                    .to_vec(),
                None,
            ),
            (v2(0x21, 0x11, V4), Some("192.0.2.1:4660")),
            (v2(0x21, 0x11, &[V4, TLVS].concat()), Some("192.0.2.1:4660")),
            (v2(0x21, 0x12, V4), Some("192.0.2.1:4660")),
            (v2(0x21, 0x21, &v6), Some("[2001:db8::1]:4660")),
            (v2(0x21, 0x21, &mapped), Some("192.0.2.1:4660")),
            (v2(0x21, 0x31, &[7; 216]), None),
            (v2(0x21, 0x00, &[]), None),
            (v2(0x21, 0x00, TLVS), None),
            (v2(0x20, 0x00, &[]), None),
            (v2(0x20, 0x00, TLVS), None),
            (v2(0x20, 0x11, V4), None),
        ]
    }

    #[test]
    fn a_header_is_parsed_up_to_its_end_and_incomplete_before() {
        for (bytes, expected) in valid() {
            let expected = Header {
                len: bytes.len(),
                client: expected.map(|text| text.parse().unwrap()),
            };
            for len in 0..bytes.len() {
                assert_eq!(parse(&bytes[..len], 1000), Ok(None), "{len} of {bytes:?}");
            }
            for rest in ["", "G", "GET / HTTP/1.1\r\n", "\r\n", "PROXY UNKNOWN\r\n"] {
                let all = [&bytes[..], rest.as_bytes()].concat();
                assert_eq!(parse(&all, 1000), Ok(Some(expected)), "{bytes:?} {rest:?}");
                assert_eq!(parse(&all, bytes.len()), Ok(Some(expected)), "{bytes:?}");
                assert_eq!(
                    parse(&all, bytes.len() - 1),
                    Err(InvalidHeader),
                    "{bytes:?}"
                );
            }
        }
    }

    #[test]
    fn bytes_that_are_no_header_are_rejected_at_the_first_wrong_byte() {
        let texts: [&[u8]; 12] = [
            b"GET / HTTP/1.1\r\n",
            b"POST / HTTP/1.1\r\n",
            b"PRI * HTTP/2.0\r\n",
            b"PROXYxTCP4",
            b"PROXY\tTCP4",
            b"proxy TCP4",
            b" PROXY TCP4",
            b"\0",
            b"\n",
            b"\r\r",
            b"\r\n\r\n\0\r\nQUIT\r",
            b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03",
        ];
        for text in texts {
            let prefixes = (1..=text.len()).map(|len| parse(&text[..len], 1000));
            let first = prefixes.clone().position(|result| result.is_err()).unwrap();
            for (len, result) in prefixes.enumerate() {
                let expected = if len < first {
                    Ok(None)
                } else {
                    Err(InvalidHeader)
                };
                assert_eq!(result, expected, "{len} {}", text.escape_ascii());
            }
            assert!(first < 12, "{}", text.escape_ascii());
        }
    }

    #[test]
    fn malformed_headers_are_rejected() {
        let long = format!("PROXY TCP4 {}", "1".repeat(100));
        let mut table: Vec<Vec<u8>> = [
            "PROXY TCP4 192.0.2.1 10.0.0.1 80\r\n",
            "PROXY TCP4 192.0.2.1 10.0.0.1 80 80 \r\n",
            "PROXY TCP4 192.0.2.1 10.0.0.1 65536 80\r\n",
            "PROXY TCP4 192.0.2.1  10.0.0.1 80 80\r\n",
            "PROXY TCP4 192.0.2.256 10.0.0.1 80 80\r\n",
            "PROXY TCP4 2001:db8::1 ::1 80 80\r\n",
            "PROXY TCP6 192.0.2.1 10.0.0.1 80 80\r\n",
            "PROXY TCP5 192.0.2.1 10.0.0.1 80 80\r\n",
            "PROXY UDP4 192.0.2.1 10.0.0.1 80 80\r\n",
            "PROXY TCP4 192.0.2.1 10.0.0.1 80 80\rx\r\n",
            "PROXY TCP4 192.0.2.1 10.0.0.1 +80 80\r\n",
            "PROXY TCP4 192.0.2.1 10.0.0.1 80 +80\r\n",
            "PROXY UNKNOWNX\r\n",
            "PROXY UNKNOWN\t\r\n",
            "PROXY TCP4 192.0.2.1 10.0.0.1 80 80\nx\r\n",
            "PROXY TCP4 a b 80 80\r\nGET / HTTP/1.1\r\n",
            "PROXY  TCP4 192.0.2.1 10.0.0.1 80 80\r\n",
            &long,
        ]
        .map(|text| text.as_bytes().to_vec())
        .into();
        // Another version, command, family; too few bytes of addresses.
        table.extend([
            v2(0x11, 0x11, V4),
            v2(0x01, 0x11, V4),
            v2(0x22, 0x11, V4),
            v2(0x2F, 0x11, V4),
            v2(0x21, 0x41, V4),
            v2(0x21, 0x13, V4),
            v2(0x21, 0x11, &V4[1..]),
            v2(0x21, 0x11, &[]),
            v2(0x21, 0x21, V4),
            v2(0x21, 0x31, &[0; 215]),
        ]);
        for bytes in table {
            assert_eq!(
                parse(&bytes, 1000),
                Err(InvalidHeader),
                "{}",
                bytes.escape_ascii()
            );
        }
    }

    #[test]
    fn a_header_that_announces_too_many_bytes_is_rejected_before_they_arrive() {
        let header = v2(0x21, 0x11, &[0; 65_535]);
        assert_eq!(parse(&header[..15], 1000), Ok(None));
        assert_eq!(parse(&header[..16], 1000), Err(InvalidHeader));
        assert_eq!(parse(&header[..16], 65_550), Err(InvalidHeader));
        assert_eq!(parse(&header[..16], 65_551), Ok(None));
        assert!(parse(&header, 65_551).unwrap().is_some());
    }

    #[test]
    fn random_bytes_after_a_valid_start_are_rejected_or_incomplete_or_a_header() {
        let mut seed = 0x5EED_u32;
        let mut random = || {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            seed >> 8
        };
        let starts: Vec<Vec<u8>> = valid().into_iter().map(|(bytes, _)| bytes).collect();
        for _ in 0..20_000 {
            let mut bytes = starts[random() as usize % starts.len()].clone();
            for _ in 0..random() % 4 {
                let at = random() as usize % bytes.len();
                bytes[at] = random() as u8;
            }
            bytes.truncate(random() as usize % (bytes.len() + 1));
            if let Ok(Some(header)) = parse(&bytes, 1000) {
                assert!(header.len <= bytes.len());
            }
        }
    }
}
