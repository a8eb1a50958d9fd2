//! The queue against a plain list of bytes: whatever is pushed, gathered and advanced, the same bytes leave in the
//! same order, and memory comes back.

use super::*;
use crate::proto::Message;

fn publish(topics: &mut Topics, key: TopicKey, payload: &[u8]) -> Vec<u8> {
    let message = Message::binary(payload);
    topics.publish(key, message, &mut BufferPool::new());
    [message.server_header().as_slice(), payload].concat()
}

/// Publishes and owes it to `queue`, which is member 0.
fn owe(queue: &mut Outbound, topics: &mut Topics, key: TopicKey, payload: &[u8]) -> Vec<u8> {
    let frame = publish(topics, key, payload);
    let (from, to) = topics
        .claim(key, 0)
        .expect("it was published the line above");
    queue.push_log(key, from, to, topics, &mut BufferPool::new());
    frame
}

/// Takes up to `len` bytes off the queue, as one write would.
fn write(queue: &mut Outbound, topics: &mut Topics, len: usize, slices_max: usize) -> Vec<u8> {
    let mut slices = vec![IoSlice::new(&[]); slices_max];
    let filled = queue.gather(topics, &mut slices);
    let mut bytes: Vec<u8> = slices[..filled]
        .iter()
        .flat_map(|slice| slice.iter().copied())
        .collect();
    bytes.truncate(len);
    queue.advance(bytes.len(), topics, &mut BufferPool::new());
    bytes
}

fn trimmed(topics: &mut Topics) -> usize {
    while topics.next_due().is_some() {}
    topics.trim(&mut BufferPool::new());
    topics.capacity()
}

/// Whoever joins, leaves or takes the place of another in the middle of a lap: at its end all have claimed all.
#[test]
fn a_lap_misses_nobody_whatever_happens_to_the_members_in_it() {
    let mut seed = 0x1A95_u32;
    let mut random = |below: usize| {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (seed >> 8) as usize % below
    };
    let mut topics = Topics::default();
    let keys = ["a", "b", "c"].map(|name| topics.find_or_insert(name));
    for key in keys {
        topics.join(key, 0);
    }
    let mut laps = 0;
    for _ in 0..20_000 {
        let key = keys[random(3)];
        let count = topics.member_count(key);
        match random(10) {
            0 => {
                topics.join(key, 0);
            }
            // Who leaves has claimed. One stays, so that the topic does.
            1 if count > 1 => {
                let index = random(count);
                topics.claim(key, index);
                topics.leave(key, index);
            }
            2 if random(4) == 0 => {
                publish(&mut topics, key, b"x");
            }
            _ => match topics.next_due() {
                Some((key, index)) => {
                    topics.claim(key, index);
                    if random(3) == 0 {
                        topics.take_turns();
                    }
                }
                None => {
                    laps += 1;
                    for key in keys {
                        let mut members = 0..topics.member_count(key);
                        assert!(members.all(|index| topics.unclaimed(key, index) == 0));
                    }
                    assert_eq!(topics.dirty_len(), 0);
                }
            },
        }
    }
    assert!(laps > 100, "{laps}");
}

/// A reader's finding: each small message between two publications kept a kibibyte, and none of it was counted.
#[test]
fn small_messages_between_publications_cost_what_is_counted() {
    let (mut queue, mut topics, mut buffers) =
        (Outbound::default(), Topics::default(), BufferPool::new());
    let key = topics.find_or_insert("room");
    topics.join(key, 0);
    for _ in 0..1000 {
        owe(&mut queue, &mut topics, key, b"");
        queue.push(b"", b"ok", &mut buffers);
    }
    assert_eq!(queue.len(), 1000 * (2 + 2));
    let segment = size_of::<Segment>();
    let places = queue.backlog.as_ref().unwrap().segments.capacity() * segment;
    let held = queue.capacity() + places;
    assert!(held < queue.cost(), "{held} held, {} counted", queue.cost());
    assert!(queue.cost() < 300_000);
    let rest = write(&mut queue, &mut topics, usize::MAX, 3000);
    assert_eq!(rest.len(), 4000);
    assert_eq!((queue.len(), queue.cost()), (0, 0));
}

