//! Faults that a second review of the core found: a test for each.

use super::script::{Bench, Peer};
use crate::config::{Config, LagPolicy};
use crate::proto::Message;

/// When a member lagged in the middle of a large publication, it got a copy of the rest: the memory of 20 members was 20
/// times the message, and each copy delayed other sessions.
fn rest_of_a_large_message_is_shared(policy: LagPolicy) {
    let config = Config {
        lag_policy: policy,
        ..Config::default()
    };
    // On both sides of the size from which on a frame has a chunk of its own, and of the default lag limit.
    for len in [20_000, 100_000, 200_000, 16 << 20] {
        let mut bench = Bench::new(config.clone(), |_, _, _| {});
        let members: Vec<Peer> = (0..20).map(|_| bench.open()).collect();
        for member in &members {
            bench.engine.subscribe(member.id, "t");
            member.set_room(1_000);
        }
        bench.engine.publish("t", Message::binary(&vec![1; len]));
        bench.turns(40);
        for member in &members {
            member.set_room(0);
        }
        let retained = |bench: &Bench| {
            let sessions = members
                .iter()
                .filter_map(|one| bench.engine.session(one.id));
            let owned: usize = sessions.map(|session| session.outbound.capacity()).sum();
            owned + bench.engine.topics.capacity()
        };
        let limit = retained(&bench) + 2 * (config.lag_bytes_max + len);
        for _ in 0..config.lag_bytes_max / len + 2 {
            bench.engine.publish("t", Message::binary(&vec![2; len]));
            bench.turns(40);
        }
        let now = retained(&bench);
        assert!(
            now <= limit,
            "{policy:?}, {len}: {now} bytes retained, {limit} allowed"
        );
    }
}

#[test]
fn the_rest_of_a_large_message_is_not_copied_for_each_lagging_member() {
    rest_of_a_large_message_is_shared(LagPolicy::Disconnect);
}

#[test]
fn the_rest_of_a_large_message_is_not_copied_for_each_skipping_member() {
    rest_of_a_large_message_is_shared(LagPolicy::Skip);
}
