//! URLs to connect to: `ws://[USER[:PASSWORD]@]HOST[:PORT][/PATH][?QUERY]`, or `wss://` for TLS.
//!
//! Parsing resolves no host name: a name without addresses is a failed connection, not an invalid argument.

use super::address::is_host_byte;
use super::{client_tls, credentials, units};
use std::fmt;
use std::net::{Ipv6Addr, SocketAddr, ToSocketAddrs};
use wsloop::proto::ClientOpening;

#[cfg(feature = "bench")]
/// A `ws` or `wss` URL (RFC 6455 section 3).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Url {
    /// The argument without the user name and the password.
    pub(crate) text: String,
    /// The host name or IP address if the scheme is wss: the name that the server's certificate must have.
    pub(crate) tls_name: Option<String>,
    /// Value of the Host header: the host, with the port if the URL contains one.
    pub(crate) host: String,
    /// The host name or IP address, without brackets.
    pub(crate) name: String,
    pub(crate) port: u16,
    /// The path and query.
    pub(crate) target: String,
    /// Value of the Authorization header, if the argument has a user name.
    pub(crate) authorization: Option<String>,
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
    /// Parses a URL, with or without its scheme.
    ///
    /// # Errors
    /// The reason, as the predicate of a sentence about the URL.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let text = &with_scheme(text);
        let parts = UrlParts::split(text)?;
        Ok(Self {
            text: parts.text_without_credentials(text),
            tls_name: parts.is_wss.then(|| parts.name.to_owned()),
            host: parts.host.to_owned(),
            name: parts.name.to_owned(),
            port: parts.port,
            authorization: parts.authorization(),
            target: parts.target,
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

    /// Returns `text`, the URL with these parts, without the user name and the password.
    pub(super) fn text_without_credentials(&self, text: &str) -> String {
        match self.credentials {
            Some(credentials) => text.replacen(&format!("{credentials}@"), "", 1),
            None => text.to_owned(),
        }
    }

    /// Returns the value of the Authorization header, if the URL has a user name.
    pub(super) fn authorization(&self) -> Option<String> {
        self.credentials.map(credentials::basic)
    }
}

/// Returns an argument as a URL. As in wscat, the scheme is ws if there is none. `PORT` and `:PORT` are on 127.0.0.1, as with
/// `serve -l`.
pub(super) fn with_scheme(word: &str) -> String {
    let is_scheme = |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric());
    if word
        .split_once("://")
        .is_some_and(|(scheme, _)| is_scheme(scheme))
    {
        return word.to_owned();
    }
    let end = word.find(['/', '?']).unwrap_or(word.len());
    let port = word[..end].strip_prefix(':');
    match port {
        Some(_) => format!("ws://127.0.0.1{word}"),
        None if units::is_digits(&word[..end]) => format!("ws://127.0.0.1:{word}"),
        None => format!("ws://{word}"),
    }
}

/// Returns all addresses of a host name or IP address; at least one.
///
/// # Errors
/// Returns why the name cannot be resolved.
pub(crate) fn resolve(name: &str, port: u16) -> Result<Vec<SocketAddr>, String> {
    let failed = |why: &dyn fmt::Display| format!("cannot resolve the host name {name:?}: {why}");
    let sockets = (name, port).to_socket_addrs();
    let sockets: Vec<_> = sockets.map_err(|error| failed(&error))?.collect();
    if sockets.is_empty() {
        return Err(failed(&"it has no addresses"));
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

#[cfg(all(test, feature = "bench"))]
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
            let sockets = resolve(&url.name, url.port).unwrap();
            assert_eq!(sockets, [socket.parse().unwrap()], "{text}");
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
            let sockets = resolve(&url.name, url.port).unwrap();
            assert_eq!(sockets, [socket.parse().unwrap()], "{text}");
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
        let sockets = resolve(&url.name, url.port).unwrap();
        assert!(sockets.iter().all(|socket| socket.ip().is_loopback()));
    }

    #[test]
    fn a_name_is_parsed_even_if_it_cannot_be_resolved() {
        // RFC 1035 section 2.3.4: a label has at most 63 octets, so no resolver asks the network for this one.
        let name = "a".repeat(64);
        let url = Url::parse(&format!("ws://{name}/")).unwrap();
        let reason = resolve(&url.name, url.port).unwrap_err();
        let expected = format!("cannot resolve the host name {name:?}: ");
        assert!(reason.starts_with(&expected), "{reason}");
    }

    #[test]
    fn credentials_are_not_part_of_the_text() {
        let url = Url::parse("ws://a:b%40@c:9/d@e").unwrap();
        assert_eq!((&*url.text, &*url.host), ("ws://c:9/d@e", "c:9"));
        // The base64 of a:b@.
        assert_eq!(url.authorization.as_deref(), Some("Basic YTpiQA=="));
    }

    /// Regression test: `bench` refused what `connect` accepts.
    #[test]
    fn the_scheme_and_the_host_of_this_machine_may_be_missing() {
        for (text, expected) in [
            ("9700", "ws://127.0.0.1:9700"),
            (":9700/echo?a", "ws://127.0.0.1:9700/echo?a"),
            ("localhost:80/echo", "ws://localhost:80/echo"),
        ] {
            assert_eq!(Url::parse(text).unwrap().text, expected);
        }
    }

    #[test]
    fn a_malformed_url_is_refused_with_its_reason() {
        let table = [
            ("", "has no host"),
            ("99999", "above 65535"),
            ("https://localhost/", "is not a ws URL"),
            ("http://localhost/", "is not a ws URL"),
            ("ws://", "has no host"),
            ("ws:///path", "has no host"),
            ("ws://:80/", "has no host"),
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