#[test]
fn random_pushes_and_writes_keep_every_byte_in_order() {
    let mut seed = 0x0B5E_55ED_u32;
    let mut random = |below: usize| {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (seed >> 8) as usize % below
    };
    let (mut queue, mut topics) = (Outbound::default(), Topics::default());
    let keys = [topics.find_or_insert("a"), topics.find_or_insert("b")];
    keys.iter()
        .for_each(|key| assert_eq!(topics.join(*key, 0), 0));
    let mut owed: Vec<u8> = Vec::new();
    for round in 0..5_000 {
        match random(4) {
            0 => {
                let payload = vec![round as u8; [0, 1, 50, 3_000, 70_000][random(5)]];
                queue.push(b"header", &payload, &mut BufferPool::new());
                owed.extend_from_slice(b"header");
                owed.extend_from_slice(&payload);
            }
            1 => {
                let payload = vec![round as u8; [0, 5, 300, 40_000, 90_000][random(5)]];
                owed.extend(owe(&mut queue, &mut topics, keys[random(2)], &payload));
            }
            2 if random(8) == 0 => queue.hold(keys[random(2)], &mut topics),
            _ => {
                let (len, slices_max) = (1 + random(150_000), 1 + random(8));
                let written = write(&mut queue, &mut topics, len, slices_max);
                assert_eq!(
                    written,
                    owed[..written.len()],
                    "round {round} of seed 0x0B5E55ED"
                );
                owed.drain(..written.len());
            }
        }
        assert_eq!(queue.len(), owed.len());
        assert_eq!(queue.is_empty(), owed.is_empty());
        trimmed(&mut topics);
    }
    while !queue.is_empty() {
        let written = write(&mut queue, &mut topics, usize::MAX, 64);
        assert_eq!(written, owed[..written.len()]);
        owed.drain(..written.len());
    }
    assert_eq!((owed.len(), queue.log_len(), queue.capacity()), (0, 0, 0));
    assert_eq!(trimmed(&mut topics), 0);
}

#[test]
fn what_was_sent_is_given_back_while_the_rest_waits() {
    let (mut queue, mut topics) = (Outbound::default(), Topics::default());
    for _ in 0..100 {
        queue.push(&[], &[7; 10_000], &mut BufferPool::new());
    }
    assert_eq!(queue.len(), 1_000_000);
    assert!(queue.capacity() < 1_400_000, "{}", queue.capacity());
    let mut left = 1_000_000;
    while left > 100_000 {
        left -= write(&mut queue, &mut topics, 30_000, 64).len();
        assert!(
            queue.capacity() <= left * 14 / 10 + 2 * CHUNK_BYTES,
            "{} for {left}",
            queue.capacity()
        );
    }
}

#[test]
fn a_pong_waits_alone_while_nothing_is_taken_and_the_newest_replaces_it() {
    let (mut queue, mut topics) = (Outbound::default(), Topics::default());
    queue.push(b"owed", &[], &mut BufferPool::new());
    queue.push_pong(b"1", true, &mut BufferPool::new());
    queue.push_pong(b"22", true, &mut BufferPool::new());
    assert_eq!(queue.len(), 6);
    queue.queue_pong(&mut BufferPool::new());
    assert_eq!(write(&mut queue, &mut topics, 100, 4), b"owed22");
    assert!(queue.is_empty());
    queue.push_pong(b"1", false, &mut BufferPool::new());
    queue.push_pong(b"2", false, &mut BufferPool::new());
    assert_eq!(write(&mut queue, &mut topics, 100, 4), b"12");
}

#[test]
fn a_pong_that_waited_comes_before_a_later_one() {
    let (mut queue, mut topics) = (Outbound::default(), Topics::default());
    queue.push_pong(b"1", true, &mut BufferPool::new());
    queue.push_pong(b"2", false, &mut BufferPool::new());
    queue.queue_pong(&mut BufferPool::new());
    assert_eq!(write(&mut queue, &mut topics, 100, 4), b"12");
}

