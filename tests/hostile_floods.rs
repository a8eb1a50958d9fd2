//! Tests with hostile peers that send floods: pings, pongs, tiny and empty frames, endless messages, and announced
//! lengths without payload. The memory that the server uses for such a peer is bounded by the bytes that have arrived,
//! and other clients are served meanwhile.

#![cfg(feature = "serve")]

mod common;
mod hostile_common;

use common::*;
use hostile_common::*;
use socket2::SockRef;
use std::io::Write;
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

// First bytes of the frames of a fragmented message.
const BINARY_FIRST: u8 = 0x02;
const TEXT_FIRST: u8 = 0x01;
const CONTINUATION: u8 = 0x00;
const CONTINUATION_FIN: u8 = 0x80;

fn open(server: &Wsloop) -> Raw {
    Raw::open(server.addr, "/echo")
}

/// Writes `bytes` in a thread while this thread calls `read`.
fn write_and_read<T: Send>(
    raw: &mut Raw,
    bytes: &[u8],
    read: impl FnOnce(&mut Raw) -> T + Send,
) -> T {
    let mut stream: TcpStream = raw.0.try_clone().unwrap();
    thread::scope(|scope| {
        let writing = scope.spawn(move || stream.write_all(bytes).unwrap());
        let result = read(raw);
        writing.join().unwrap();
        result
    })
}

/// Checks that the session still echoes, and closes it.
fn check_and_close(raw: &mut Raw) {
    raw.send(frame(TEXT, b"still here"));
    assert_eq!(raw.frame(), (TEXT, b"still here".to_vec()));
    raw.send(close_frame(1000, ""));
    assert_eq!(raw.close_frame().0, 1000);
    raw.expect_end();
}

/// Returns pings, each with its number and `more` further bytes.
fn pings(count: u64, more: usize) -> Vec<u8> {
    let ping = |i: u64| frame(PING, &[&i.to_be_bytes()[..], &vec![b'p'; more]].concat());
    (0..count).flat_map(ping).collect()
}

/// Reads pongs up to that of the last of `count` pings. Returns the number of pongs. Checks that their numbers
/// increase.
fn pongs(raw: &mut Raw, count: u64) -> u64 {
    let mut pongs = 0;
    let mut next = 0;
    while next < count {
        let (first, payload) = raw.frame();
        assert_eq!(first, PONG);
        let number = u64::from_be_bytes(*payload.first_chunk().unwrap());
        assert!(number >= next, "{number} after {next}");
        next = number + 1;
        pongs += 1;
    }
    pongs
}

#[test]
fn a_ping_flood_of_peers_that_read_is_answered_up_to_the_last_ping() {
    let flood = pings(30_000, 10);
    AttackTest::default().run(|server| {
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let mut raw = open(server);
                    write_and_read(&mut raw, &flood, |raw| pongs(raw, 30_000));
                    check_and_close(&mut raw);
                });
            }
        });
    });
}

#[test]
fn a_ping_flood_of_peers_that_do_not_read_queues_one_pong_per_peer() {
    // If the server queued all pongs, this would be 30 MB for each peer. Measured: 52 000 to 75 000 pongs, which fit
    // into the socket buffers, and then the last one.
    const PINGS: u64 = 240_000;
    const PONGS_MAX: u64 = 120_000;
    let flood = pings(PINGS, 117);
    AttackTest::default().run(|server| {
        thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    let mut raw = open(server);
                    let receive_buffer = SockRef::from(&raw.0).set_recv_buffer_size(64 * KIB);
                    receive_buffer.unwrap();
                    raw.send(&flood);
                    let pongs = pongs(&mut raw, PINGS);
                    assert!(pongs <= PONGS_MAX, "{pongs} pongs");
                    check_and_close(&mut raw);
                });
            }
        });
    });
}

#[test]
fn floods_of_frames_that_need_no_answer_cost_nothing() {
    let table = [
        ("pongs", frame(PONG, b"unsolicited").repeat(100_000)),
        ("empty pongs", frame(PONG, b"").repeat(100_000)),
        ("long pongs", frame(PONG, &[b'p'; 125]).repeat(50_000)),
        (
            "pongs inside a message",
            [
                frame(TEXT_FIRST, b""),
                frame(PONG, b"").repeat(100_000),
                frame(CONTINUATION_FIN, b""),
            ]
            .concat(),
        ),
    ];
    AttackTest::default().run(|server| {
        for (name, flood) in &table {
            let mut raw = open(server);
            raw.send(flood);
            if name.ends_with("message") {
                assert_eq!(raw.frame(), (TEXT, vec![]), "{name}");
            }
            check_and_close(&mut raw);
        }
    });
}

