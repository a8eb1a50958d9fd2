//! URLs to connect to: `ws://HOST[:PORT][/PATH][?QUERY]`, or `wss://` for TLS.
//!
//! [`Url::parse`] resolves the host name, as in `address`. It stores all addresses, because a server may listen on one
//! of them only. [`UrlParts::split`] resolves nothing.

use super::address::is_host_byte;
use super::{client_tls, units};
use std::io;
use std::net::{Ipv6Addr, SocketAddr, ToSocketAddrs};
use wsloop::proto::ClientOpening;

#[cfg(feature = "bench")]
/// A `ws` or `wss` URL (RFC 6455 section 3) and the socket addresses of its host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Url {
    /// Text of the argument.
    pub(crate) text: String,
    /// The host name or IP address if the scheme is wss: the name that the server's certificate must have.
    pub(crate) tls_name: Option<String>,
    /// Value of the Host header: the host, with the port if the URL contains one.
    pub(crate) host: String,
    /// The path and query.
    pub(crate) target: String,
    /// Addresses of the host; at least one.
    pub(crate) sockets: Vec<SocketAddr>,
}

/// The parts of a `ws` or `wss` URL.
#[derive(Debug)]
pub(super) struct UrlParts<'t> {
    /// The user name and the password before `@`, as written: `USER[:PASSWORD]`.
    pub(super) credentials: Option<&'t str>,
    /// Whether the scheme is wss.
    pub(super) is_wss: bool,
    /// Value of the Host header: the host, with the port if the URL contains one.
    pub(super) host: &'t str,
    /// The host name or IP address, without brackets.
    pub(super) name: &'t str,
    pub(super) port: u16,
    /// The path and query.
    pub(super) target: String,
}

#[cfg(feature = "bench")]
impl Url {
    /// Parses a URL and resolves its host.
    ///
    /// # Errors
    /// The reason, as the predicate of a sentence about the URL.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let parts = UrlParts::split(text)?;
        if parts.credentials.is_some() {
            return Err("has a user name (@), which a ws URL cannot have".to_owned());
        }
        let sockets = resolve(parts.name, parts.port)
            .map_err(|error| format!("has a host name that cannot be resolved: {error}"))?;
        Ok(Self {
            text: text.to_owned(),
            tls_name: parts.is_wss.then(|| parts.name.to_owned()),
            host: parts.host.to_owned(),
            target: parts.target,
            sockets,
        })
    }
}

impl<'t> UrlParts<'t> {
    /// Splits a URL into its parts and validates each. The credentials can be any text.
    ///
    /// # Errors
    /// The reason, as the predicate of a sentence about the URL.
    pub(super) fn split(text: &'t str) -> Result<Self, String> {
        let Some((scheme, rest)) = text.split_once("://") else {
            return Err(format!("has no scheme; {EXPECTED}"));
        };
        let is_wss = match scheme.to_ascii_lowercase().as_str() {
            "ws" => false,
            "wss" if cfg!(feature = "tls-client") => true,
            "wss" => return Err(client_tls::NO_TLS.to_owned()),
            _ => return Err(format!("is not a ws URL; {EXPECTED}")),
        };
        // RFC 6455 section 3: "Fragment identifiers are meaningless in the context of WebSocket URIs".
        if rest.contains('#') {
            return Err("has a fragment (#), which a ws URL cannot have".to_owned());
        }
        let (authority, target) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        let (credentials, host) = match authority.rsplit_once('@') {
            Some((credentials, host)) => (Some(credentials), host),
            None => (None, authority),
        };
        let target = match target.as_bytes().first() {
            None => "/".to_owned(),
            Some(b'?') => format!("/{target}"),
            Some(_) => target.to_owned(),
        };
        let (name, port) = name_and_port(host, is_wss)?;
        ClientOpening::new(host, &target, [0; 16])
            .map_err(|error| format!("is invalid: {error}"))?;
        Ok(Self {
            credentials,
            is_wss,
            host,
            name,
            port,
            target,
        })
    }
}

