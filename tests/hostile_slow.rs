//! Tests with hostile peers that are slow: peers that never read, that send one byte at a time, and that half-close the
//! stream.

#![cfg(feature = "serve")]

mod common;
mod hostile_common;

use common::*;
use hostile_common::*;
use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::thread;
use std::time::{Duration, Instant};

const TEXT_FIRST: u8 = 0x01;

/// Sends a frame repeatedly, without reading, until the connection is blocked. Returns the number of frames.
fn flood(raw: &Raw, bytes: &[u8]) -> usize {
    write_until_blocked(&raw.0, |_| bytes.to_vec()).0
}

#[test]
fn the_memory_for_a_peer_that_never_reads_is_bounded_by_the_high_water_mark() {
    // For each of six peers: the queue at the high-water mark with the capacity that it allocates ahead, and a receive
    // buffer with unprocessed input.
    let peak = 6 * (2 * MIB + 256 * KIB) + 2 * MIB;
    AttackTest {
        peak_growth_max: peak,
        growth_max: GROWTH_MAX,
        ..AttackTest::default()
    }
    .run(|server| {
        thread::scope(|scope| {
            for len in [20_000, 64 * KIB, 300_000] {
                for opcode in [TEXT, BINARY] {
                    scope.spawn(move || {
                        let raw = Raw::open(server.addr, "/echo");
                        let taken = flood(&raw, &frame(opcode, &vec![b'x'; len]));
                        // This includes what the kernel's socket buffers hold.
                        assert!(taken * len < 64 * MIB, "{taken} messages of {len} bytes");
                    });
                }
            }
        });
    });
}

#[test]
fn a_peer_that_reads_late_gets_every_echo() {
    const LEN: usize = 64 * KIB;
    AttackTest {
        growth_max: GROWTH_MAX,
        ..AttackTest::default()
    }
    .run(|server| {
        let mut raw = Raw::open(server.addr, "/echo");
        let (count, rest) = write_until_blocked(&raw.0, |i| frame(BINARY, &[i as u8; LEN]));
        thread::scope(|scope| {
            let mut writer = raw.0.try_clone().unwrap();
            let writing = scope.spawn(move || writer.write_all(&rest).unwrap());
            for i in 0..count {
                assert_eq!(raw.frame(), (BINARY, vec![i as u8; LEN]));
            }
            writing.join().unwrap();
        });
    });
}

#[test]
fn a_peer_that_never_reads_is_disconnected_after_the_write_timeout() {
    let args = ["serve", "--write-timeout", "500ms"];
    let table = [
        ("/echo", frame(TEXT, &[b'x'; 100]).repeat(100)),
        ("/echo", frame(BINARY, &[b'x'; 64 * KIB])),
        ("/echo", frame(PING, &[b'x'; 125]).repeat(100)),
        ("/broadcast", frame(TEXT, &[b'x'; 64 * KIB])),
    ];
    AttackTest {
        args: &args,
        peak_growth_max: 24 * MIB,
        // The last buffers of twelve peers: too small to be mapped one by one, so the allocator may retain their memory.
        growth_max: 2 * MIB,
    }
    .run(|server| {
        let descriptors = server.descriptors();
        let peers: Vec<Raw> = thread::scope(|scope| {
            let threads = table.iter().flat_map(|row| [row; 3]).map(|(path, bytes)| {
                scope.spawn(move || {
                    let raw = Raw::open(server.addr, path);
                    small_window(&raw);
                    let start = Instant::now();
                    let error = loop {
                        if let Err(error) = (&raw.0).write_all(bytes) {
                            break error;
                        }
                        assert!(start.elapsed() < WAIT, "{path}: still connected");
                    };
                    assert!(
                        matches!(
                            error.kind(),
                            ErrorKind::ConnectionReset | ErrorKind::BrokenPipe
                        ),
                        "{error}"
                    );
                    raw
                })
            });
            let threads: Vec<_> = threads.collect();
            threads
                .into_iter()
                .map(|peer| peer.join().unwrap())
                .collect()
        });
        // The clients still have their sockets open, and the server has closed its own.
        server.expect_descriptors(descriptors);
        drop(peers);
        server.logged("--write-timeout reached");
    });
}

#[test]
fn members_that_never_read_share_the_memory_of_their_lag() {
    const COUNT: usize = 400;
    let args = ["serve", "--write-timeout", "1s"];
    // The maximum lag, once for all members together, the publications of one turn, and the rounding of chunks.
    AttackTest {
        args: &args,
        peak_growth_max: 16 * MIB,
        growth_max: GROWTH_MAX,
    }
    .run(|server| {
        let descriptors = server.descriptors();
        let silent: Vec<Raw> = (0..6)
            .map(|_| Raw::open(server.addr, "/broadcast"))
            .collect();
        silent.iter().for_each(small_window);
        let mut sender = Raw::open(server.addr, "/broadcast");
        let message = frame(BINARY, &[7; 64 * KIB]);
        for _ in 0..COUNT {
            sender.send(&message);
            assert_eq!(
                sender.frame().1.len(),
                64 * KIB,
                "the sender gets every message"
            );
        }
        server.logged("--lag-bytes-max reached");
        // The silent members do not read the Close either, and are disconnected after the write timeout. The sender
        // is still connected.
        server.expect_descriptors(descriptors + 1);
        drop(silent);
    });
}

