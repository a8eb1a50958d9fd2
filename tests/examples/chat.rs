//! A chat server with topics and user names: `ws://127.0.0.1:8080/chat/TOPIC?name=NAME`.
//!
//! The path of the URL is also the name of the topic. Each line that a user sends is published to the topic: it is
//! framed once, however many members the topic has. The user's name is stored with the session
//! ([`Context::set_state`]), so the handler needs no map from sessions to names.
//! `/name NEW` changes the user's name, and `/names` lists the users of the topic; every other line is published.
//!
//! What it does not do: names need not be unique, and no line is stored, so a new member does not receive older ones.

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

/// Limits for lines that people type: 4 KiB is a long line. A member with more than 256 KiB of unsent chat no longer
/// reads, and is disconnected with Close 1013.
pub(crate) fn config() -> Config {
    Config {
        message_bytes_max: 4 * 1024,
        lag_bytes_max: 256 * 1024,
        ..Config::default()
    }
}

/// Serves [`Chat`] on every path below `/chat/`. Other paths get 404.
pub(crate) fn router() -> Router {
    Router::new().route("/chat/*", Chat)
}

/// Publishes each line to the topic of its sender. Has no state of its own: topics and names belong to sessions.
pub(crate) struct Chat;

/// The user's name, stored with the session.
struct Name(String);

impl Handler for Chat {
    fn on_upgrade(
        &mut self,
        cx: &mut Context<'_>,
        id: Id,
        request: &Request,
        _: &mut Upgrade,
    ) -> Result<(), HttpResponse> {
        if cx.path(id).is_none() {
            return Err(HttpResponse::new(
                414,
                "the path is longer than 512 bytes\n",
            ));
        }
        let name = request
            .query()
            .and_then(|query| query.split('&').find_map(|pair| pair.strip_prefix("name=")));
        match name {
            // ASCII letters and digits need no percent-decoding, and a name of them cannot imitate other text.
            Some(name) if is_name(name) => {
                cx.set_state(id, Name(name.to_owned()));
                Ok(())
            }
            _ => Err(HttpResponse::new(
                400,
                "the query needs name=, with 1 to 20 letters and digits\n",
            )),
        }
    }

    fn on_open(&mut self, cx: &mut Context<'_>, id: Id) {
        let (topic, name) = topic_and_name(cx, id);
        cx.subscribe(id, &topic);
        cx.publish(&topic, format!("* {name} is here"));
    }

    fn on_message(&mut self, cx: &mut Context<'_>, id: Id, message: Message<'_>) {
        let Some(line) = message.as_text() else {
            cx.close(id, 1003, "text only");
            return;
        };
        let (topic, name) = topic_and_name(cx, id);
        if line == "/names" {
            let names = names(cx, &topic).join(", ");
            // The status needs no check: if the message is refused, this session is ending, and `on_close` informs the
            // other members.
            let _ = cx.send(id, format!("* here: {names}"));
        } else if let Some(new) = line.strip_prefix("/name ") {
            if is_name(new) {
                cx.set_state(id, Name(new.to_owned()));
                cx.publish(&topic, format!("* {name} is now {new}"));
            } else {
                let _ = cx.send(id, "* a name has 1 to 20 letters and digits");
            }
        } else {
            cx.publish(&topic, format!("{name}: {line}"));
        }
    }

    fn on_close(&mut self, cx: &mut Context<'_>, id: Id, _: &Close<'_>) {
        // The session is no longer a member of the topic: only the other members receive this line.
        let (topic, name) = topic_and_name(cx, id);
        cx.publish(&topic, format!("* {name} has left"));
    }
}

/// Returns the topic and the user name of a session. Can be called from `on_open` to `on_close`.
fn topic_and_name(cx: &mut Context<'_>, id: Id) -> (Arc<str>, String) {
    let topic = cx.path(id).expect("on_upgrade has refused longer paths");
    let name = cx.state::<Name>(id).expect("set in on_upgrade");
    (topic, name.0.clone())
}

/// Returns the user names of a topic, sorted. Visits every open session of the server, which is cheap enough for a
/// command that people type.
fn names(cx: &mut Context<'_>, topic: &str) -> Vec<String> {
    let mut names = Vec::new();
    for id in cx.ids() {
        if cx.path(id).as_deref() == Some(topic) {
            names.push(topic_and_name(cx, id).1);
        }
    }
    names.sort();
    names
}

fn is_name(name: &str) -> bool {
    (1..=20).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_alphanumeric())
}
