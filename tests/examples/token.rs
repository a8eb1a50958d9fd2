//! Authentication by a token, before there is a session: `on_upgrade` lets in whom it knows and answers everybody
//! else 401.
//!
//! Programs send `Authorization: Bearer TOKEN` (RFC 6750 section 2.1). A browser's `WebSocket` cannot set headers,
//! but it can offer subprotocols: `new WebSocket(url, ['whoami', 'token.TOKEN'])`. The server selects `whoami`, so
//! the token is not sent back. A token in the query would work too, but queries end up in logs and histories.
//!
//! A token is worth nothing to whoever can read it on the way: put TLS in front.

use std::hint::black_box;
use wsloop::{Config, Context, Handler, HttpResponse, Id, Message, Request, Server, Upgrade};

fn main() -> std::io::Result<()> {
    let users = Users::new([("anna", "s3cret-of-anna"), ("bert", "s3cret-of-bert")]);
    let mut server = Server::new(Config::default(), users)?;
    println!("listening on ws://{}/", server.listen("127.0.0.1:8080")?);
    server.run()
}

/// Answers every message with the name of the user who sent it.
pub(crate) struct Users {
    /// Names and tokens.
    users: Vec<(String, String)>,
}

/// Who a session belongs to.
struct User(String);

impl Users {
    pub(crate) fn new<'a>(users: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let owned = |(name, token): (&str, &str)| (name.to_owned(), token.to_owned());
        Self {
            users: users.into_iter().map(owned).collect(),
        }
    }

    fn find(&self, token: &str) -> Option<&str> {
        // All are compared, so that the time does not tell whose token was nearly right.
        let mut found = None;
        for (name, known) in &self.users {
            if is_same(known.as_bytes(), token.as_bytes()) {
                found = Some(name.as_str());
            }
        }
        found
    }
}

impl Handler for Users {
    fn on_upgrade(
        &mut self,
        cx: &mut Context<'_>,
        id: Id,
        request: &Request,
        upgrade: &mut Upgrade,
    ) -> Result<(), HttpResponse> {
        let Some(name) = token(request).and_then(|token| self.find(token)) else {
            return Err(unauthorized());
        };
        cx.set_state(id, User(name.to_owned()));
        // A browser fails the connection unless one of the subprotocols that it offered is selected. Whoever
        // offered none gets none.
        upgrade.select_subprotocol(request, "whoami");
        Ok(())
    }

    fn on_message(&mut self, cx: &mut Context<'_>, id: Id, _: Message<'_>) {
        let User(name) = cx.state(id).expect("set in on_upgrade");
        let name = name.clone();
        // A refusal means that the session is ending: there is nobody left to answer.
        let _ = cx.send(id, &name);
    }
}

/// The token that a request carries.
fn token(request: &Request) -> Option<&str> {
    if let Some(authorization) = request.header("authorization") {
        let (scheme, token) = authorization.split_once(' ')?;
        // RFC 7235 section 2.1: the scheme in any case.
        return scheme
            .eq_ignore_ascii_case("bearer")
            .then(|| token.trim_start());
    }
    request
        .subprotocols()
        .find_map(|offered| offered.strip_prefix("token."))
}

/// RFC 7235 section 3.1: a 401 MUST say how to authenticate.
fn unauthorized() -> HttpResponse {
    HttpResponse::new(401, "a token is needed\n")
        .with_header("www-authenticate", "Bearer realm=\"wsloop\"")
        .expect("name and value are ASCII")
}

/// Compares in a time that depends on the lengths alone. The length of a token is no secret; a token itself would
/// be, byte by byte, to somebody who can time how long an ordinary comparison takes to find the first difference.
fn is_same(known: &[u8], given: &[u8]) -> bool {
    let difference = known
        .iter()
        .zip(given)
        .fold(0, |difference, (a, b)| black_box(difference | a ^ b));
    known.len() == given.len() && difference == 0
}
