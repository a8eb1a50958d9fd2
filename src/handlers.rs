//! Ready-made implementations of [`Handler`]: [`Echo`], [`Broadcast`], [`BroadcastWithReplay`], [`Reply`], [`Metrics`].

pub use crate::metrics::Metrics;
#[cfg(feature = "tls")]
pub use crate::metrics::MetricsWithTls;

use crate::config::Replay;
use crate::context::Context;
use crate::error::SendStatus;
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
    /// Prefix and text of the answer. Reused to save allocations, while it is small.
    answer: Vec<u8>,
}

impl Echo {
    /// Returns a handler that sends text and binary back unchanged.
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns a handler that sends text back with `prefix` before it, and binary unchanged.
    pub fn with_prefix(prefix: impl Into<String>) -> Self {
        Self {
            prefix: prefix.into(),
            answer: Vec::new(),
        }
    }

    /// Sends the prefix and a text. Not inlined, so that `on_message` saves fewer registers for an echo without a
    /// prefix: 16 instructions fewer.
    #[inline(never)]
    fn send_with_prefix(
        &mut self,
        cx: &mut Context<'_>,
        id: Id,
        message: Message<'_>,
    ) -> SendStatus {
        self.answer.clear();
        self.answer.extend_from_slice(self.prefix.as_bytes());
        self.answer.extend_from_slice(message.as_bytes());
        let status = cx.send(id, Message::checked_text(&self.answer));
        self.answer.shrink_to(ANSWER_BYTES_RETAINED);
        status
    }
}

impl Handler for Echo {
    fn on_upgrade(
        &mut self,
        _: &mut Context<'_>,
        _: Id,
        request: &Request,
        upgrade: &mut Upgrade,
    ) -> Result<(), HttpResponse> {
        upgrade.select_first_subprotocol(request);
        Ok(())
    }

    fn on_message(&mut self, cx: &mut Context<'_>, id: Id, message: Message<'_>) {
        // If the session has ended, no answer is needed.
        let _ = if message.is_text() && !self.prefix.is_empty() {
            self.send_with_prefix(cx, id, message)
        } else {
            cx.send(id, message)
        };
    }
}

/// Sends every message to all sessions with the same request path, the sender included, with its type (text or binary)
/// unchanged. The topic's name is the path, so that other handlers can publish to it. Refuses a path longer than 512
/// bytes with 414 (RFC 9110 section 15.5.15).
#[derive(Clone, Copy, Debug, Default)]
pub struct Broadcast;

impl Broadcast {
    /// Returns a handler that also sends the last messages on the path to each session that connects, before any newer
    /// message. A path retains its messages also while no session is connected, within
    /// [`Config::replay_bytes_max`](crate::Config::replay_bytes_max) for all paths together.
    ///
    /// ```
    /// use wsloop::Replay;
    /// use wsloop::handlers::Broadcast;
    /// use wsloop::testing::{Harness, Received};
    ///
    /// let mut harness = Harness::new(Default::default(), Broadcast.with_replay(Replay::Messages(20)));
    /// let first = harness.connect("/chat");
    /// harness.send(first, "hello");
    /// let late = harness.connect("/chat");
    /// assert_eq!(harness.received(late), [Received::Text("hello".into())]);
    /// ```
    pub fn with_replay(self, replay: Replay) -> BroadcastWithReplay {
        BroadcastWithReplay {
            broadcast: self,
            replay,
        }
    }
}

/// [`Broadcast`] with the last messages for each session that connects: see [`Broadcast::with_replay`].
#[derive(Clone, Copy, Debug)]
pub struct BroadcastWithReplay {
    broadcast: Broadcast,
    replay: Replay,
}

impl Handler for BroadcastWithReplay {
    fn inner(&mut self) -> Option<&mut dyn Handler> {
        Some(&mut self.broadcast)
    }

    fn on_open(&mut self, cx: &mut Context<'_>, id: Id) {
        if let Some(path) = cx.path(id) {
            cx.subscribe_with_replay(id, &path, self.replay);
        }
    }