#[test]
fn tiny_messages_are_all_answered_in_order() {
    const COUNT: usize = 40_000;
    for payload in [&b"x"[..], b""] {
        let flood = frame(TEXT, payload).repeat(COUNT);
        AttackTest::default().run(|server| {
            let mut raw = open(server);
            write_and_read(&mut raw, &flood, |raw| {
                let mut echoes = vec![0; COUNT * (2 + payload.len())];
                std::io::Read::read_exact(&mut raw.0, &mut echoes).unwrap();
                let echo = [&[TEXT, payload.len() as u8][..], payload].concat();
                assert!(echoes.chunks(echo.len()).all(|chunk| chunk == echo));
            });
            check_and_close(&mut raw);
        });
    }
}

#[test]
fn a_busy_peer_does_not_delay_a_quiet_one() {
    // The quiet one is the probe client.
    for (count, len) in [(60_000, 20), (2_000, 4 * KIB), (60, MIB)] {
        let flood = frame(BINARY, &vec![7; len]).repeat(count);
        AttackTest {
            peak_growth_max: 16 * MIB,
            growth_max: GROWTH_MAX,
            ..AttackTest::default()
        }
        .run(|server| {
            thread::scope(|scope| {
                for _ in 0..2 {
                    scope.spawn(|| {
                        let mut raw = open(server);
                        write_and_read(&mut raw, &flood, |raw| {
                            for _ in 0..count {
                                let (first, payload) = raw.frame();
                                assert_eq!((first, payload.len()), (BINARY, len));
                            }
                        });
                        check_and_close(&mut raw);
                    });
                }
            });
        });
    }
}

#[test]
fn endless_empty_fragments_are_1008_and_do_not_delay_other_clients() {
    let table = [
        frame(CONTINUATION, b""),
        frame(CONTINUATION, b"1"),
        [frame(CONTINUATION, b""), frame(PONG, b"")].concat(),
    ];
    AttackTest::default().run(|server| {
        for more in &table {
            let flood = [frame(BINARY_FIRST, b""), more.repeat(150_000)].concat();
            thread::scope(|scope| {
                for _ in 0..4 {
                    scope.spawn(|| {
                        let mut raw = open(server);
                        write_and_read(&mut raw, &flood, |raw| {
                            assert_eq!(raw.close_frame().0, 1008);
                            raw.expect_end();
                        });
                    });
                }
            });
        }
    });
}

#[test]
fn endless_messages_are_buffered_up_to_the_limit_and_then_1009() {
    let fragment = frame(CONTINUATION, &[7; 64 * KIB]);
    // Four messages of the maximum size at once, and the old buffer of one that grows.
    AttackTest {
        peak_growth_max: (4 + 1) * 16 * MIB + 4 * MIB,
        growth_max: GROWTH_MAX,
        ..AttackTest::default()
    }
    .run(|server| {
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let mut raw = open(server);
                    raw.send(frame(BINARY_FIRST, b""));
                    for _ in 0..256 {
                        raw.send(&fragment);
                    }
                    // The message has exactly the maximum size.
                    raw.send(frame(PING, b"full"));
                    assert_eq!(raw.frame(), (PONG, b"full".to_vec()));
                    raw.send(frame_header(CONTINUATION, 1));
                    assert_eq!(raw.close_frame().0, 1009);
                    raw.expect_end();
                });
            }
        });
    });
}

#[test]
fn the_cost_of_small_fragments_is_linear() {
    const FRAGMENTS: usize = 120_000;
    let piece = frame(CONTINUATION, &[7; 128]).repeat(500);
    let whole = frame(BINARY, &vec![7; 16 * MIB]);
    AttackTest {
        peak_growth_max: 200 * MIB,
        ..AttackTest::default()
    }
    .run(|server| {
        let mut peers: Vec<Raw> = (0..4).map(|_| open(server)).collect();
        // After a buffer of this size is freed, an allocator may place the next large buffer among small allocations,
        // where the buffer cannot grow without being copied.
        for raw in &mut peers {
            write_and_read(raw, &whole, |raw| assert_eq!(raw.frame().1.len(), 16 * MIB));
            raw.send(frame(BINARY_FIRST, b""));
        }
        let before = server.cpu_time();
        // The peers send in turns, so that their buffers grow alternately.
        for _ in 0..FRAGMENTS / 500 {
            for raw in &mut peers {
                raw.send(&piece);
            }
        }
        for raw in &mut peers {
            raw.send(frame(PING, b"done"));
            assert_eq!(raw.frame(), (PONG, b"done".to_vec()));
        }
        let worked = server.cpu_time() - before;
        assert!(
            worked < Duration::from_secs(5),
            "{worked:?} for 4 x 120 000 fragments of 128 bytes"
        );
        for mut raw in peers {
            write_and_read(&mut raw, &frame(CONTINUATION_FIN, b""), |raw| {
                assert_eq!(raw.frame().1.len(), 128 * FRAGMENTS);
            });
            check_and_close(&mut raw);
        }
    });
}

#[test]
fn memory_is_released_after_the_largest_messages() {
    let whole = frame(BINARY, &vec![7; 16 * MIB]);
    AttackTest {
        peak_growth_max: 3 * 16 * MIB + 4 * MIB,
        ..AttackTest::default()
    }
    .run(|server| {
        let mut peers: Vec<Raw> = (0..4).map(|_| open(server)).collect();
        for raw in &mut peers {
            write_and_read(raw, &whole, |raw| {
                assert_eq!(raw.frame().1.len(), 16 * MIB);
            });
        }
        peers.iter_mut().for_each(check_and_close);
    });
}

