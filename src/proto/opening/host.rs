//! The grammar of a host and its port (RFC 7230 section 5.4, RFC 3986 sections 3.2.2 and 3.2.3) in `Host` and in an
//! absolute target. The checks ensure that a proxy and this server read the same host and port from a request. They do
//! not check whether the host exists.

// Imported from `core`, because `.ci/run` rejects `std::net` in `proto`, which must not use sockets. This type only
// parses an address.
use core::net::Ipv6Addr;
use std::str;

/// Returns whether `value` is `uri-host [ ":" port ]` with a host that is not empty. The form IPvFuture is rejected,
/// because no such address version is defined.
pub(crate) fn is_host(value: &[u8]) -> bool {
    let (host, port) = value.split_at(host_len(value));
    (is_ip_literal(host) || is_reg_name(host)) && is_port(port)
}

/// Returns the length of the host, which is where the colon before the port is. An IPv6 address, which has colons, is
/// in brackets.
fn host_len(value: &[u8]) -> usize {
    let end = match value {
        [b'[', ..] => position(value, b']').map(|at| at + 1),
        _ => position(value, b':'),
    };
    end.unwrap_or(value.len())
}

fn position(text: &[u8], wanted: u8) -> Option<usize> {
    text.iter().position(|&byte| byte == wanted)
}

fn is_ip_literal(host: &[u8]) -> bool {
    let [b'[', address @ .., b']'] = host else {
        return false;
    };
    str::from_utf8(address).is_ok_and(|address| address.parse::<Ipv6Addr>().is_ok())
}

/// Returns whether `host` is `1*( unreserved / pct-encoded / sub-delims )`. RFC 3986 allows an empty name, too. An IPv4
/// address has this form.
fn is_reg_name(host: &[u8]) -> bool {
    let mut left = host;
    loop {
        left = match left {
            [] => return !host.is_empty(),
            [b'%', high, low, rest @ ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                rest
            }
            [byte, rest @ ..]
                if byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=".contains(byte) =>
            {
                rest
            }
            [_, ..] => return false,
        };
    }
}

/// Returns whether `port` is `[ ":" port ]`. RFC 3986 allows a port without digits. No TCP port is greater than 65535.
fn is_port(port: &[u8]) -> bool {
    let digits = match port {
        [] | [b':'] => return true,
        [b':', digits @ ..] if digits.iter().all(u8::is_ascii_digit) => digits,
        [_, ..] => return false,
    };
    str::from_utf8(digits).is_ok_and(|digits| digits.parse::<u16>().is_ok())
}