    fn on_message(&mut self, cx: &mut Context<'_>, id: Id, message: Message<'_>) {
        self.broadcast.on_message(cx, id, message);
    }
}

impl Handler for Broadcast {
    fn on_upgrade(
        &mut self,
        cx: &mut Context<'_>,
        id: Id,
        request: &Request,
        upgrade: &mut Upgrade,
    ) -> Result<(), HttpResponse> {
        #[cfg(feature = "backplane")]
        if cx.is_backplane_away() {
            return Err(HttpResponse::new(503, "the broker is away\n"));
        }
        match cx.path(id) {
            Some(_) => {
                upgrade.select_first_subprotocol(request);
                Ok(())
            }
            None => Err(HttpResponse::new(
                414,
                "the path is longer than 512 bytes\n",
            )),
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
    /// Returns a handler that answers with `text`.
    pub fn new(text: impl Into<String>) -> Self {
        Self { text: text.into() }
    }
}

impl Handler for Reply {
    fn on_upgrade(
        &mut self,
        _: &mut Context<'_>,
        _: Id,
        request: &Request,
        upgrade: &mut Upgrade,
    ) -> Result<(), HttpResponse> {
        upgrade.select_first_subprotocol(request);
        Ok(())
    }

    fn on_message(&mut self, cx: &mut Context<'_>, id: Id, _: Message<'_>) {
        // If the session has ended, no answer is needed.
        let _ = cx.send(id, &self.text);
    }
}

/// Maximum capacity of the buffer that is reused for the next answer.
const ANSWER_BYTES_RETAINED: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::proto::CHECKED_BYTES;
    use crate::server::testing::{Harness, Received};

    #[test]
    fn a_path_replays_its_last_messages_and_endless_paths_are_forgotten() {
        let config = Config {
            replay_bytes_max: 40_000,
            ..Config::default()
        };
        let replay = Broadcast.with_replay(Replay::Messages(2));
        let mut harness = Harness::new(config, replay);
        let connect_and_send = |harness: &mut Harness<_>, path: &str, text: &str| {
            let id = harness.connect(path);
            harness.send(id, text);
            harness.close(id, 1000, "");
            harness.received(id)
        };
        let texts = |received: Vec<Received>| -> Vec<String> {
            let texts = received.into_iter().filter_map(|one| match one {
                Received::Text(text) => Some(text),
                _ => None,
            });
            texts.collect()
        };
        for number in 0..4 {
            connect_and_send(&mut harness, "/a", &number.to_string());
        }
        let received = connect_and_send(&mut harness, "/a", "x");
        assert_eq!(texts(received), ["2", "3", "x"]);
        let bytes = harness.with_context(|cx| cx.stats().replay_bytes);
        assert_eq!(bytes, 1024 + 2 + 2 * 3);
        for number in 0..100 {
            connect_and_send(&mut harness, &format!("/{number}"), "y");
            let bytes = harness.with_context(|cx| cx.stats().replay_bytes);
            assert!(bytes <= 40_000);
        }
        let received = connect_and_send(&mut harness, "/a", "z");
        assert_eq!(texts(received), ["z"]);
    }

    #[test]
    fn a_text_that_is_only_forwarded_is_not_checked_again() {
        let handlers: [(Box<dyn Handler>, &str); 3] = [
            (Box::new(Echo::new()), ""),
            (Box::new(Echo::with_prefix("You sent: ")), "You sent: "),
            (Box::new(Broadcast), ""),
        ];
        for (handler, prefix) in handlers {
            let mut harness = Harness::new(Config::default(), handler);
            let id = harness.connect("/");
            let text = "x".repeat(1000);
            let before = CHECKED_BYTES.get();
            harness.send(id, &text);
            let answer = format!("{prefix}{text}");
            assert_eq!(harness.received(id), [Received::Text(answer.clone())]);
            // The harness's client checks the answer. The server checks no byte: while unmasking the text, it has
            // found that the text is ASCII.
            assert_eq!(CHECKED_BYTES.get() - before, answer.len());
        }
    }
}