#[test]
fn announced_lengths_without_payload_reserve_no_memory() {
    const PEERS: usize = 500;
    let max = 16 * MIB as u64;
    let too_long = [1 << 40, 1 << 48, 1 << 62, (1 << 63) - 1];
    AttackTest {
        peak_growth_max: 6 * MIB,
        growth_max: GROWTH_MAX,
        ..AttackTest::default()
    }
    .run(|server| {
        let reserved = server.virtual_memory();
        // Lengths above the limit, refused when the header arrives.
        let mut peers: Vec<Raw> = (0..PEERS).map(|_| open(server)).collect();
        for (i, raw) in peers.iter_mut().enumerate() {
            raw.send(
                [
                    frame_header([TEXT, BINARY, TEXT_FIRST][i % 3], too_long[i % 4]),
                    masked_kib(),
                ]
                .concat(),
            );
        }
        for raw in &mut peers {
            assert_eq!(raw.close_frame().0, 1009);
            raw.expect_end();
        }
        drop(peers);
        // The maximum length, of which one KiB arrives.
        let mut peers: Vec<Raw> = (0..PEERS).map(|_| open(server)).collect();
        for (i, raw) in peers.iter_mut().enumerate() {
            raw.send(
                [
                    frame_header([TEXT, BINARY, BINARY_FIRST][i % 3], max),
                    masked_kib(),
                ]
                .concat(),
            );
        }
        // When this client is served, the server has read the bytes of all peers.
        let mut last = open(server);
        check_and_close(&mut last);
        // The virtual memory must not grow by more than one message either. Measured: 0.5 MiB. (Its peak is not usable:
        // glibc reserves 128 MiB for a moment when the thread of the log starts.)
        let now = server.virtual_memory();
        assert!(
            now <= reserved + 16 * MIB,
            "{} KiB reserved, {} before",
            now / KIB,
            reserved / KIB
        );
        drop(peers);
    });
}

#[test]
fn incomplete_messages_cost_at_most_twice_the_bytes_that_arrived() {
    const PEERS: usize = 200;
    // Sizes below and above two thresholds. From 32 KiB on, further payload is read directly into the buffer of the
    // message; with 32-bit pointers, this buffer is mapped from 32 KiB on. Above 128 KiB, a mapped buffer has to grow.
    for arrived in [10, 20, 31, 33, 100, 130, 300].map(|kib| kib * KIB) {
        let peak = PEERS * 2 * arrived + 4 * MIB;
        AttackTest {
            peak_growth_max: peak,
            // A message up to 4 KiB, or up to 32 KiB with 32-bit pointers, is in the allocator's heap, which may retain
            // the memory.
            growth_max: peak,
            ..AttackTest::default()
        }
        .run(|server| {
            let mut peers: Vec<Raw> = (0..PEERS).map(|_| open(server)).collect();
            for raw in &mut peers {
                raw.send(frame_header(BINARY, 16 * MIB as u64));
            }
            // In pieces, so that most of them are read directly into the buffer of the message.
            let pieces = 5;
            for _ in 0..pieces {
                for raw in &mut peers {
                    raw.send(vec![7; arrived / pieces]);
                }
                check_and_close(&mut open(server));
            }
        });
    }
}

/// Returns a KiB of payload, masked with the key of `frame_header`. It is ASCII, which is valid in a text message.
fn masked_kib() -> Vec<u8> {
    let whole = frame(BINARY, &[b'k'; KIB]);
    whole[whole.len() - KIB..].to_vec()
}

#[test]
fn incomplete_request_heads_cost_the_bytes_that_arrived() {
    let head = format!(
        "GET / HTTP/1.1\r\nHost: localhost\r\nCookie: {}",
        "c".repeat(4 * KIB)
    );
    AttackTest {
        peak_growth_max: 500 * 5 * KIB + 3 * MIB,
        ..AttackTest::default()
    }
    .run(|server| {
        let mut peers: Vec<Raw> = (0..500).map(|_| Raw::new(server.addr)).collect();
        for raw in &mut peers {
            raw.send(&head);
        }
        check_and_close(&mut open(server));
    });
}

#[test]
fn memory_is_released_after_a_thousand_incomplete_request_heads() {
    const PEERS: usize = 1000;
    let head = format!("GET / HTTP/1.1\r\nCookie: {}", "c".repeat(15_000));
    let arrived = PEERS * head.len();
    AttackTest {
        peak_growth_max: arrived + arrived / 4 + 4 * MIB,
        ..AttackTest::default()
    }
    .run(|server| {
        let mut peers: Vec<Raw> = (0..PEERS).map(|_| Raw::new(server.addr)).collect();
        for raw in &mut peers {
            raw.send(&head);
        }
        check_and_close(&mut open(server));
    });
}
