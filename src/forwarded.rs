//! The client's address in the header that proxies add to a request: `X-Forwarded-For`, or `Forwarded` (RFC 7239).
//!
//! Each proxy appends the address of its peer. Only the part that trusted proxies have appended can be relied upon,
//! because the client can send any text to the left of it. So the elements, and the quotes in them, are read from right
//! to left.

use crate::config::ForwardedHeader;
use crate::network::Network;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::str;
use tungstenite::http::header::{FORWARDED, HeaderMap, HeaderName};

static X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Returns the address of the client of a request that a trusted proxy has sent: the rightmost address in the header
/// that is not in `trusted`, or the leftmost address if all are in `trusted`. An element that is not an address
/// (`unknown`, an obfuscated identifier, garbage) ends the search with the address to the right of it. Returns `None`
/// if the rightmost element is not an address, or if there is no element: then only the address of the last proxy is
/// known.
///
/// The port is 0 if it is missing. O(length of the header times length of `trusted`).
pub(crate) fn client_address(
    headers: &HeaderMap,
    header: ForwardedHeader,
    trusted: &[Network],
) -> Option<SocketAddr> {
    let mut client = None;
    let name = match header {
        ForwardedHeader::XForwardedFor => &X_FORWARDED_FOR,
        ForwardedHeader::Forwarded => &FORWARDED,
    };
    for line in headers.get_all(name).into_iter().rev() {
        let mut rest = Some(line.as_bytes());
        while let Some(text) = rest {
            let (left, element) = split_last(text, b',');
            rest = left;
            // RFC 7230 section 7: "A recipient MUST parse and ignore a reasonable number of empty list elements".
            if element.is_empty() {
                continue;
            }
            let node = match header {
                ForwardedHeader::XForwardedFor => Some(element),
                ForwardedHeader::Forwarded => forwarded_for(element),
            };
            let Some(address) = node.and_then(parse_address) else {
                return client;
            };
            client = Some(address);
            if !trusted.iter().any(|one| one.contains(address.ip())) {
                return client;
            }
        }
    }
    client
}

/// Returns the value of the parameter `for` of an element of `Forwarded`, without quotes:
/// `forwarded-element = [ forwarded-pair ] *( ";" [ forwarded-pair ] )`. `None` if a part of the element is not a pair,
/// or if the element does not have the parameter `for` exactly once.
fn forwarded_for(element: &[u8]) -> Option<&[u8]> {
    let mut node = None;
    let mut rest = Some(element);
    while let Some(text) = rest {
        let (left, pair) = split_last(text, b';');
        rest = left;
        if pair.is_empty() {
            continue;
        }
        let at = pair.iter().position(|&byte| byte == b'=')?;
        let (name, value) = (&pair[..at], &pair[at + 1..]);
        if name.eq_ignore_ascii_case(b"for") && node.replace(unquoted(value)?).is_some() {
            return None;
        }
    }
    node
}

/// Returns a value without the quotes around it. `None` if another quote or a backslash is in it, which no address has.
fn unquoted(value: &[u8]) -> Option<&[u8]> {
    let value = match value {
        [b'"', value @ .., b'"'] => value,
        value => value,
    };
    (!value.contains(&b'"') && !value.contains(&b'\\')).then_some(value)
}

/// Splits a text at the last `separator` that is not in a quoted string. Returns the text before the separator, or
/// `None` if there is no separator, and the text after it, without the blanks around.
///
/// The search starts at the end, because the client can send any text at the start: a quote that is not closed there
/// must not change how an element that a proxy has appended is read.
fn split_last(text: &[u8], separator: u8) -> (Option<&[u8]>, &[u8]) {
    let mut is_quoted = false;
    for (at, &byte) in text.iter().enumerate().rev() {
        if byte == b'"' && !is_escaped(text, at) {
            is_quoted = !is_quoted;
        } else if byte == separator && !is_quoted {
            return (Some(&text[..at]), text[at + 1..].trim_ascii());
        }
    }
    (None, text.trim_ascii())
}

