//! Authentication by a token in the opening handshake: `on_upgrade` accepts a request with a known token and answers
//! every other request with 401.
//!
//! Programs send `Authorization: Bearer TOKEN` (RFC 6750 section 2.1). A browser's `WebSocket` cannot set headers,
//! but it can offer subprotocols: `new WebSocket(url, ['whoami', 'token.TOKEN'])`. The server selects `whoami`, so
//! the response does not contain the token. A token in the URL's query would work as well, but URLs are often recorded
//! in logs and in the browser's history.
//!
//! Use TLS, for example in a reverse proxy in front of this server. Without TLS, the token can be read on the network.

use std::hint::black_box;
use wsloop::{
    Close, Config, Context, Handler, HttpResponse, Id, Message, Request, Server, SessionMap,
    Upgrade,
};

fn main() -> std::io::Result<()> {
    let addr = std::env::args().nth(1);
    let addr = addr.as_deref().unwrap_or("127.0.0.1:8080");
    let users = &[("anna", "s3cret-of-anna"), ("bert", "s3cret-of-bert")];
    let mut server = Server::new(Config::default(), Users::new(users))?;
    println!("listening on ws://{}/", server.listen(addr)?);
    server.run()
}

/// Answers every message with the name of the user to whom the session's token belongs.
pub(crate) struct Users {
    /// Pairs of name and token.
    users: &'static [(&'static str, &'static str)],
    /// The name of each session's user.
    names: SessionMap<String>,
}

impl Users {
    /// Creates the handler from pairs of name and token.
    pub(crate) fn new(users: &'static [(&'static str, &'static str)]) -> Self {
        let names = SessionMap::new();
        Self { users, names }
    }

    /// Returns the name that belongs to a token.
    fn find(&self, token: &str) -> Option<&'static str> {
        // All tokens are compared, also after a match, so that the duration does not depend on which token matched, or
        // nearly matched.
        self.users.iter().fold(None, |found, (name, known)| {
            if is_same(known.as_bytes(), token.as_bytes()) {
                Some(*name)
            } else {
                found
            }
        })
    }
}

impl Handler for Users {
    fn on_upgrade(
        &mut self,
        _: &mut Context<'_>,
        id: Id,
        request: &Request,
        upgrade: &mut Upgrade,
    ) -> Result<(), HttpResponse> {
        let Some(name) = token(request).and_then(|token| self.find(token)) else {
            return Err(unauthorized());
        };
        self.names.insert(id, name.to_owned());
        // A browser that offered subprotocols fails the connection unless the server selects one of them. For a request
        // that did not offer `whoami`, this call selects nothing.
        upgrade.select_subprotocol(request, "whoami");
        Ok(())
    }

    fn on_message(&mut self, cx: &mut Context<'_>, id: Id, _: Message<'_>) {
        // The status needs no check: if the message is refused, the session is ending and needs no answer.
        let _ = cx.send(id, &self.names[id]);
    }

    fn on_close(&mut self, _: &mut Context<'_>, id: Id, _: &Close<'_>) {
        self.names.remove(id);
    }
}

/// Returns the token of a request, from `Authorization` or from the offered subprotocols.
fn token(request: &Request) -> Option<&str> {
    if let Some(authorization) = request.header("authorization") {
        let (scheme, token) = authorization.split_once(' ')?;
        // RFC 7235 section 2.1: the name of the scheme is case-insensitive.
        return scheme
            .eq_ignore_ascii_case("bearer")
            .then(|| token.trim_start());
    }
    request
        .subprotocols()
        .find_map(|offered| offered.strip_prefix("token."))
}

/// Returns the response for a request without a known token. RFC 7235 section 3.1: a 401 response MUST have a
/// `WWW-Authenticate` header with the challenge.
fn unauthorized() -> HttpResponse {
    HttpResponse::new(401, "a valid token is required\n")
        .with_header("www-authenticate", "Bearer realm=\"wsloop\"")
        .expect("name and value are ASCII")
}

/// Compares two tokens in a time that depends on their lengths only. An ordinary comparison ends at the first different
/// byte: an attacker that measures its duration can find a token byte by byte. The length of a token is not secret.
fn is_same(known: &[u8], given: &[u8]) -> bool {
    let difference = known
        .iter()
        .zip(given)
        .fold(0, |difference, (a, b)| black_box(difference | a ^ b));
    known.len() == given.len() && difference == 0
}