/// Returns all addresses of a host name or IP address; at least one.
///
/// # Errors
/// Returns the error of the resolver.
pub(crate) fn resolve(name: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    let sockets: Vec<_> = (name, port).to_socket_addrs()?.collect();
    if sockets.is_empty() {
        return Err(io::Error::other("it has no addresses"));
    }
    Ok(sockets)
}

fn name_and_port(host: &str, is_wss: bool) -> Result<(&str, u16), String> {
    // The colons of an IPv6 address are within its brackets; the colon before the port follows them.
    let end = host.find(']').map_or(0, |end| end + 1);
    let (name, port) = match host[end..].find(':') {
        None if is_wss => (host, TLS_PORT_DEFAULT),
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
        return Err("has port 0, on which no server can listen".to_owned());
    }
    if let Some(address) = name.strip_prefix('[') {
        let address = address.strip_suffix(']').unwrap_or(address);
        if address.parse::<Ipv6Addr>().is_err() {
            return Err("has brackets around text that is not an IPv6 address".to_owned());
        }
        return Ok((address, port));
    }
    if name.is_empty() {
        return Err(format!("has no host; {EXPECTED}"));
    }
    if !name.bytes().all(is_host_byte) {
        return Err(format!("has a malformed host; {EXPECTED}"));
    }
    Ok((name, port))
}

/// The default port of ws URLs, RFC 6455 section 3.
const PORT_DEFAULT: u16 = 80;

/// The default port of wss URLs, RFC 6455 section 3.
const TLS_PORT_DEFAULT: u16 = 443;

const EXPECTED: &str = "expected ws://HOST:PORT/PATH";

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

    #[cfg(feature = "tls-client")]
    #[test]
    fn a_wss_url_has_the_name_of_the_certificate_and_another_default_port() {
        let table = [
            ("wss://127.0.0.1", "127.0.0.1", "127.0.0.1:443"),
            ("WSS://[::1]:9/a", "::1", "[::1]:9"),
        ];
        for (text, name, socket) in table {
            let url = Url::parse(text).unwrap();
            assert_eq!(url.tls_name.as_deref(), Some(name), "{text}");
            assert_eq!(url.sockets, [socket.parse().unwrap()], "{text}");
        }
        assert_eq!(Url::parse("ws://127.0.0.1").unwrap().tls_name, None);
    }

    #[cfg(not(feature = "tls-client"))]
    #[test]
    fn a_wss_url_names_the_missing_feature() {
        let reason = Url::parse("wss://127.0.0.1").unwrap_err();
        assert!(reason.contains("cargo feature \"tls-client\""), "{reason}");
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
            ("https://localhost/", "is not a ws URL"),
            ("http://localhost/", "is not a ws URL"),
            ("ws://", "has no host"),
            ("ws:///path", "has no host"),
            ("ws://:80/", "has no host"),
            ("ws://a@localhost/", "has a user"),
            ("ws://localhost/#x", "has a fragment"),
            ("ws://localhost:0/", "has port 0"),
            ("ws://localhost:/", "not a number"),
            ("ws://localhost:x/", "not a number"),
            ("ws://localhost:99999/", "above 65535"),
            ("ws://::1:80/", "not a number"),
            ("ws://[::1/", "not a number"),
            ("ws://[127.0.0.1]/", "not an IPv6 address"),
            ("ws://[::1]x:80/", "not an IPv6 address"),
            ("ws://local host/", "malformed host"),
            ("ws://127.0.0.1/a b", "is invalid: the target"),
            ("ws://127.0.0.1/ä", "is invalid: the target"),
        ];
        for (text, expected) in table {
            let reason = Url::parse(text).unwrap_err();
            assert!(reason.contains(expected), "{text:?}: {reason}");
        }
    }
}
