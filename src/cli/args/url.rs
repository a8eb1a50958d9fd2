//! Where to connect: `ws://HOST[:PORT][/PATH][?QUERY]`.
//!
//! A host name is resolved here, once, as in `address`; all its addresses are kept, since a server may listen on
//! one of them only.

use super::address::is_host_byte;
use super::units;
use std::net::{Ipv6Addr, SocketAddr, ToSocketAddrs};
use wsloop::proto::ClientOpening;

/// A `ws` URL (RFC 6455 section 3) and what its host stands for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Url {
    /// As it was written.
    pub(crate) text: String,
    /// The Host header: the host, and the port if it was written.
    pub(crate) host: String,
    /// The path and query.
    pub(crate) target: String,
    /// At least one.
    pub(crate) sockets: Vec<SocketAddr>,
}

impl Url {
    /// # Errors
    /// The end of a sentence that begins with `text`.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let Some((scheme, rest)) = text.split_once("://") else {
            return Err(format!("has no scheme; {FORM}"));
        };
        match scheme.to_ascii_lowercase().as_str() {
            "ws" => {}
            "wss" => {
                return Err(
                    "is wss, and there is no TLS here; ask the server behind its proxy with ws"
                        .to_owned(),
                );
            }
            _ => return Err(format!("is not a ws URL; {FORM}")),
        }
        // RFC 6455 section 3: "Fragment identifiers are meaningless in the context of WebSocket URIs".
        if rest.contains('#') {
            return Err("has a fragment, which a ws URL may not have".to_owned());
        }
        let (host, target) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        if host.contains('@') {
            return Err("has a user, which a ws URL may not have".to_owned());
        }
        let target = match target.as_bytes().first() {
            None => "/".to_owned(),
            Some(b'?') => format!("/{target}"),
            Some(_) => target.to_owned(),
        };
        let sockets = resolve(host)?;
        ClientOpening::new(host, &target, [0; 16]).map_err(|error| format!("is wrong: {error}"))?;
        Ok(Self {
            text: text.to_owned(),
            host: host.to_owned(),
            target,
            sockets,
        })
    }
}

fn resolve(host: &str) -> Result<Vec<SocketAddr>, String> {
    // An IPv6 address is full of colons; the one before the port follows its bracket.
    let end = host.find(']').map_or(0, |end| end + 1);
    let (name, port) = match host[end..].find(':') {
        None => (host, PORT_DEFAULT),
        Some(colon) => {
            let (name, port) = (&host[..end + colon], &host[end + colon + 1..]);
            if !units::is_digits(port) {
                return Err("has a port that is not a number".to_owned());
            }
            let port = port
                .parse()
                .map_err(|_| "has a port above 65535".to_owned())?;
            (name, port)
        }
    };
    if port == 0 {
        return Err("has port 0, on which nothing listens".to_owned());
    }
    if let Some(address) = name.strip_prefix('[') {
        let address = address.strip_suffix(']').unwrap_or(address);
        let address: Ipv6Addr = address
            .parse()
            .map_err(|_| "has brackets around what is no IPv6 address".to_owned())?;
        return Ok(vec![(address, port).into()]);
    }
    if name.is_empty() {
        return Err(format!("names no host; {FORM}"));
    }
    if !name.bytes().all(is_host_byte) {
        return Err(format!("has a malformed host; {FORM}"));
    }
    match (name, port).to_socket_addrs() {
        Ok(sockets) => {
            let sockets: Vec<_> = sockets.collect();
            if sockets.is_empty() {
                return Err("has a host without an address".to_owned());
            }
            Ok(sockets)
        }
        Err(error) => Err(format!("has a host that cannot be resolved: {error}")),
    }
}

/// RFC 6455 section 3.
const PORT_DEFAULT: u16 = 80;

const FORM: &str = "it is ws://HOST:PORT/PATH";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_a_url_is_parsed() {
        let table = [
            (
                "ws://127.0.0.1:9000",
                "127.0.0.1:9000",
                "127.0.0.1:9000",
                "/",
            ),
            ("ws://127.0.0.1/", "127.0.0.1", "127.0.0.1:80", "/"),
            ("WS://127.0.0.1:1/a/b", "127.0.0.1:1", "127.0.0.1:1", "/a/b"),
            (
                "ws://[::1]:9000/a?b=c:d",
                "[::1]:9000",
                "[::1]:9000",
                "/a?b=c:d",
            ),
            ("ws://[::1]", "[::1]", "[::1]:80", "/"),
            (
                "ws://127.0.0.1:9?x=/",
                "127.0.0.1:9",
                "127.0.0.1:9",
                "/?x=/",
            ),
        ];
        for (text, host, socket, target) in table {
            let url = Url::parse(text).unwrap();
            assert_eq!(url.text, text);
            assert_eq!(url.host, host, "{text}");
            assert_eq!(url.sockets, [socket.parse().unwrap()], "{text}");
            assert_eq!(url.target, target, "{text}");
        }
    }

    #[test]
    fn a_name_is_resolved() {
        let url = Url::parse("ws://localhost:9000/chat").unwrap();
        assert_eq!(url.host, "localhost:9000");
        assert!(url.sockets.iter().all(|socket| socket.ip().is_loopback()));
    }

    #[test]
    fn a_malformed_url_is_refused_with_its_reason() {
        let table = [
            ("", "has no scheme"),
            ("localhost:80", "has no scheme"),
            ("wss://localhost/", "no TLS"),
            ("http://localhost/", "is not a ws URL"),
            ("ws://", "names no host"),
            ("ws:///path", "names no host"),
            ("ws://:80/", "names no host"),
            ("ws://a@localhost/", "has a user"),
            ("ws://localhost/#x", "has a fragment"),
            ("ws://localhost:0/", "has port 0"),
            ("ws://localhost:/", "not a number"),
            ("ws://localhost:x/", "not a number"),
            ("ws://localhost:99999/", "above 65535"),
            ("ws://::1:80/", "not a number"),
            ("ws://[::1/", "not a number"),
            ("ws://[127.0.0.1]/", "no IPv6 address"),
            ("ws://[::1]x:80/", "no IPv6 address"),
            ("ws://local host/", "malformed host"),
            ("ws://127.0.0.1/a b", "is wrong: the target"),
            ("ws://127.0.0.1/ä", "is wrong: the target"),
        ];
        for (text, expected) in table {
            let reason = Url::parse(text).unwrap_err();
            assert!(reason.contains(expected), "{text:?}: {reason}");
        }
    }
}
