//! Where `wsloop connect` connects to: a URL, a port of this machine, or a Unix socket. Resolves no host name: a name
//! without addresses is a failed connection, not an invalid argument.

use super::super::listen::{Listen, ListenAddress};
use super::super::url::{UrlParts, with_scheme};
use wsloop::proto::ClientOpening;

/// A server to connect to, and what to request from it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Endpoint {
    /// The argument, with the default scheme and host, and without the user name and the password.
    pub(crate) text: String,
    pub(crate) place: Place,
    /// The host name or IP address if the scheme is wss: the name that the server's certificate must have.
    pub(crate) tls_name: Option<String>,
    /// Value of the Host header.
    pub(crate) host: String,
    /// The path and query.
    pub(crate) target: String,
    /// Value of the Authorization header, if the argument has a user name.
    pub(crate) authorization: Option<String>,
}

/// Where a server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// A host name or an IP address, and a port.
    Tcp { name: String, port: u16 },
    /// The path of a Unix socket.
    Unix(String),
}

impl Default for Place {
    fn default() -> Self {
        Self::Unix(String::new())
    }
}

impl Endpoint {
    /// Parses an argument:
    ///
    /// - `[ws://][USER[:PASSWORD]@]HOST[:PORT][/PATH][?QUERY]`, or with `wss://`
    /// - `PORT[/PATH]` and `:PORT[/PATH]`: 127.0.0.1, as with `serve -l`
    /// - `unix:PATH[:/PATH]`: the path of a Unix socket, and the path to request. npm ws and nginx separate the two in
    ///   the same way. `ws+unix:` is the notation of npm ws, in which `serve` announces its Unix sockets.
    ///
    /// # Errors
    /// The reason, as the predicate of a sentence about the URL.
    pub(super) fn parse(word: &str) -> Result<Self, String> {
        let unix = word.strip_prefix("unix:");
        if let Some(rest) = unix.or_else(|| word.strip_prefix("ws+unix:")) {
            return Self::parse_unix(rest);
        }
        if word.starts_with("wss+unix:") {
            return Err("asks for TLS on a Unix socket, which is not supported".to_owned());
        }
        let full = with_scheme(word);
        let parts = UrlParts::split(&full)?;
        Ok(Self {
            text: parts.text_without_credentials(&full),
            place: Place::Tcp {
                name: parts.name.to_owned(),
                port: parts.port,
            },
            tls_name: parts.is_wss.then(|| parts.name.to_owned()),
            host: parts.host.to_owned(),
            authorization: parts.authorization(),
            target: parts.target,
        })
    }

    fn parse_unix(rest: &str) -> Result<Self, String> {
        let (path, target) = match rest.find(":/") {
            Some(colon) => (&rest[..colon], &rest[colon + 1..]),
            None => (rest, "/"),
        };
        let Listen {
            at: ListenAddress::Unix(path),
            ..
        } = Listen::parse(&format!("unix:{path}"))?
        else {
            unreachable!("unix: is the prefix of a Unix socket");
        };
        ClientOpening::new(UNIX_HOST, target, [0; 16])
            .map_err(|error| format!("is invalid: {error}"))?;
        Ok(Self {
            text: format!("unix:{rest}"),
            place: Place::Unix(path),
            tls_name: None,
            host: UNIX_HOST.to_owned(),
            target: target.to_owned(),
            authorization: None,
        })
    }
}

/// Host header for a Unix socket, which has no host. npm ws and nginx send the same.
const UNIX_HOST: &str = "localhost";

#[cfg(test)]
mod tests {
    use super::super::super::credentials::base64;
    use super::*;

    fn tcp(name: &str, port: u16) -> Place {
        let name = name.to_owned();
        Place::Tcp { name, port }
    }

    #[test]
    fn every_form_of_an_endpoint_is_parsed() {
        let table = [
            ("9700", tcp("127.0.0.1", 9700), "127.0.0.1:9700", "/"),
            (
                "9700/echo",
                tcp("127.0.0.1", 9700),
                "127.0.0.1:9700",
                "/echo",
            ),
            (
                ":9700/a?b=c",
                tcp("127.0.0.1", 9700),
                "127.0.0.1:9700",
                "/a?b=c",
            ),
            (":9700?b", tcp("127.0.0.1", 9700), "127.0.0.1:9700", "/?b"),
            ("[::1]:80/a?b=c", tcp("::1", 80), "[::1]:80", "/a?b=c"),
            ("localhost:9", tcp("localhost", 9), "localhost:9", "/"),
            (
                "a.example/?u=ws://b",
                tcp("a.example", 80),
                "a.example",
                "/?u=ws://b",
            ),
            ("WS://a.example", tcp("a.example", 80), "a.example", "/"),
            ("ws://9700", tcp("9700", 80), "9700", "/"),
            (
                "unix:ws.sock",
                Place::Unix("ws.sock".into()),
                "localhost",
                "/",
            ),
            (
                "unix:/run/a b:c:/echo?x=:/y",
                Place::Unix("/run/a b:c".into()),
                "localhost",
                "/echo?x=:/y",
            ),
            (
                "ws+unix:/run/ws:/",
                Place::Unix("/run/ws".into()),
                "localhost",
                "/",
            ),
        ];
        for (word, place, host, target) in table {
            let endpoint = Endpoint::parse(word).unwrap();
            assert_eq!(endpoint.place, place, "{word}");
            assert_eq!(endpoint.host, host, "{word}");
            assert_eq!(endpoint.target, target, "{word}");
            assert_eq!(endpoint.authorization, None, "{word}");
        }
        assert_eq!(
            Endpoint::parse("9700/a").unwrap().text,
            "ws://127.0.0.1:9700/a"
        );
    }

    #[test]
    fn credentials_become_a_header_and_are_shown_nowhere() {
        let table = [
            ("ws://user:pass@a/", "user:pass", "ws://a/"),
            ("user:pass@a", "user:pass", "ws://a"),
            ("user@a", "user:", "ws://a"),
            ("@a", ":", "ws://a"),
            ("a:a@b:b@c/d@e", "a:a@b:b", "ws://c/d@e"),
            ("u:%C3%A4%3a%2@a:1", "u:\u{e4}:%2", "ws://a:1"),
            ("ws:ws@ws", "ws:ws", "ws://ws"),
        ];
        for (word, credentials, text) in table {
            let endpoint = Endpoint::parse(word).unwrap();
            let value = format!("Basic {}", base64(credentials.as_bytes()));
            assert_eq!(endpoint.authorization, Some(value), "{word}");
            assert_eq!(endpoint.text, text);
        }
    }

    #[test]
    fn a_malformed_endpoint_is_refused_with_its_reason() {
        let table = [
            ("", "has no host"),
            (":", "not a number"),
            (":x/", "not a number"),
            ("0", "has port 0"),
            ("99999", "above 65535"),
            ("unix:", "has no path"),
            ("unix::/echo", "has no path"),
            ("unix:/a:/b c", "is invalid: the target"),
            ("unix:/a:/b#c", "is invalid: the target"),
            ("https://a/", "is not a ws URL"),
            (
                "wss+unix:/a",
                "TLS on a Unix socket, which is not supported",
            ),
            ("user@", "has no host"),
            ("ws://a b/", "malformed host"),
        ];
        for (word, expected) in table {
            let reason = Endpoint::parse(word).unwrap_err();
            assert!(reason.contains(expected), "{word:?}: {reason}");
        }
    }
}
