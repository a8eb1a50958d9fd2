//! RFC 7230 section 5.4 and RFC 3986 section 3.2: the grammar of a host and a port, in `Host`, in an absolute target,
//! and in the client's request.

use super::super::{ClientOpening, OpeningError, RequestError};
use super::check;

const VALID_HOSTS: &[&str] = &[
    "a",
    "localhost:8080",
    "a:",
    "a:0",
    "a:65535",
    "a:000080",
    "10.0.0.1",
    "10.0.0.1:80",
    "a_b.example",
    "a~b!$&'()*+,;=",
    "ex%61mple:",
    "%C3%a4",
    "[::]",
    "[::1]:80",
    "[::1]:",
    "[2001:DB8::7:8]",
    "[1:2:3:4:5:6:7:8]:1",
    "[::ffff:10.0.0.1]",
];

const INVALID_HOSTS: &[&str] = &[
    "",
    ":",
    ":80",
    "a b",
    "a/b",
    "user@a",
    "user:80@a",
    "a?b",
    "a\tb",
    "\u{e4}",
    "a\\b",
    "\"a\"",
    "<a>",
    "a:b:c",
    "a:80:80",
    "a::80",
    "::1",
    "a:x",
    "a:+80",
    "a:-1",
    "a: 80",
    "a:65536",
    "a:99999999",
    "a:100000000000000000000",
    "%",
    "%4",
    "%zz",
    "a%4g",
    "a]b",
    "a[b]",
    "]",
    "[",
    "[]",
    "[]:80",
    "[::1",
    "[:80",
    "[::1]x",
    "[::1]80",
    "[::1]]",
    "[[::1]]",
    "[:::1]",
    "[::1::2]",
    "[1:2:3:4:5:6:7]",
    "[1:2:3:4:5:6:7:8:9]",
    "[12345::]",
    "[::g]",
    "[a]",
    "[10.0.0.1]",
    "[::1%25eth0]",
    "[::1]:x",
    "[::1]:65536",
    "[v1.a]",
];

#[test]
fn the_host_header_is_a_name_or_an_address_with_an_optional_port() {
    for host in VALID_HOSTS {
        let text = format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n");
        check(&[(host, &text, Ok(&format!("get / at {host}")))]);
    }
    for host in INVALID_HOSTS {
        let text = format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n");
        check(&[(host, &text, Err(OpeningError::HostInvalid))]);
    }
}

#[test]
fn the_host_of_an_absolute_target_has_the_same_grammar() {
    // The `http` crate rejects a percent-encoded host.
    for host in VALID_HOSTS.iter().filter(|host| !host.contains('%')) {
        let text = format!("GET http://{host}/b HTTP/1.1\r\nHost: a\r\n\r\n");
        check(&[(host, &text, Ok(&format!("get /b at {host}")))]);
    }
    // A host ends before a slash or a question mark, and a target before a space.
    for host in INVALID_HOSTS
        .iter()
        .filter(|host| !host.contains([' ', '/', '?']))
    {
        for scheme in ["http", "ws"] {
            let text = format!("GET {scheme}://{host}/b HTTP/1.1\r\nHost: a\r\n\r\n");
            check(&[(host, &text, Err(OpeningError::Target))]);
        }
    }
}

#[test]
fn the_host_of_a_clients_request_has_the_same_grammar() {
    for host in VALID_HOSTS {
        assert!(ClientOpening::new(host, "/", [0; 16]).is_ok(), "{host}");
    }
    for host in INVALID_HOSTS.iter().chain(&["a\r\nX: y"]) {
        assert_eq!(
            ClientOpening::new(host, "/", [0; 16]).err(),
            Some(RequestError::Host),
            "{host:?}"
        );
    }
}