#[test]
fn skipping_leaves_the_cut_message_and_everything_that_is_not_the_topics() {
    let (mut queue, mut topics) = (Outbound::default(), Topics::default());
    let (feed, chat) = (topics.find_or_insert("feed"), topics.find_or_insert("chat"));
    topics.join(feed, 0);
    topics.join(chat, 0);
    let cut = owe(&mut queue, &mut topics, feed, b"cut in the middle");
    owe(&mut queue, &mut topics, feed, b"skipped");
    queue.push(b"direct", &[], &mut BufferPool::new());
    let kept = owe(&mut queue, &mut topics, chat, b"kept");
    owe(&mut queue, &mut topics, feed, b"skipped too");
    assert_eq!(write(&mut queue, &mut topics, 5, 8), cut[..5]);
    assert_eq!(queue.skip(feed, &mut topics), 2);
    let expected = [&cut[5..], b"direct", &kept].concat();
    assert_eq!(queue.len(), expected.len());
    assert_eq!(queue.log_len(), kept.len());
    assert_eq!(write(&mut queue, &mut topics, 1000, 8), expected);
    assert_eq!(trimmed(&mut topics), 0);
}

#[test]
fn a_cut_at_the_log_drops_all_from_the_gap_on_and_pins_nothing() {
    let (mut queue, mut topics) = (Outbound::default(), Topics::default());
    let key = topics.find_or_insert("t");
    topics.join(key, 0);
    queue.push(b"before", &[], &mut BufferPool::new());
    owe(&mut queue, &mut topics, key, b"gone");
    queue.push(b"behind the gap", &[], &mut BufferPool::new());
    owe(&mut queue, &mut topics, key, b"gone too");
    queue.cut_at_log(&mut topics, &mut BufferPool::new());
    assert_eq!(trimmed(&mut topics), 0);
    assert_eq!(write(&mut queue, &mut topics, 100, 8), b"before");

    let cut = owe(&mut queue, &mut topics, key, b"cut in the middle");
    owe(&mut queue, &mut topics, key, b"gone");
    assert_eq!(write(&mut queue, &mut topics, 7, 8), cut[..7]);
    queue.cut_at_log(&mut topics, &mut BufferPool::new());
    assert_eq!(trimmed(&mut topics), 0);
    assert_eq!(write(&mut queue, &mut topics, 100, 8), cut[7..]);
}

#[test]
fn clearing_gives_everything_back() {
    let (mut queue, mut topics) = (Outbound::default(), Topics::default());
    let key = topics.find_or_insert("t");
    topics.join(key, 0);
    owe(&mut queue, &mut topics, key, &[1; 100_000]);
    queue.push(b"direct", &[], &mut BufferPool::new());
    queue.push_pong(b"p", true, &mut BufferPool::new());
    queue.clear(&mut topics, &mut BufferPool::new());
    assert!(queue.is_empty());
    assert_eq!((queue.len(), trimmed(&mut topics)), (0, 0));
    topics.leave(key, 0);
    topics.trim(&mut BufferPool::new());
    assert_eq!(topics.count(), 0);
}

#[test]
fn small_buffers_are_as_many_as_before_however_they_were_used() {
    let mut buffers = BufferPool::new();
    let mut topics = Topics::default();
    let (count, ..) = buffers.counts();
    let mut queues: Vec<Outbound> = (0..2 * count).map(|_| Outbound::default()).collect();
    for queue in &mut queues {
        queue.push(b"a", b"bc", &mut buffers);
    }
    assert_eq!(buffers.counts(), (0, 0, 0));
    for queue in &mut queues[..count] {
        // Grows out of its small buffer.
        queue.push(b"", &[7; 5000], &mut buffers);
        assert_eq!(queue.len(), 5003);
    }
    assert_eq!(buffers.counts(), (count, 0, 0));
    for queue in &mut queues {
        queue.push(b"", b"d", &mut buffers);
        queue.clear(&mut topics, &mut buffers);
        assert_eq!(queue.capacity(), 0);
    }
    assert_eq!(buffers.counts().0, count);
    assert!(buffers.counts().1 > 10, "chunks are kept, too");
}
