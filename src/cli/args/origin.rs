//! Origins to allow (RFC 6454 section 6.2): `scheme://host[:port]`, `null`, `none` (no origin) or `*` (all).
//!
//! Parsing normalises an origin to the form that browsers send: lower case, without the scheme's default port. Text
//! that no browser sends (with a path, or with characters other than ASCII) is rejected, because it would never
//! match.

use super::address::is_host_byte;
use super::units;
use std::net::Ipv6Addr;

/// A value of `--origin`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// An origin as browsers send it.
    Listed(String),
    /// Requests without an origin.
    None,
    /// Every request.
    Any,
}

/// Parses and normalises a value of `--origin`.
///
/// # Errors
/// The reason for a [`UsageError::invalid_value`](super::UsageError).
pub(super) fn parse(text: &str) -> Result<Origin, &'static str> {
    match &*text.to_ascii_lowercase() {
        "none" => Ok(Origin::None),
        "*" => Ok(Origin::Any),
        "null" => Ok(Origin::Listed("null".to_owned())),
        origin => normalised(origin).map(Origin::Listed),
    }
}

fn normalised(origin: &str) -> Result<String, &'static str> {
    let (scheme, rest) = origin.split_once("://").ok_or(NOT_AN_ORIGIN)?;
    let (host, port) = split_port(rest);
    if !is_scheme(scheme) || !is_host(host) {
        return Err(NOT_AN_ORIGIN);
    }
    let Some(port) = port else {
        return Ok(origin.to_owned());
    };
    let port: u16 = units::count(port).map_err(|_| NOT_AN_ORIGIN)?;
    match (scheme, port) {
        // RFC 6454 section 6.2, step 5: only a port that is not the scheme's default is part of the text.
        ("http", 80) | ("https", 443) => Ok(format!("{scheme}://{host}")),
        _ => Ok(format!("{scheme}://{host}:{port}")),
    }
}

/// Splits the port off. The colons of an IPv6 address are within its brackets.
pub(super) fn split_port(rest: &str) -> (&str, Option<&str>) {
    match rest.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        Some(_) | None => (rest, None),
    }
}

/// Returns whether `text` is a scheme, RFC 3986 section 3.1.
fn is_scheme(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
}

pub(super) fn is_host(text: &str) -> bool {
    match text
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'))
    {
        Some(ip) => ip.parse::<Ipv6Addr>().is_ok(),
        None => !text.is_empty() && text.bytes().all(is_host_byte),
    }
}

const NOT_AN_ORIGIN: &str = "is not an origin; expected scheme://host or scheme://host:port without a path, null, none or *";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_normalised_as_browsers_send_them() {
        let table = [
            ("https://example.org", "https://example.org"),
            ("HTTPS://Example.ORG", "https://example.org"),
            ("http://localhost:3000", "http://localhost:3000"),
            ("http://localhost:03000", "http://localhost:3000"),
            ("https://example.org:443", "https://example.org"),
            ("http://example.org:80", "http://example.org"),
            ("http://example.org:443", "http://example.org:443"),
            ("http://[::1]", "http://[::1]"),
            ("http://[::1]:8080", "http://[::1]:8080"),
            ("moz-extension://0a1b-2c3d", "moz-extension://0a1b-2c3d"),
            ("null", "null"),
            ("NULL", "null"),
        ];
        for (text, expected) in table {
            let expected = Origin::Listed(expected.to_owned());
            assert_eq!(parse(text), Ok(expected), "{text:?}");
        }
        assert_eq!(parse("None"), Ok(Origin::None));
        assert_eq!(parse("*"), Ok(Origin::Any));
    }

    #[test]
    fn text_that_no_browser_sends_as_an_origin_is_rejected() {
        let texts = [
            "",
            "example.org",
            "example.org:80",
            "://example.org",
            "1http://example.org",
            "https://",
            "https://:443",
            "https://example.org/",
            "https://example.org/chat",
            "https://example.org?x",
            "https://me@example.org",
            "https://example.org:",
            "https://example.org:port",
            "https://example.org:65536",
            "https://exa mple.org",
            "https://*.example.org",
            "https://bücher.example",
            "http://[::1",
            "http://[localhost]",
            "http://::1",
            "**",
        ];
        for text in texts {
            assert_eq!(parse(text), Err(NOT_AN_ORIGIN), "{text:?}");
        }
    }
}
