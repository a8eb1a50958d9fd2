//! The hosts, origins and subprotocols that a [`Router`](super::Router) serves.

use crate::proto::{HttpResponse, Request, Upgrade, is_host, is_token};
use std::net::Ipv6Addr;

/// Allowed values of `Host`, `Origin` and `Sec-WebSocket-Protocol`. The default allows all.
#[derive(Debug, Default)]
pub(super) struct Access {
    /// Allowed hosts, each with an optional port. Empty: all hosts are allowed.
    hosts: Vec<String>,
    /// Allowed origins. `None`: all origins are allowed, and clients that send none.
    origins: Option<Origins>,
    /// Subprotocols of which one can be selected. Empty: the route's handler selects any.
    subprotocols: Vec<String>,
}

#[derive(Debug, Default)]
struct Origins {
    listed: Vec<String>,
    /// Whether clients that send no origin are allowed.
    allows_none: bool,
    /// Whether origins are allowed whose host is in `Access::hosts`. If that is empty, there are no such origins.
    allows_hosts: bool,
}

impl Access {
    pub(super) fn allow_host(&mut self, host: &str) {
        assert!(
            is_host(host.as_bytes()),
            "host {host:?} must be a name or an IP address, with an optional port"
        );
        // RFC 3986 allows it in a name, but no name in DNS has it.
        assert!(
            !host.contains('*'),
            "host {host:?} has a *, which matches no request: list each host, or none to allow all"
        );
        self.hosts.push(host.to_owned());
    }

    pub(super) fn allow_subprotocol(&mut self, name: &str) {
        assert!(
            is_token(name.as_bytes()),
            "subprotocol {name:?} must be a token"
        );
        self.subprotocols.push(name.to_owned());
    }

    /// Replaces a subprotocol that is not allowed by the first allowed one that the client offers. If it offers none of
    /// them, none is selected.
    pub(super) fn restrict_subprotocol(&self, request: &Request, upgrade: &mut Upgrade) {
        let is_allowed = |name: &str| self.subprotocols.iter().any(|one| one == name);
        if self.subprotocols.is_empty() || upgrade.subprotocol().is_some_and(is_allowed) {
            return;
        }
        match request.subprotocols().find(|name| is_allowed(name)) {
            Some(name) => {
                upgrade.select_subprotocol(request, name);
            }
            None => upgrade.select_no_subprotocol(),
        }
    }

    pub(super) fn allow_origin(&mut self, origin: &str) {
        assert!(
            !origin.contains('*'),
            "origin {origin:?} has a *, which matches no request: list each origin, or none to allow all"
        );
        self.origins_mut().listed.push(origin.to_owned());
    }

    pub(super) fn allow_no_origin(&mut self) {
        self.origins_mut().allows_none = true;
    }

    pub(super) fn allow_origins_of_hosts(&mut self) {
        self.origins_mut().allows_hosts = true;
    }

    fn origins_mut(&mut self) -> &mut Origins {
        self.origins.get_or_insert_default()
    }

    /// Checks the host of a request.
    ///
    /// # Errors
    /// The response 421, which "indicates that the request was directed at a server that is unable or unwilling to
    /// produce an authoritative response for the target URI" (RFC 9110 section 15.5.20).
    pub(super) fn check_host(&self, request: &Request) -> Result<(), HttpResponse> {
        let host = request.host();
        // Health checks in HTTP/1.0 have no Host. Every browser sends one, so a website cannot use this exception.
        if self.hosts.is_empty() || host.is_empty() || self.is_host(host) {
            return Ok(());
        }
        Err(HttpResponse::new(421, "this Host is not allowed\n"))
    }

    /// Checks the origin of an opening handshake. The protocol has checked that there is at most one.
    ///
    /// # Errors
    /// The response 403, as RFC 6455 section 4.2.2 point 4 demands.
    pub(super) fn check_origin(&self, request: &Request) -> Result<(), HttpResponse> {
        let Some(origins) = &self.origins else {
            return Ok(());
        };
        let (is_allowed, refusal) = if request.headers().contains_key("origin") {
            let is_allowed = request.origin().is_some_and(|origin| {
                let is_listed = origins
                    .listed
                    .iter()
                    .any(|one| one.eq_ignore_ascii_case(origin));
                is_listed || origins.allows_hosts && self.is_origin_of_host(origin)
            });
            (is_allowed, "this Origin is not allowed\n")
        } else {
            let refusal = "a request without Origin is not allowed\n";
            (origins.allows_none, refusal)
        };
        if is_allowed {
            return Ok(());
        }
        Err(HttpResponse::new(403, refusal))
    }

