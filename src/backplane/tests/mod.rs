//! Tests of shared topics: several harnesses at one broker in memory.

mod faults;
mod simulation;
mod stop;
mod topics;

use super::BackplaneOptions;
use super::memory::Broker;
use crate::config::Config;
use crate::handler::Handler;
use crate::handlers::Broadcast;
use crate::id::Id;
use crate::server::testing::{Harness, Received};

/// Returns a server that is connected to the broker.
fn server_with<H: Handler>(broker: &Broker, config: Config, handler: H) -> Harness<H> {
    let mut harness = Harness::new(config, handler);
    harness.set_backplane(broker.connect(), BackplaneOptions::default());
    harness
}

fn server(broker: &Broker) -> Harness<Broadcast> {
    server_with(broker, Config::default(), Broadcast)
}

/// Runs the server. Returns what a client has received: texts, and other events in their `Debug` form.
fn texts(harness: &mut Harness<impl Handler>, id: Id) -> Vec<String> {
    harness.run();
    let received = harness.received(id).into_iter();
    received
        .filter_map(|one| match one {
            Received::Text(text) => Some(text),
            Received::Ping(_) => None,
            other => Some(format!("{other:?}")),
        })
        .collect()
}

/// The Close after a gap, as [`texts`] returns it.
const CLOSE: &str = "Close(1013, \"messages may be missing\")";