#[test]
fn a_thousand_members_with_8_mib_unsent_each_cost_8_mib_together() {
    const MEMBERS: usize = 1000;
    let args = ["serve", "--lag-bytes-max", "16M"];
    AttackTest {
        args: &args,
        peak_growth_max: 48 * MIB,
        ..AttackTest::default()
    }
    .run(|server| {
        let silent: Vec<Raw> = (0..MEMBERS)
            .map(|_| {
                let raw = Raw::open(server.addr, "/broadcast");
                small_window(&raw);
                raw
            })
            .collect();
        let mut sender = Raw::open(server.addr, "/broadcast");
        let message = frame(BINARY, &[7; 64 * KIB]);
        // 8 MiB, and 3 MiB that the kernel's buffers of each member hold (measured: 2 to 3 MiB).
        for _ in 0..8 * MIB / (64 * KIB) + 48 {
            sender.send(&message);
            assert_eq!(sender.frame().1.len(), 64 * KIB);
        }
        println!("{} KiB for all members", server.memory() / KIB);
        drop(silent);
    });
}

/// Regression: a peer that sent part of a request or message while another peer sent large messages got a large buffer,
/// all of which was resident: 4 MiB for 4 200 bytes.
#[test]
fn incomplete_input_beside_large_messages_costs_the_bytes_that_arrived() {
    const PEERS: usize = 200;
    let args = ["serve", "--high-water-bytes", "16M"];
    AttackTest {
        args: &args,
        // 128 KiB for each incomplete message; four large buffers; the large message, its echo, and what the allocator
        // retains of both.
        peak_growth_max: PEERS * 128 * KIB + 48 * MIB,
        ..AttackTest::default()
    }
    .run(|server| {
        let head = format!("GET / HTTP/1.1\r\nCookie: {}", "c".repeat(4200));
        // The header of a message of 16 MiB, and its first 100 bytes.
        let incomplete = [
            &[0x82, 0xFF, 0, 0, 0, 0, 1, 0, 0, 0][..],
            &[0; 4],
            &[7; 100],
        ]
        .concat();
        let mut large = Raw::open(server.addr, "/echo");
        let message = frame(BINARY, &vec![7; 4 * MIB]);
        let start = server.memory();
        let mut peers = Vec::new();
        for index in 0..2 * PEERS {
            let writing = write_behind(&large, message.clone());
            assert_eq!(large.frame().1.len(), 4 * MIB);
            writing.join().unwrap();
            let raw = if index < PEERS {
                let mut raw = Raw::new(server.addr);
                raw.send(&head);
                raw
            } else {
                let mut raw = Raw::open(server.addr, "/echo");
                raw.send(&incomplete);
                raw
            };
            peers.push(raw);
            // When a client that connects later is served, the server has read the bytes of this peer.
            let mut other = Raw::open(server.addr, "/echo");
            other.send(frame(TEXT, b"x"));
            other.frame();
            if index + 1 == PEERS {
                let held = server.memory().saturating_sub(start);
                assert!(
                    held < PEERS * 16 * KIB + 16 * MIB,
                    "{held} bytes for requests"
                );
            }
        }
        println!(
            "{} KiB for all peers",
            server.memory().saturating_sub(start) / KIB
        );
    });
}

#[test]
fn many_slow_handshakes_all_get_408_in_time() {
    const TIMEOUT: Duration = Duration::from_secs(2);
    let args = ["serve", "--handshake-timeout", "2s"];
    AttackTest {
        args: &args,
        ..AttackTest::default()
    }
    .run(|server| {
        let request = upgrade_request("/echo");
        let start = Instant::now();
        let mut peers: Vec<Raw> = (0..200).map(|_| Raw::new(server.addr)).collect();
        // 20 of the peers send nothing at all.
        for (second, byte) in request.bytes().enumerate().take(4) {
            thread::sleep((TIMEOUT / 4 * second as u32).saturating_sub(start.elapsed()));
            for raw in peers.iter_mut().skip(20) {
                raw.send([byte]);
            }
        }
        let (silent, slow) = peers.split_at_mut(20);
        for raw in slow {
            assert_eq!(raw.response().status, 408);
        }
        for raw in silent {
            raw.expect_end();
        }
        let took = start.elapsed();
        assert!(
            took >= TIMEOUT && took < TIMEOUT + Duration::from_secs(1),
            "{took:?}"
        );
    });
}

