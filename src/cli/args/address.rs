//! TCP addresses to listen on: `PORT`, `HOST:PORT` or `[::1]:PORT`.
//!
//! Parsing resolves no host name: a name without addresses is a failure of the server, not an invalid argument, because
//! a resolver that is not available yet can know the name when the server is started again. If a name has several
//! addresses, the first is used: one `-l` opens one listener.

use super::units;
use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, SocketAddr, ToSocketAddrs};

/// An address to listen on, and the text of the argument.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    pub(crate) text: String,
    at: At,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum At {
    Socket(SocketAddr),
    Name { name: String, port: u16 },
}

impl Address {
    /// Parses an address.
    ///
    /// # Errors
    /// The reason for a [`UsageError::invalid_value`](super::UsageError).
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let at = if units::is_digits(text) {
            At::Socket((Ipv4Addr::LOCALHOST, port(text)?).into())
        } else if let Ok(socket) = text.parse() {
            At::Socket(socket)
        } else {
            name(text)?
        };
        Ok(Self {
            text: text.to_owned(),
            at,
        })
    }

    /// Returns the socket address. Blocks while a host name is resolved.
    ///
    /// # Errors
    /// The name cannot be resolved.
    pub(crate) fn resolve(&self) -> io::Result<SocketAddr> {
        match &self.at {
            At::Socket(socket) => Ok(*socket),
            At::Name { name, port } => {
                let mut sockets = (name.as_str(), *port).to_socket_addrs()?;
                let error = || io::Error::new(ErrorKind::NotFound, "the name has no addresses");
                sockets.next().ok_or_else(error)
            }
        }
    }

    /// Returns whether a server cannot listen on both. Port 0 never conflicts, because it selects a free port each time.
    /// A name and its address are not compared.
    pub(super) fn conflicts_with(&self, other: &Self) -> bool {
        let port = match &self.at {
            At::Socket(socket) => socket.port(),
            At::Name { port, .. } => *port,
        };
        port != 0 && self.at == other.at
    }

    /// Returns whether the address stands for every interface, as 0.0.0.0 does.
    #[cfg(feature = "tls")]
    pub(super) fn is_unspecified(&self) -> bool {
        match &self.at {
            At::Socket(socket) => socket.ip().is_unspecified(),
            At::Name { .. } => false,
        }
    }

    /// Returns the host of the argument: a name or an IP address. `None` if the argument is only a port.
    pub(crate) fn host(&self) -> Option<&str> {
        self.text.rsplit_once(':').map(|(host, _)| host)
    }
}

/// Parses a host name with its port.
fn name(text: &str) -> Result<At, String> {
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
    Ok(At::Name {
        name: host.to_owned(),
        port,
    })
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
/// during parsing.
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
            let socket = address.resolve().unwrap();
            assert_eq!(socket, expected.parse().unwrap(), "{text:?}");
        }
    }

    #[test]
    fn a_name_is_resolved() {
        let socket = Address::parse("localhost:9000").unwrap().resolve().unwrap();
        assert!(socket.ip().is_loopback());
        assert_eq!(socket.port(), 9000);
    }

    #[test]
    fn equal_names_with_the_same_port_conflict() {
        let [one, other, free] = ["ws.example:80", "ws.example:81", "ws.example:0"]
            .map(|text| Address::parse(text).unwrap());
        assert!(one.conflicts_with(&one));
        assert!(!one.conflicts_with(&other) && !free.conflicts_with(&free));
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
    fn a_name_is_parsed_even_if_it_cannot_be_resolved() {
        // RFC 1035 section 2.3.4: a label has at most 63 octets, so no resolver asks the network for this one.
        let address = Address::parse(&format!("{}:80", "x".repeat(64))).unwrap();
        assert!(address.resolve().is_err());
    }
}
