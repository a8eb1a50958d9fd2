//! TCP addresses to listen on: `PORT`, `HOST:PORT` or `[::1]:PORT`.
//!
//! A host name is resolved once, during parsing, so that a name that cannot be resolved is a usage error and no
//! listener is opened. If a name has several addresses, the first is used: one `-l` opens one listener.

use super::units;
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr, ToSocketAddrs};

/// An address to listen on, and the text of the argument.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    pub(crate) text: String,
    pub(crate) socket: SocketAddr,
}

/// Displays the text of the argument, followed by the socket address in brackets if it differs.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { text, socket } = self;
        if *text == socket.to_string() {
            f.write_str(text)
        } else {
            write!(f, "{text} ({socket})")
        }
    }
}

impl Address {
    /// Parses an address and resolves its host name.
    ///
    /// # Errors
    /// The reason for a [`UsageError::invalid_value`](super::UsageError).
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let socket = if units::is_digits(text) {
            (Ipv4Addr::LOCALHOST, port(text)?).into()
        } else if let Ok(socket) = text.parse() {
            socket
        } else {
            resolve(text)?
        };
        Ok(Self {
            text: text.to_owned(),
            socket,
        })
    }

    /// Returns the host of the argument: a name or an IP address. `None` if the argument is only a port.
    pub(crate) fn host(&self) -> Option<&str> {
        self.text.rsplit_once(':').map(|(host, _)| host)
    }
}

fn resolve(text: &str) -> Result<SocketAddr, String> {
    let Some((host, port_text)) = text.rsplit_once(':') else {
        return Err(format!("has no port; {EXPECTED}"));
    };
    if !host.contains('[') && host.contains(':') && host.bytes().all(is_ipv6_byte) {
        return Err("is ambiguous; write an IPv6 address in brackets, as in [::1]:8080".to_owned());
    }
    let port = port(port_text)?;
    if host.is_empty() {
        return Err(format!(
            "has no host; use 0.0.0.0:{port} for every IPv4 interface"
        ));
    }
    if !host.bytes().all(is_host_byte) {
        return Err(NOT_AN_ADDRESS.to_owned());
    }
    match (host, port).to_socket_addrs() {
        Ok(mut sockets) => sockets
            .next()
            .ok_or_else(|| "has a host name without addresses".to_owned()),
        Err(error) => Err(format!("has a host name that cannot be resolved: {error}")),
    }
}

fn port(text: &str) -> Result<u16, String> {
    if !units::is_digits(text) {
        return Err(NOT_AN_ADDRESS.to_owned());
    }
    text.parse()
        .map_err(|_| "has a port above 65535".to_owned())
}

fn is_ipv6_byte(byte: u8) -> bool {
    byte.is_ascii_hexdigit() || byte == b':' || byte == b'.'
}

/// Returns whether `byte` can be part of a host name. A name with another byte, such as `/` or a blank, is rejected
/// without a query to a resolver.
pub(super) fn is_host_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_')
}

const EXPECTED: &str = "expected PORT, HOST:PORT or [::1]:PORT";
const NOT_AN_ADDRESS: &str = "is not an address; expected PORT, HOST:PORT or [::1]:PORT";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_an_address_is_parsed() {
        let table = [
            ("8080", "127.0.0.1:8080"),
            ("0", "127.0.0.1:0"),
            ("65535", "127.0.0.1:65535"),
            ("0.0.0.0:80", "0.0.0.0:80"),
            ("192.0.2.1:0", "192.0.2.1:0"),
            ("[::1]:8080", "[::1]:8080"),
            ("[::]:0", "[::]:0"),
        ];
        for (text, expected) in table {
            let address = Address::parse(text).unwrap();
            assert_eq!(address.text, text);
            assert_eq!(address.socket, expected.parse().unwrap(), "{text:?}");
        }
    }

    #[test]
    fn a_name_is_resolved() {
        let address = Address::parse("localhost:9000").unwrap();
        assert!(address.socket.ip().is_loopback());
        assert_eq!(address.socket.port(), 9000);
    }

    #[test]
    fn display_shows_the_text_and_the_address_that_it_stands_for() {
        let table = [
            ("127.0.0.1:80", "127.0.0.1:80"),
            ("[::1]:80", "[::1]:80"),
            ("80", "80 (127.0.0.1:80)"),
        ];
        for (text, shown) in table {
            assert_eq!(Address::parse(text).unwrap().to_string(), shown);
        }
    }

    #[test]
    fn a_malformed_address_is_refused_with_its_reason() {
        let table = [
            ("", "has no port"),
            ("localhost", "has no port"),
            ("127.0.0.1", "has no port"),
            (":8080", "use 0.0.0.0:8080 for every IPv4 interface"),
            ("::1", "in brackets"),
            ("::1:8080", "in brackets"),
            ("::ffff:127.0.0.1:80", "in brackets"),
            ("[::1]", "is not an address"),
            ("[::1]x:80", "is not an address"),
            ("[::1]:99999", "above 65535"),
            ("65536", "above 65535"),
            ("127.0.0.1:65536", "above 65535"),
            ("localhost:", "is not an address"),
            ("localhost:http", "is not an address"),
            ("localhost:+80", "is not an address"),
            ("127.0.0.1:-1", "is not an address"),
            ("ws://localhost:80", "is not an address"),
            ("local host:80", "is not an address"),
            ("--no-page", "has no port"),
        ];
        for (text, expected) in table {
            let reason = Address::parse(text).unwrap_err();
            assert!(reason.contains(expected), "{text:?}: {reason}");
        }
    }

    #[test]
    fn a_name_that_cannot_be_resolved_is_refused() {
        // RFC 1035 section 2.3.4: a label has at most 63 octets, so no resolver asks the network for this one.
        let reason = Address::parse(&format!("{}:80", "x".repeat(64))).unwrap_err();
        let expected = "has a host name that cannot be resolved: ";
        assert!(reason.starts_with(expected), "{reason}");
    }
}