/// Returns whether the byte follows a backslash that is not itself escaped.
fn is_escaped(text: &[u8], at: usize) -> bool {
    let before = text[..at].iter().rev();
    before.take_while(|&&byte| byte == b'\\').count() % 2 == 1
}

/// Parses an IP address with or without a port. An IPv6 address must be in brackets if it has a port, and can be
/// otherwise.
fn parse_address(text: &[u8]) -> Option<SocketAddr> {
    let text = str::from_utf8(text).ok()?;
    let (ip, port) = if let Ok(address) = text.parse::<SocketAddr>() {
        (address.ip(), address.port())
    } else if let Some(text) = text.strip_prefix('[') {
        let ip: Ipv6Addr = text.strip_suffix(']')?.parse().ok()?;
        (ip.into(), 0)
    } else {
        (text.parse::<IpAddr>().ok()?, 0)
    };
    Some(SocketAddr::new(ip.to_canonical(), port))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tungstenite::http::HeaderValue;

    /// Returns the client of a request with these header lines. 10/8 and fd00::/8 are trusted.
    fn client(header: ForwardedHeader, lines: &[&str]) -> Option<String> {
        let trusted = ["10.0.0.0/8", "fd00::/8"].map(|text| text.parse().unwrap());
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(
                header.name(),
                HeaderValue::from_bytes(line.as_bytes()).unwrap(),
            );
        }
        client_address(&headers, header, &trusted).map(|address| address.to_string())
    }

    fn check(header: ForwardedHeader, table: &[(&[&str], Option<&str>)]) {
        for (lines, expected) in table {
            assert_eq!(client(header, lines).as_deref(), *expected, "{lines:?}");
        }
    }

    #[test]
    fn x_forwarded_for_is_read_from_the_right_up_to_the_first_address_not_trusted() {
        check(
            ForwardedHeader::XForwardedFor,
            &[
                (&[], None),
                (&[""], None),
                (&[" , ,, "], None),
                (&["192.0.2.1"], Some("192.0.2.1:0")),
                (&["192.0.2.1:4711"], Some("192.0.2.1:4711")),
                (&["2001:db8::1"], Some("[2001:db8::1]:0")),
                (&["[2001:db8::1]"], Some("[2001:db8::1]:0")),
                (&["[2001:db8::1]:80"], Some("[2001:db8::1]:80")),
                (&["::ffff:192.0.2.1"], Some("192.0.2.1:0")),
                (&["[::ffff:192.0.2.1]:80"], Some("192.0.2.1:80")),
                (&["198.51.100.9, 192.0.2.1"], Some("192.0.2.1:0")),
                (&["192.0.2.1, 10.1.2.3"], Some("192.0.2.1:0")),
                (&["192.0.2.1,10.1.2.3,10.0.0.1"], Some("192.0.2.1:0")),
                (&["192.0.2.1,[fd00::7]:1,10.0.0.1"], Some("192.0.2.1:0")),
                (&["192.0.2.1,::ffff:10.0.0.1"], Some("192.0.2.1:0")),
                (&["10.0.0.1, 10.0.0.2"], Some("10.0.0.1:0")),
                (&[", 192.0.2.1 , ,"], Some("192.0.2.1:0")),
                (&["\t192.0.2.1\t,\t10.0.0.1 "], Some("192.0.2.1:0")),
                // Duplicates of the header are one list.
                (
                    &["198.51.100.9", "192.0.2.1", "10.0.0.1"],
                    Some("192.0.2.1:0"),
                ),
                (
                    &["198.51.100.9", "192.0.2.1,10.0.0.2", "", "10.0.0.1"],
                    Some("192.0.2.1:0"),
                ),
                // What is no address ends the search.
                (&["unknown"], None),
                (&["192.0.2.1, unknown"], None),
                (&["192.0.2.1, unknown, 10.0.0.1"], Some("10.0.0.1:0")),
                (&["192.0.2.1", "_hidden", "10.0.0.1"], Some("10.0.0.1:0")),
                (&["192.0.2.1, \u{e9}, 10.0.0.1"], Some("10.0.0.1:0")),
                (&["unknown, 192.0.2.1"], Some("192.0.2.1:0")),
                (&["192.0.2.1:99999"], None),
                (&["192.0.2.1:"], None),
                (&["192.0.2.1:+80"], None),
                (&["192.0.2.1:-1"], None),
                (&["192.0.2.1 "], Some("192.0.2.1:0")),
                (&["192.0.2.1 10.0.0.1"], None),
                (&["192.0.2.256"], None),
                (&["192.0.2.01"], None),
                (&["0xC0.0.2.1"], None),
                (&["[192.0.2.1]"], None),
                (&["[2001:db8::1"], None),
                (&["2001:db8::1]"], None),
                (&["[2001:db8::1]80"], None),
                (&["[2001:db8::1]:"], None),
                (&["[[2001:db8::1]]"], None),
                (&["fe80::1%eth0"], None),
                (&["\"192.0.2.1\""], None),
                (&["for=192.0.2.1"], None),
                // A quote of the client's does not hide the rest.
                (&["\"198.51.100.9, 192.0.2.1"], Some("192.0.2.1:0")),
                (&["\", 192.0.2.1", "10.0.0.1"], Some("192.0.2.1:0")),
            ],
        );
    }

    #[test]
    fn forwarded_is_read_from_the_right_up_to_the_first_address_not_trusted() {
        check(
            ForwardedHeader::Forwarded,
            &[
                (&[], None),
                (&[""], None),
                (&["for=192.0.2.1"], Some("192.0.2.1:0")),
                (&["FOR=192.0.2.1"], Some("192.0.2.1:0")),
                (&["For=\"192.0.2.1:80\""], Some("192.0.2.1:80")),
                (&["for=192.0.2.1:80"], Some("192.0.2.1:80")),
                (
                    &["For=\"[2001:db8:cafe::17]:4711\""],
                    Some("[2001:db8:cafe::17]:4711"),
                ),
                (&["for=\"[2001:db8::1]\""], Some("[2001:db8::1]:0")),
                (
                    &["for=192.0.2.1;proto=http;by=203.0.113.43"],
                    Some("192.0.2.1:0"),
                ),
                (&["by=203.0.113.43; for=192.0.2.1 ;"], Some("192.0.2.1:0")),
                (&["proto=\"a,b;c\";for=192.0.2.1"], Some("192.0.2.1:0")),
                (&["for=192.0.2.1;by=\"a\\\"b\""], Some("192.0.2.1:0")),
                (&["for=198.51.100.9, for=192.0.2.1"], Some("192.0.2.1:0")),
                (&["for=192.0.2.1, for=10.0.0.1"], Some("192.0.2.1:0")),
                (&["for=192.0.2.1", "for=\"[fd00::1]\""], Some("192.0.2.1:0")),
                (&["for=192.0.2.1,,for=10.0.0.1,"], Some("192.0.2.1:0")),
                (&["for=10.0.0.1, for=10.0.0.2"], Some("10.0.0.1:0")),
                // What is no address ends the search.
                (&["for=192.0.2.1, for=unknown"], None),
                (
                    &["for=192.0.2.1, for=_SEVKISEK, for=10.0.0.1"],
                    Some("10.0.0.1:0"),
                ),
                (
                    &["for=192.0.2.1, by=10.0.0.2, for=10.0.0.1"],
                    Some("10.0.0.1:0"),
                ),
                (&["for=\"192.0.2.1:_port\""], None),
                (&["for=192.0.2.1;for=192.0.2.2"], None),
                (&["for=192.0.2.1;FOR=192.0.2.1"], None),
                (&["for =192.0.2.1"], None),
                (&["for= 192.0.2.1"], None),
                (&["for=192.0.2.1;x"], None),
                (&["for"], None),
                (&["for="], None),
                (&["for=\""], None),
                (&["for=\"\""], None),
                (&["for=\"192.0.2.1"], None),
                (&["for=192.0.2.1\""], None),
                (&["for=\"192.0.2.1\"x"], None),
                (&["for=\"192.0.2\\.1\""], None),
                (&["192.0.2.1"], None),
                (&["xfor=192.0.2.1"], None),
            ],
        );
    }

    /// A proxy appends its element to what the client has sent, in the same line or in another.
    #[test]
    fn no_text_of_the_client_changes_the_address_that_a_proxy_appends() {
        let beginnings = [
            "\"",
            "for=\"",
            "for=\"x",
            "for=198.51.100.9;x=\"",
            "for=198.51.100.9;x=\\",
            "for=198.51.100.9;x=\"\\",
            "for=198.51.100.9;x=\"\\\"",
            "for=198.51.100.9;x=\"\\\\",
            "for=198.51.100.9,",
            ";;,;=\"=",
            "for=10.0.0.1, for=\"198.51.100.9",
            "\\",
            "\\\"",
        ];
        let appended = [
            ("for=192.0.2.1", "192.0.2.1:0"),
            ("for=\"[2001:db8::1]:80\"", "[2001:db8::1]:80"),
            (
                "for=\"[2001:db8::1]:80\";by=\"[fd00::1]\";proto=\"x\"",
                "[2001:db8::1]:80",
            ),
            (
                "proto=https;for=192.0.2.1, for=\"[fd00::1]\"",
                "192.0.2.1:0",
            ),
        ];
        for beginning in beginnings {
            for (element, expected) in appended {
                let line = format!("{beginning}, {element}");
                check(ForwardedHeader::Forwarded, &[(&[&line], Some(expected))]);
                check(
                    ForwardedHeader::Forwarded,
                    &[(&[beginning, element], Some(expected))],
                );
            }
        }
    }

    #[test]
    fn only_the_chosen_header_is_read() {
        let mut headers = HeaderMap::new();
        headers.append("x-forwarded-for", HeaderValue::from_static("192.0.2.1"));
        headers.append("forwarded", HeaderValue::from_static("for=192.0.2.2"));
        let client = |header| client_address(&headers, header, &[]).unwrap().to_string();
        assert_eq!(client(ForwardedHeader::XForwardedFor), "192.0.2.1:0");
        assert_eq!(client(ForwardedHeader::Forwarded), "192.0.2.2:0");
    }

    #[test]
    fn a_list_of_1000_entries_is_read_to_its_end() {
        let entries = |first: &str, other: &str| {
            let others = (1..1000).map(|_| other);
            let all: Vec<_> = [first].into_iter().chain(others).collect();
            all.join(", ")
        };
        let (list, forwarded) = (ForwardedHeader::XForwardedFor, ForwardedHeader::Forwarded);
        check(
            list,
            &[(&[&entries("192.0.2.1", "10.0.0.1")], Some("192.0.2.1:0"))],
        );
        check(
            list,
            &[(&[&entries("unknown", "10.0.0.1")], Some("10.0.0.1:0"))],
        );
        check(
            list,
            &[(&[&entries("10.0.0.1", "192.0.2.1")], Some("192.0.2.1:0"))],
        );
        let pairs = entries("for=192.0.2.1", "for=\"[fd00::1]\";by=\"a,b\"");
        check(forwarded, &[(&[&pairs], Some("192.0.2.1:0"))]);
        let quotes = "\"".repeat(1001);
        check(forwarded, &[(&[&quotes], None)]);
        let escapes = format!("for=\"{}\"", "\\".repeat(10_000));
        check(forwarded, &[(&[&escapes], None)]);
    }
}
