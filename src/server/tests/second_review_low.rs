//! Smaller faults that a second review of the core found, and properties that no test had covered: a test for each.

use crate::buffer::BufferPool;
use crate::outbound::Topics;

/// One topic that stayed retained the tables of all topics that had been there at the same time: 10 MB for 60 000 topics.
#[test]
fn tables_of_topics_that_are_gone_are_released_while_one_stays() {
    let mut buffers = BufferPool::new();
    for batch in [1, 100, 60_000] {
        let mut topics = Topics::default();
        let stays = topics.find_or_insert("stays");
        topics.join(stays, 0);
        let keys: Vec<_> = (0..60_000)
            .map(|number| {
                let key = topics.find_or_insert(&format!("/{number}"));
                topics.join(key, 1);
                key
            })
            .collect();
        assert!(topics.table_bytes() > 1_000_000);
        for keys in keys.chunks(batch) {
            for key in keys {
                topics.leave(*key, 0);
            }
            topics.trim(&mut buffers);
        }
        assert_eq!((topics.count(), topics.find("stays")), (1, Some(stays)));
        let bytes = topics.table_bytes();
        assert!(bytes < 100_000, "{bytes} bytes of tables for one topic");
    }
}
