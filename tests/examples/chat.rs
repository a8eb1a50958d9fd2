//! A chat server with topics and user names: `ws://127.0.0.1:8080/chat/TOPIC?name=NAME`.
//!
//! The path of the URL is also the name of the topic. Each line that a user sends is published to the topic. A line is
//! framed once, however many members the topic has. The handler stores the users' names in a [`SessionMap`].
//! `/name NEW` changes the user's name, and `/names` lists the users of the topic. Every other line is published. A new
//! member receives the last 20 lines first. Limitation: two users can have the same name.

use std::sync::Arc;
use wsloop::{
    Close, Config, Context, Handler, HttpResponse, Id, Message, Replay, Request, Router, Server,
    SessionMap, Upgrade,
};

fn main() -> std::io::Result<()> {
    let addr = std::env::args().nth(1);
    let addr = addr.as_deref().unwrap_or("127.0.0.1:8080");
    let mut server = Server::new(config(), router())?;
    println!("listening on ws://{}/chat/lobby", server.listen(addr)?);
    server.run()
}

/// Limits for lines that people type: 4 KiB is a long line. A member with more than 256 KiB of unsent lines has probably
/// stopped reading. The server disconnects it with Close 1013.
pub(crate) fn config() -> Config {
    Config {
        message_bytes_max: 4 * 1024,
        lag_bytes_max: 256 * 1024,
        ..Config::default()
    }
}

/// Serves [`Chat`] on every path below `/chat/`. Other paths get 404.
pub(crate) fn router() -> Router {
    Router::new().route("/chat/*", Chat::default())
}

/// Publishes each line to the topic of its sender.
#[derive(Default)]
pub(crate) struct Chat {
    /// The user's name in each session.
    names: SessionMap<String>,
}

impl Handler for Chat {
    fn on_upgrade(
        &mut self,
        cx: &mut Context<'_>,
        id: Id,
        request: &Request,
        _: &mut Upgrade,
    ) -> Result<(), HttpResponse> {
        // `path` returns `None` for paths of more than 512 bytes.
        if cx.path(id).is_none() {
            return Err(HttpResponse::new(
                414,
                "the path is longer than 512 bytes\n",
            ));
        }
        match request.query_value("name") {
            // A name of ASCII letters and digits cannot imitate the server's own lines, which begin with `*`.
            Some(name) if is_name(&name) => {
                self.names.insert(id, name.into_owned());
                Ok(())
            }
            _ => Err(HttpResponse::new(
                400,
                "the query needs name=, with 1 to 20 letters and digits\n",
            )),
        }
    }

    fn on_open(&mut self, cx: &mut Context<'_>, id: Id) {
        let topic = topic(cx, id);
        // `set_replay` would store a setting for each topic name that a client invents, even without members.
        cx.subscribe_with_replay(id, &topic, Replay::Messages(20));
        cx.publish(&topic, format!("* {} is here", self.names[id]));
    }

    fn on_message(&mut self, cx: &mut Context<'_>, id: Id, message: Message<'_>) {
        let Some(line) = message.as_text() else {
            cx.close(id, 1003, "text only");
            return;
        };
        let topic = topic(cx, id);
        let name = &mut self.names[id];
        if line == "/names" {
            let members = cx.members(&topic).into_iter();
            let mut names: Vec<&str> = members.map(|id| &*self.names[id]).collect();
            names.sort_unstable();
            let names = names.join(", ");
            // The status needs no check: if the message is refused, this session is ending, and `on_close` informs the
            // other members.
            let _ = cx.send(id, format!("* here: {names}"));
        } else if let Some(new) = line.strip_prefix("/name ") {
            if is_name(new) {
                cx.publish(&topic, format!("* {name} is now {new}"));
                *name = new.to_owned();
            } else {
                let _ = cx.send(id, "* a name has 1 to 20 letters and digits");
            }
        } else {
            cx.publish(&topic, format!("{name}: {line}"));
        }
    }

    fn on_close(&mut self, cx: &mut Context<'_>, id: Id, _: &Close<'_>) {
        // The session is no longer a member of the topic, so only the other members receive this line.
        if let Some(name) = self.names.remove(id) {
            cx.publish(&topic(cx, id), format!("* {name} has left"));
        }
    }
}

/// Returns the topic of a session. Can be called from `on_open` to `on_close`.
fn topic(cx: &Context<'_>, id: Id) -> Arc<str> {
    cx.path(id).expect("on_upgrade has refused longer paths")
}

fn is_name(name: &str) -> bool {
    (1..=20).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_alphanumeric())
}
