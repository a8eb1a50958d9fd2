//! Ready-made handlers, plain users of the [`Handler`] trait: [`Echo`], [`Broadcast`], [`Reply`], [`Metrics`].

pub use crate::metrics::Metrics;

use crate::context::Context;
use crate::handler::Handler;
use crate::id::Id;
use crate::proto::{HttpResponse, Message, Request, Upgrade};

/// Answers every message with itself; text can get a prefix.
///
/// ```
/// let echo = wsloop::handlers::Echo::with_prefix("You sent: ");
/// # let _ = echo;
/// ```
#[derive(Clone, Debug, Default)]
pub struct Echo {
    prefix: String,
    /// Prefix and text, one after the other; kept for its allocation while it is small.
    text: String,
}

impl Echo {
    /// Text and binary come back as they are.
    pub fn new() -> Self {
        Self::default()
    }

    /// Text comes back behind `prefix`, binary as it is.
    pub fn with_prefix(prefix: impl Into<String>) -> Self {
        Self {
            prefix: prefix.into(),
            text: String::new(),
        }
    }
}

impl Handler for Echo {
    fn on_message(&mut self, cx: &mut Context<'_>, id: Id, message: Message<'_>) {
        // A refusal means that the session is ending: there is nobody left to answer.
        let _ = match message {
            Message::Text(text) if !self.prefix.is_empty() => {
                self.text.clear();
                self.text.push_str(&self.prefix);
                self.text.push_str(text);
                let status = cx.send(id, &self.text);
                self.text.shrink_to(TEXT_BYTES_KEPT);
                status
            }
            Message::Text(_) | Message::Binary(_) => cx.send(id, message),
        };
    }
}

/// Sends every message to everyone on the same request path, the sender included; text stays text and binary
/// stays binary. The topic is the path, so other handlers can publish to it. A path longer than 512 bytes is refused with
/// 414 (RFC 9110 section 15.5.15).
#[derive(Clone, Copy, Debug, Default)]
pub struct Broadcast;

impl Handler for Broadcast {
    fn on_upgrade(
        &mut self,
        cx: &mut Context<'_>,
        id: Id,
        _: &Request,
        _: &mut Upgrade,
    ) -> Result<(), HttpResponse> {
        match cx.path(id) {
            Some(_) => Ok(()),
            None => Err(HttpResponse::new(414, "this path is too long for a room\n")),
        }
    }

    fn on_open(&mut self, cx: &mut Context<'_>, id: Id) {
        if let Some(path) = cx.path(id) {
            cx.subscribe(id, &path);
        }
    }

    fn on_message(&mut self, cx: &mut Context<'_>, id: Id, message: Message<'_>) {
        if let Some(path) = cx.path(id) {
            cx.publish(&path, message);
        }
    }
}

/// Answers every message, text or binary, with the same text.
#[derive(Clone, Debug)]
pub struct Reply {
    text: String,
}

impl Reply {
    /// Answers with `text`.
    pub fn new(text: impl Into<String>) -> Self {
        Self { text: text.into() }
    }
}

impl Handler for Reply {
    fn on_message(&mut self, cx: &mut Context<'_>, id: Id, _: Message<'_>) {
        // A refusal means that the session is ending: there is nobody left to answer.
        let _ = cx.send(id, &self.text);
    }
}

/// A prefixed text larger than this is not kept.
const TEXT_BYTES_KEPT: usize = 64 * 1024;
