//! A price feed: a timer moves the prices and publishes them, to everyone who came to `ws://127.0.0.1:8080/prices`.
//!
//! Old prices are worth nothing, so a member that falls behind skips to the newest ([`LagPolicy::Skip`]) instead of
//! being disconnected. It skips whole messages, so what it gets is still a table, and the tick in it tells what is
//! missing.

use std::fmt::Write;
use std::time::Duration;
use wsloop::{Config, Context, Handler, Id, LagPolicy, Message, Server};

fn main() -> std::io::Result<()> {
    let mut server = Server::new(config(), Prices::new(20, Duration::from_millis(100)))?;
    println!(
        "listening on ws://{}/prices",
        server.listen("127.0.0.1:8080")?
    );
    server.run()
}

/// Clients only listen: what they send is short. A member may be 64 KiB behind, beyond what the kernel's buffers
/// hold for it, before it skips: some seconds, no more than a price is worth.
pub(crate) fn config() -> Config {
    Config {
        message_bytes_max: 1024,
        lag_bytes_max: 64 * 1024,
        ..Config::default()
    }
}

pub(crate) struct Prices {
    cents: Vec<u64>,
    every: Duration,
    /// The number of the table; a client sees from it what it missed.
    tick: u64,
    /// Tables that members did not get, all together: a figure for whoever runs this.
    pub(crate) skipped: u64,
    random: u64,
    /// The message, kept for its allocation.
    table: String,
}

impl Prices {
    /// So many prices, published so often.
    pub(crate) fn new(count: usize, every: Duration) -> Self {
        Self {
            cents: vec![10_000; count],
            every,
            tick: 0,
            skipped: 0,
            random: 1,
            table: String::new(),
        }
    }

    fn move_all(&mut self) {
        for price in &mut self.cents {
            // Xorshift: up a cent, down a cent.
            self.random ^= self.random << 13;
            self.random ^= self.random >> 7;
            self.random ^= self.random << 17;
            *price = (*price - 1 + self.random % 3).max(1);
        }
        self.tick += 1;
    }
}

impl Handler for Prices {
    fn on_start(&mut self, cx: &mut Context<'_>) {
        // The feed's own, whatever the server's default is: other topics may carry what must not be lost.
        cx.set_lag_policy(TOPIC, Some(LagPolicy::Skip));
        cx.set_timer(self.every, 0);
    }

    fn on_open(&mut self, cx: &mut Context<'_>, id: Id) {
        cx.subscribe(id, TOPIC);
    }

    fn on_message(&mut self, cx: &mut Context<'_>, id: Id, _: Message<'_>) {
        cx.close(id, 1008, "this feed only talks");
    }

    fn on_timer(&mut self, cx: &mut Context<'_>, key: u64) {
        // A timer comes once: set it again first, so that nothing below can forget it.
        cx.set_timer(self.every, key);
        self.move_all();
        if cx.subscribers(TOPIC) == 0 {
            return;
        }
        self.table.clear();
        write!(self.table, "tick {}", self.tick).expect("a String takes all");
        for (item, cents) in self.cents.iter().enumerate() {
            write!(self.table, "\n{item} {}.{:02}", cents / 100, cents % 100)
                .expect("a String takes all");
        }
        cx.publish(TOPIC, &self.table);
    }

    fn on_skip(&mut self, _: &mut Context<'_>, _: Id, _: &str, messages: u64) {
        // The client sees the gap by the ticks. Nothing is sent to it here: it would pile up behind a client that
        // does not read.
        self.skipped += messages;
    }
}

const TOPIC: &str = "prices";