    /// Returns whether the origin's host is one of the allowed hosts.
    fn is_origin_of_host(&self, origin: &str) -> bool {
        let authority = origin.split_once("://").map(|(_, authority)| authority);
        authority.is_some_and(|authority| is_host(authority.as_bytes()) && self.is_host(authority))
    }

    /// Returns whether `host`, which can have a port, is one of the allowed hosts.
    fn is_host(&self, host: &str) -> bool {
        let (name, port) = split_port(host);
        self.hosts.iter().any(|allowed| {
            let (allowed_name, allowed_port) = split_port(allowed);
            is_same_name(name, allowed_name)
                && match (port, allowed_port) {
                    (_, None) => true,
                    (Some(port), Some(allowed)) => port == allowed,
                    // Clients omit the default port of http or https. A proxy may have decrypted the request, so the
                    // server cannot know which of the two it is.
                    (None, Some(allowed)) => allowed == 80 || allowed == 443,
                }
        })
    }
}

/// Returns whether two hosts without ports are the same. IPv6 addresses are parsed, because the same address can be
/// written in several ways.
fn is_same_name(one: &str, other: &str) -> bool {
    match (ipv6(one), ipv6(other)) {
        (Some(one), Some(other)) => one == other,
        _ => one.eq_ignore_ascii_case(other),
    }
}

fn ipv6(name: &str) -> Option<Ipv6Addr> {
    name.strip_prefix('[')?.strip_suffix(']')?.parse().ok()
}

/// Splits a valid host into the name or address, and the port. The port is `None` if it is missing, empty or above 65
/// 535. The colons of an IPv6 address are within its brackets.
fn split_port(host: &str) -> (&str, Option<u16>) {
    match host.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') => (name, port.parse().ok()),
        Some(_) | None => (host, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access(hosts: &[&str]) -> Access {
        let mut access = Access::default();
        hosts.iter().for_each(|host| access.allow_host(host));
        access
    }

    #[test]
    fn a_host_is_allowed_on_its_port_or_on_every_port() {
        let access = access(&[
            "Localhost",
            "[::1]",
            "127.0.0.1",
            "a.example:8080",
            "b.example:443",
        ]);
        let table = [
            ("localhost", true),
            ("LOCALHOST:80", true),
            ("localhost:", true),
            ("localhost.", false),
            ("localhost.evil.example", false),
            ("evil.localhost", false),
            ("[::1]", true),
            ("[0:0::0001]:9", true),
            ("[::2]", false),
            ("127.0.0.1:1", true),
            ("127.0.0.2", false),
            ("127.0.0.1.evil.example", false),
            ("a.example", false),
            ("a.example:8080", true),
            ("A.EXAMPLE:8080", true),
            ("a.example:8081", false),
            ("b.example", true),
            ("b.example:443", true),
            ("b.example:444", false),
        ];
        for (host, is_allowed) in table {
            assert_eq!(access.is_host(host), is_allowed, "{host}");
        }
    }

    #[test]
    fn an_origin_of_a_host_is_a_scheme_and_that_host_and_nothing_more() {
        let access = access(&["localhost", "[::1]:3000"]);
        let table = [
            ("http://localhost", true),
            ("https://LOCALHOST:3000", true),
            ("http://[::1]:3000", true),
            ("http://[::1]:3001", false),
            ("http://localhost/", false),
            ("http://localhost@evil.example", false),
            ("http://evil.example@localhost", false),
            ("http://localhost evil.example", false),
            ("http://evil.example://localhost", false),
            ("http://localhost.evil.example", false),
            ("localhost", false),
            ("null", false),
            ("", false),
            ("http://", false),
            // Apps with embedded pages. No website has such a scheme.
            ("tauri://localhost", true),
            ("capacitor://localhost", true),
            ("http://tauri.localhost", false),
            ("file://", false),
            ("chrome-extension://abcdefghijklmnopabcdefghijklmnop", false),
        ];
        for (origin, is_allowed) in table {
            assert_eq!(access.is_origin_of_host(origin), is_allowed, "{origin}");
        }
    }

    #[test]
    #[should_panic(expected = "must be a name or an IP address")]
    fn a_url_is_no_host() {
        access(&["http://localhost"]);
    }

    /// Regression test: they matched nothing, silently.
    #[test]
    fn a_star_is_no_host_and_no_origin() {
        let allow_host: fn(&mut Access, &str) = Access::allow_host;
        for (allow, text) in [
            (allow_host, "*"),
            (allow_host, "*.example.org"),
            (allow_host, "*:80"),
            (Access::allow_origin, "*"),
            (Access::allow_origin, "https://*.example.org"),
        ] {
            let result = std::panic::catch_unwind(|| allow(&mut Access::default(), text));
            let message = result.expect_err(text);
            let message = message.downcast_ref::<String>().unwrap();
            assert!(message.contains("or none to allow all"), "{message}");
        }
    }
}
