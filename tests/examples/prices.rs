//! A price feed: a timer changes the prices and publishes them to every client of `ws://127.0.0.1:8080/prices`.
//!
//! Old prices are worthless, so a member that falls behind skips to the newest message ([`LagPolicy::Skip`]) instead
//! of being disconnected. The server skips whole messages only: each message that a client receives is a complete
//! table. Tables are numbered, so the client can count the missing ones.

use std::fmt::Write;
use std::time::Duration;
use wsloop::{Config, Context, Handler, Id, LagPolicy, Message, Server, When};

fn main() -> std::io::Result<()> {
    let addr = std::env::args().nth(1);
    let addr = addr.as_deref().unwrap_or("127.0.0.1:8080");
    let mut server = Server::new(config(), Prices::new(20, Duration::from_millis(100)))?;
    println!("listening on ws://{}/prices", server.listen(addr)?);
    server.run()
}

/// Clients only receive, so `message_bytes_max` is small. A member skips when more than 1 KiB of its messages is
/// unsent, which is a few tables. The kernel may accept 1 KiB more before it has sent it. By default the kernel accepts
/// megabytes, and a client on a slow link would receive prices that are minutes old. The limit for the kernel needs the
/// cargo feature `socket-options`.
pub(crate) fn config() -> Config {
    Config {
        message_bytes_max: 1024,
        lag_bytes_max: 1024,
        kernel_unsent_bytes_max: Some(1024),
        ..Config::default()
    }
}

/// Publishes a table of all prices once per interval. The first line of a table is `tick NUMBER`, and each further line
/// is the index of an item and its price.
pub(crate) struct Prices {
    /// The prices, in cents. The index is the item.
    cents: Vec<u64>,
    /// The time between two tables.
    interval: Duration,
    /// The number of the newest table. A client finds missing tables by the gaps in these numbers.
    tick: u64,
    /// The number of tables that members have skipped, summed over all members.
    pub(crate) skipped: u64,
    /// The state of the random number generator; never 0.
    random: u64,
    /// The text of the newest table. Retained between timers to reuse its allocation.
    table: String,
}

impl Prices {
    /// Creates a feed of `count` prices, which publishes them once per `interval`.
    pub(crate) fn new(count: usize, interval: Duration) -> Self {
        Self {
            cents: vec![10_000; count],
            interval,
            tick: 0,
            skipped: 0,
            random: 1,
            table: String::new(),
        }
    }

    /// Changes each price at random.
    fn change_prices(&mut self) {
        for price in &mut self.cents {
            // Xorshift generates a random number. The price changes by -1, 0 or 1 cent.
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
        // This policy applies to one topic only. All other topics have the default policy, `Config::lag_policy`, so
        // that none of their messages are skipped.
        cx.set_lag_policy(TOPIC, Some(LagPolicy::Skip));
        cx.set_timer(When::Every(self.interval), 0);
    }

    fn on_open(&mut self, cx: &mut Context<'_>, id: Id) {
        cx.subscribe(id, TOPIC);
    }

    fn on_message(&mut self, cx: &mut Context<'_>, id: Id, _: Message<'_>) {
        cx.close(id, 1008, "this feed accepts no messages");
    }

    fn on_timer(&mut self, cx: &mut Context<'_>, _: u64) {
        self.change_prices();
        if cx.subscribers(TOPIC) == 0 {
            return;
        }
        self.table.clear();
        write!(self.table, "tick {}", self.tick).expect("writing to a String does not fail");
        for (item, cents) in self.cents.iter().enumerate() {
            write!(self.table, "\n{item} {}.{:02}", cents / 100, cents % 100)
                .expect("writing to a String does not fail");
        }
        cx.publish(TOPIC, &self.table);
    }

    fn on_skip(&mut self, _: &mut Context<'_>, _: Id, _: &str, messages: u64) {
        // The client finds the gap by the tick numbers. Do not send a message here: messages would accumulate in the
        // queue of a client that does not read.
        self.skipped += messages;
    }
}

const TOPIC: &str = "prices";
