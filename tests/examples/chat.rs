//! A chat with rooms and names: `ws://127.0.0.1:8080/chat/ROOM?name=NAME`.
//!
//! The path is the room, and a topic of the same name carries what is said there: each line is framed once, however
//! many hear it. The name lives with the session ([`Context::set_state`]), so there is no map to keep in step.
//! `/name NEW` and `/who` are commands; everything else is said to the room.

use std::sync::Arc;
use wsloop::{
    Close, Config, Context, Handler, HttpResponse, Id, Message, Request, Router, Server, Upgrade,
};

fn main() -> std::io::Result<()> {
    let mut server = Server::new(config(), router())?;
    println!(
        "listening on ws://{}/chat/lobby",
        server.listen("127.0.0.1:8080")?
    );
    server.run()
}

/// People type: a line of 4 KiB is long, and a reader who is 256 KiB of chat behind has left.
pub(crate) fn config() -> Config {
    Config {
        message_bytes_max: 4 * 1024,
        lag_bytes_max: 256 * 1024,
        ..Config::default()
    }
}

pub(crate) fn router() -> Router {
    Router::new().route("/chat/*", Chat)
}

pub(crate) struct Chat;

/// What a session is called.
struct Name(String);

impl Handler for Chat {
    fn on_upgrade(
        &mut self,
        cx: &mut Context<'_>,
        id: Id,
        request: &Request,
        _: &mut Upgrade,
    ) -> Result<(), HttpResponse> {
        let name = request
            .query()
            .and_then(|query| query.split('&').find_map(|pair| pair.strip_prefix("name=")));
        match name {
            // Letters and digits need no percent-decoding and cannot pretend to be anything else.
            Some(name) if is_name(name) => {
                cx.set_state(id, Name(name.to_owned()));
                Ok(())
            }
            _ => Err(HttpResponse::new(
                400,
                "ask with ?name=, up to 20 letters and digits\n",
            )),
        }
    }

    fn on_open(&mut self, cx: &mut Context<'_>, id: Id) {
        let (room, name) = whereabouts(cx, id);
        cx.subscribe(id, &room);
        cx.publish(&room, &format!("* {name} is here"));
    }

    fn on_message(&mut self, cx: &mut Context<'_>, id: Id, message: Message<'_>) {
        let Some(line) = message.as_text() else {
            cx.close(id, 1003, "text only");
            return;
        };
        let (room, name) = whereabouts(cx, id);
        if line == "/who" {
            let names = names(cx, &room).join(", ");
            // A refusal means that this session is ending; its `on_close` says so to the room.
            let _ = cx.send(id, &format!("* here: {names}"));
        } else if let Some(new) = line.strip_prefix("/name ") {
            if is_name(new) {
                cx.set_state(id, Name(new.to_owned()));
                cx.publish(&room, &format!("* {name} is now {new}"));
            } else {
                let _ = cx.send(id, "* that is no name");
            }
        } else {
            cx.publish(&room, &format!("{name}: {line}"));
        }
    }

    fn on_close(&mut self, cx: &mut Context<'_>, id: Id, _: &Close<'_>) {
        // It is no member any more: only the others hear it.
        let (room, name) = whereabouts(cx, id);
        cx.publish(&room, &format!("* {name} has left"));
    }
}

/// The room and the name of a session, which has both from its upgrade to its `on_close`.
fn whereabouts(cx: &mut Context<'_>, id: Id) -> (Arc<str>, String) {
    let room = cx.path(id).expect("a session has a path");
    let name = cx.state::<Name>(id).expect("set in on_upgrade");
    (room, name.0.clone())
}

/// Walks all sessions: fine for a command that people type.
fn names(cx: &mut Context<'_>, room: &str) -> Vec<String> {
    let mut names = Vec::new();
    for id in cx.ids() {
        if cx.path(id).as_deref() == Some(room) {
            names.push(whereabouts(cx, id).1);
        }
    }
    names.sort();
    names
}

fn is_name(name: &str) -> bool {
    (1..=20).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_alphanumeric())
}
