//! Hosts to serve: a name or an IP address with an optional port, or `*`.

use super::origin::{is_host, split_port};
use super::units;

/// A value of `--host`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Host {
    Listed(String),
    /// Every host.
    Any,
}

/// Parses a value of `--host`.
///
/// # Errors
/// The reason for a [`UsageError::invalid_value`](super::UsageError).
pub(super) fn parse(text: &str) -> Result<Host, &'static str> {
    if text == "*" {
        return Ok(Host::Any);
    }
    let (name, port) = split_port(text);
    let has_valid_port = port.is_none_or(|port| units::count::<u16>(port).is_ok());
    if !is_host(name) || !has_valid_port {
        return Err(NOT_A_HOST);
    }
    Ok(Host::Listed(text.to_owned()))
}

const NOT_A_HOST: &str =
    "is not a host; expected NAME, NAME:PORT, an IP address ([::1] in brackets) or *";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_addresses_are_hosts() {
        for text in [
            "localhost",
            "Example.org",
            "example.org:8080",
            "10.0.0.1",
            "[::1]",
            "[::1]:80",
            "a_b",
        ] {
            assert_eq!(parse(text), Ok(Host::Listed(text.to_owned())), "{text:?}");
        }
        assert_eq!(parse("*"), Ok(Host::Any));
    }

    #[test]
    fn other_text_is_rejected() {
        for text in [
            "",
            ":80",
            "a:",
            "a:b",
            "a:65536",
            "http://a",
            "a/b",
            "*.example.org",
            "a b",
            "::1",
            "[::1",
            "[a]",
            "b\u{fc}cher",
        ] {
            assert_eq!(parse(text), Err(NOT_A_HOST), "{text:?}");
        }
    }
}