#[test]
fn many_slow_messages_are_all_served() {
    AttackTest::default().run(|server| {
        let mut peers: Vec<Raw> = (0..200).map(|_| Raw::open(server.addr, "/echo")).collect();
        let message = frame(TEXT, "sl\u{f6}w".as_bytes());
        for byte in message {
            for raw in &mut peers {
                raw.send([byte]);
            }
            thread::sleep(Duration::from_millis(20));
        }
        for raw in &mut peers {
            assert_eq!(raw.frame(), (TEXT, "sl\u{f6}w".into()));
        }
    });
}

#[test]
fn slow_readers_of_refusals_get_complete_responses() {
    AttackTest::default().run(|server| {
        let mut peers: Vec<Raw> = (0..100).map(|_| Raw::new(server.addr)).collect();
        for raw in &mut peers {
            small_window(raw);
            raw.send("GET / HTTP/2.0\r\n\r\n");
        }
        thread::sleep(SHORT);
        for raw in &mut peers {
            assert_eq!(raw.response().status, 505);
        }
    });
}

#[test]
fn messages_before_a_half_close_are_answered() {
    let texts = frame(TEXT, b"one more").repeat(100);
    let echoes = [&[TEXT, 8][..], b"one more"].concat().repeat(100);
    let many = frame(BINARY, &[7; 64 * KIB]).repeat(200);
    AttackTest::default().run(|server| {
        let many = &many;
        let mut raw = Raw::open(server.addr, "/echo");
        raw.send(&texts);
        raw.shut_write();
        assert_eq!(rest(&raw.0), echoes);

        let mut raw = Raw::open(server.addr, "/echo");
        let writer = raw.0.try_clone().unwrap();
        thread::scope(|scope| {
            // More than the server reads before it pauses reading because of unsent echoes. The half-close arrives
            // while reading is paused.
            let writing = scope.spawn(move || {
                (&writer).write_all(many).unwrap();
                writer.shutdown(Shutdown::Write).unwrap();
            });
            thread::sleep(SHORT);
            for _ in 0..200 {
                assert_eq!(raw.frame(), (BINARY, vec![7; 64 * KIB]));
            }
            writing.join().unwrap();
        });
        raw.expect_end();

        let mut raw = Raw::open(server.addr, "/broadcast");
        raw.send(&texts);
        raw.shut_write();
        assert_eq!(rest(&raw.0), echoes);

        let mut raw = Raw::open(server.addr, "/echo");
        raw.send([frame(PING, b"?"), close_frame(1000, "bye")].concat());
        raw.shut_write();
        assert_eq!(raw.frame(), (PONG, b"?".to_vec()));
        assert_eq!(raw.close_frame(), (1000, "bye".to_owned()));
        raw.expect_end();

        let mut raw = Raw::new(server.addr);
        raw.send(
            [
                upgrade_request("/echo").as_bytes(),
                &frame(TEXT, b"at once"),
            ]
            .concat(),
        );
        raw.shut_write();
        assert_eq!(raw.response_head().status, 101);
        assert_eq!(raw.frame(), (TEXT, b"at once".to_vec()));
        raw.expect_end();

        for (request, status) in [
            ("GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n", 200),
            ("GET / HTTP/2.0\r\n\r\n", 505),
        ] {
            let mut raw = Raw::new(server.addr);
            raw.send(request);
            raw.shut_write();
            assert_eq!(raw.response().status, status);
        }
    });
}

#[test]
fn a_half_close_inside_a_request_or_a_message_ends_the_stream() {
    let text = frame(TEXT, b"text");
    let incomplete = [
        frame_header(TEXT, 100),
        text[..1].to_vec(),
        text[..4].to_vec(),
        text[..8].to_vec(),
        frame(TEXT_FIRST, b"text"),
        [&frame(TEXT_FIRST, b"text")[..], &frame(PING, b"")[..3]].concat(),
        frame_header(BINARY, 16 * MIB as u64),
    ];
    let request = upgrade_request("/echo");
    AttackTest::default().run(|server| {
        for _ in 0..20 {
            for len in [0, 1, 3, 20, request.len() - 1] {
                let mut raw = Raw::new(server.addr);
                raw.send(&request[..len]);
                raw.shut_write();
                let mut rest = Vec::new();
                // An incomplete request gets no response.
                raw.0.read_to_end(&mut rest).unwrap();
                assert_eq!(rest, b"");
            }
            for bytes in &incomplete {
                let mut raw = Raw::open(server.addr, "/echo");
                raw.send(bytes);
                raw.shut_write();
                raw.expect_end();
            }
        }
    });
}
