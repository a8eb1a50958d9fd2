//! Tests with hostile peers on an open connection: every kind of illegal frame and Close of RFC 6455. Each is
//! answered by one Close with the right code, after the answers to all earlier frames, and then the stream ends, even
//! if the peer continues to send.

#![cfg(feature = "serve")]

mod common;
mod hostile_common;

use common::*;
use hostile_common::*;

/// A name, the bytes that the peer sends, and the code of the Close that answers them.
type Row = (String, Vec<u8>, u16);

fn row(name: impl Into<String>, bytes: impl Into<Vec<u8>>, code: u16) -> Row {
    (name.into(), bytes.into(), code)
}

/// Expects one Close with `code`, and then the end of the stream.
fn expect_close(raw: &mut Raw, name: &str, way: &str, code: u16) {
    let (first, payload) = raw.frame();
    assert_eq!(first, CLOSE, "{name}, {way}: {payload:?}");
    assert_eq!(
        payload[..2],
        code.to_be_bytes(),
        "{name}, {way}: {:?}",
        String::from_utf8_lossy(&payload[2..])
    );
    assert!(
        payload.len() <= 125 && std::str::from_utf8(&payload[2..]).is_ok(),
        "{name}, {way}"
    );
    let rest = rest(&raw.0);
    assert!(
        rest.is_empty(),
        "{name}, {way}: {} bytes after the Close",
        rest.len()
    );
}

/// Sends the bytes of each row in four ways, each on a new connection: whole; one byte at a time, if there are fewer
/// than 300; after a message and a ping that must be answered; and followed by a MiB of noise. Checks the Close of each,
/// and that the server closes its descriptors.
fn check(server: &Wsloop, table: &[Row]) {
    let descriptors = server.descriptors();
    let garbage = noise(MIB);
    let open = || Raw::open(server.addr, "/echo");
    for (name, bytes, code) in table {
        let end = |mut raw: Raw, way: &str| expect_close(&mut raw, name, way, *code);
        let mut raw = open();
        raw.send(bytes);
        end(raw, "whole");
        if bytes.len() < 300 {
            let mut raw = open();
            for byte in bytes {
                raw.send([*byte]);
            }
            end(raw, "a byte at a time");
        }
        let mut raw = open();
        raw.send([&frame(TEXT, b"before"), &frame(PING, b"and"), &bytes[..]].concat());
        assert_eq!(raw.frame(), (TEXT, b"before".to_vec()), "{name}");
        assert_eq!(raw.frame(), (PONG, b"and".to_vec()), "{name}");
        end(raw, "after a message");
        let mut raw = open();
        raw.send(bytes);
        let writing = write_behind(&raw, garbage.clone());
        end(raw, "followed by a MiB");
        writing.join().unwrap();
        server.expect_descriptors(descriptors);
    }
}

/// Runs [`check`] as an [`AttackTest`], which also measures memory and the latency of another client.
fn check_under_attack(table: &[Row]) {
    AttackTest::default().run(|server| check(server, table));
}

/// Returns a masked frame with its length in the 16-bit form (126) or the 64-bit form (127).
fn with_length(first: u8, form: u8, len: u64) -> Vec<u8> {
    let mut bytes = vec![first, 0x80 | form];
    match form {
        126 => bytes.extend((len as u16).to_be_bytes()),
        _ => bytes.extend(len.to_be_bytes()),
    }
    bytes.extend([0; 4]);
    bytes.extend(vec![b'x'; len.min(256) as usize]);
    bytes
}

/// The frames that may be the first one on a connection: their names and first bytes.
const KINDS: [(&str, u8); 5] = [
    ("text", TEXT),
    ("binary", BINARY),
    ("close", CLOSE),
    ("ping", PING),
    ("pong", PONG),
];

// First bytes of the frames of a fragmented message.
const TEXT_FIRST: u8 = 0x01;
const BINARY_FIRST: u8 = 0x02;
const CONTINUATION: u8 = 0x00;
const CONTINUATION_FIN: u8 = 0x80;

#[test]
fn reserved_bits_and_opcodes_are_1002() {
    let mut table = Vec::new();
    for rsv in [0x40, 0x20, 0x10, 0x60, 0x50, 0x30, 0x70] {
        for (kind, first) in KINDS {
            table.push(row(
                format!("bits {rsv:#x} in a {kind}"),
                frame(first | rsv, b""),
                1002,
            ));
        }
        let inside = [frame(TEXT_FIRST, b"a"), frame(CONTINUATION_FIN | rsv, b"b")].concat();
        table.push(row(
            format!("bits {rsv:#x} in a continuation"),
            inside,
            1002,
        ));
    }
    for opcode in (3..8).chain(11..16) {
        table.push(row(
            format!("opcode {opcode}"),
            frame(0x80 | opcode, b""),
            1002,
        ));
        table.push(row(
            format!("opcode {opcode} with payload"),
            frame(0x80 | opcode, b"payload"),
            1002,
        ));
        table.push(row(
            format!("opcode {opcode} without FIN"),
            frame(opcode, b"x"),
            1002,
        ));
        let inside = [frame(TEXT_FIRST, b"a"), frame(0x80 | opcode, b"")].concat();
        table.push(row(
            format!("opcode {opcode} inside a message"),
            inside,
            1002,
        ));
        table.push(row(
            format!("opcode {opcode} and every bit"),
            vec![0xF0 | opcode, 0xFF],
            1002,
        ));
    }
    check_under_attack(&table);
}

#[test]
fn frames_without_mask_are_1002() {
    let mut table = Vec::new();
    for (kind, first) in KINDS {
        table.push(row(format!("an empty {kind}"), vec![first, 0], 1002));
        table.push(row(
            format!("a {kind}"),
            [&[first, 5][..], b"\x03\xe8bye"].concat(),
            1002,
        ));
    }
    table.push(row(
        "a long text",
        [&[TEXT, 126, 1, 0][..], &[b'x'; 256]].concat(),
        1002,
    ));
    table.push(row(
        "a very long text",
        [&[TEXT, 127][..], &u64::MAX.to_be_bytes()].concat(),
        1002,
    ));
    let inside = [&frame(TEXT_FIRST, b"a")[..], &[CONTINUATION_FIN, 1, b'b']].concat();
    table.push(row("a continuation", inside, 1002));
    check_under_attack(&table);
}

#[test]
fn control_frames_that_are_fragmented_or_long_are_1002() {
    let mut table = Vec::new();
    for (kind, first) in &KINDS[2..] {
        table.push(row(
            format!("a {kind} without FIN"),
            frame(first & 0x0F, b""),
            1002,
        ));
        table.push(row(
            format!("a {kind} without FIN, with payload"),
            frame(first & 0x0F, b"\x03\xe8"),
            1002,
        ));
        let inside = [frame(TEXT_FIRST, b"a"), frame(first & 0x0F, b"")].concat();
        table.push(row(
            format!("a {kind} without FIN inside a message"),
            inside,
            1002,
        ));
        table.push(row(
            format!("a {kind} of 126 bytes"),
            frame(*first, &[b'x'; 126]),
            1002,
        ));
        table.push(row(
            format!("a {kind} of 64 KiB"),
            frame(*first, &[b'x'; 64 * KIB]),
            1002,
        ));
        table.push(row(
            format!("a {kind} of 2 bytes in 126 form"),
            with_length(*first, 126, 2),
            1002,
        ));
        table.push(row(
            format!("a {kind} of 2 bytes in 127 form"),
            with_length(*first, 127, 2),
            1002,
        ));
        table.push(row(
            format!("a {kind} of 2^63 bytes"),
            with_length(*first, 127, 1 << 63),
            1002,
        ));
        // The first two bytes are enough to report the violation.
        table.push(row(
            format!("the beginning of a long {kind}"),
            vec![*first, 0xFE],
            1002,
        ));
    }
    check_under_attack(&table);
}

#[test]
fn lengths_that_are_not_minimal_or_have_the_top_bit_are_1002() {
    let mut table = Vec::new();
    for first in [TEXT, BINARY, TEXT_FIRST] {
        for (form, len) in [
            (126, 0),
            (126, 1),
            (126, 125),
            (127, 0),
            (127, 125),
            (127, 126),
            (127, 65535),
        ] {
            table.push(row(
                format!("{len} in {form} form, {first:#x}"),
                with_length(first, form, len),
                1002,
            ));
        }
        for len in [1 << 63, 1 << 63 | 5, u64::MAX] {
            table.push(row(
                format!("a length of {len:#x}, {first:#x}"),
                with_length(first, 127, len),
                1002,
            ));
        }
    }
    let inside = [
        frame(TEXT_FIRST, b"a"),
        with_length(CONTINUATION_FIN, 126, 5),
    ]
    .concat();
    table.push(row("5 in 126 form in a continuation", inside, 1002));
    check_under_attack(&table);
}

#[test]
fn fragments_out_of_order_are_1002() {
    let mut table = vec![
        row("a last fragment first", frame(CONTINUATION_FIN, b"x"), 1002),
        row("a middle fragment first", frame(CONTINUATION, b"x"), 1002),
        row(
            "an empty last fragment first",
            frame(CONTINUATION_FIN, b""),
            1002,
        ),
        row(
            "a huge middle fragment first",
            frame_header(CONTINUATION, 1 << 62),
            1002,
        ),
    ];
    for first in [TEXT_FIRST, BINARY_FIRST] {
        for second in [TEXT, BINARY, TEXT_FIRST, BINARY_FIRST] {
            let bytes = [frame(first, b"a"), frame(second, b"b")].concat();
            table.push(row(format!("{second:#x} inside {first:#x}"), bytes, 1002));
            let bytes = [
                frame(first, b""),
                frame(CONTINUATION, b""),
                frame_header(second, 1 << 40),
            ]
            .concat();
            table.push(row(
                format!("a huge {second:#x} inside {first:#x}"),
                bytes,
                1002,
            ));
        }
    }
    check_under_attack(&table);
    AttackTest::default().run(|server| {
        let mut raw = Raw::open(server.addr, "/echo");
        raw.send(
            [
                frame(TEXT_FIRST, b"a"),
                frame(PING, b""),
                frame(CONTINUATION_FIN, b"b"),
                frame(CONTINUATION_FIN, b"c"),
            ]
            .concat(),
        );
        assert_eq!(raw.frame(), (PONG, vec![]));
        assert_eq!(raw.frame(), (TEXT, b"ab".to_vec()));
        expect_close(&mut raw, "a fragment too many", "whole", 1002);
    });
}

#[test]
fn text_that_is_not_utf8_is_1007() {
    let bad: &[(&str, &[u8])] = &[
        ("a continuation byte", b"\x80"),
        ("0xFF", b"\xff"),
        ("0xFE", b"\xfe"),
        ("an overlong slash in 2", b"\xc0\xaf"),
        ("an overlong DEL in 2", b"\xc1\xbf"),
        ("an overlong slash in 3", b"\xe0\x80\xaf"),
        ("an overlong slash in 4", b"\xf0\x80\x80\xaf"),
        ("a surrogate", b"\xed\xa0\x80"),
        ("a pair of surrogates", b"\xed\xa1\x80\xed\xb0\x80"),
        ("over U+10FFFF", b"\xf4\x90\x80\x80"),
        ("5 bytes", b"\xf8\x88\x80\x80\x80"),
        ("6 bytes", b"\xfc\x84\x80\x80\x80\x80"),
        ("a character cut by another", b"\xe2\x82a"),
        ("Latin-1", b"J\xfcrgen"),
    ];
    let mut table = Vec::new();
    for (name, bad) in bad {
        let word = "\u{3ba}\u{f3}\u{3c3}\u{3bc}\u{3b5}".as_bytes();
        let text = [word, bad, word].concat();
        table.push(row(*name, frame(TEXT, bad), 1007));
        table.push(row(
            format!("{name} between valid characters"),
            frame(TEXT, &text),
            1007,
        ));
        let halves = text.split_at(word.len() + 1);
        let cut = [
            frame(TEXT_FIRST, halves.0),
            frame(CONTINUATION_FIN, halves.1),
        ]
        .concat();
        table.push(row(format!("{name} in two fragments"), cut, 1007));
        // The violation is reported before the frame or the message is complete.
        let begun = [frame_header(TEXT_FIRST, MIB as u64), masked(&text)].concat();
        table.push(row(format!("{name} at once"), begun, 1007));
        let continued = [
            frame(TEXT_FIRST, word),
            frame_header(CONTINUATION, 1 << 20),
            masked(&text),
        ]
        .concat();
        table.push(row(
            format!("{name} at once, in the second fragment"),
            continued,
            1007,
        ));
    }
    for cut in [&b"\xc3"[..], b"\xe2\x82", b"\xf0\x9f\x98"] {
        let text = [b"abc", cut].concat();
        table.push(row(
            format!("an end inside {cut:?}"),
            frame(TEXT, &text),
            1007,
        ));
        let last = [frame(TEXT_FIRST, &text), frame(CONTINUATION_FIN, b"")].concat();
        table.push(row(
            format!("an end inside {cut:?} after an empty fragment"),
            last,
            1007,
        ));
        let broken = [
            frame(TEXT_FIRST, &text),
            frame(CONTINUATION, b""),
            frame(CONTINUATION, b"a"),
        ]
        .concat();
        table.push(row(
            format!("{cut:?} and then a fragment with another character"),
            broken,
            1007,
        ));
    }
    check_under_attack(&table);
}

/// Returns a payload masked with the key of `frame_header`.
fn masked(payload: &[u8]) -> Vec<u8> {
    let whole = frame(BINARY, payload);
    whole[whole.len() - payload.len()..].to_vec()
}

#[test]
fn messages_above_the_limit_are_1009_when_their_header_arrives() {
    let mut table = Vec::new();
    let max = 16 * MIB as u64;
    for len in [max + 1, 1 << 32, 1 << 40, (1 << 63) - 1] {
        for first in [TEXT, BINARY, TEXT_FIRST, BINARY_FIRST] {
            let header = frame_header(first, len);
            table.push(row(
                format!("{len:#x} bytes, {first:#x}"),
                header.clone(),
                1009,
            ));
            // The length is checked before the masking key arrives.
            table.push(row(
                format!("{len:#x} bytes, {first:#x}, no key"),
                &header[..10],
                1009,
            ));
        }
    }
    for (more, first) in [
        (max - 9, CONTINUATION_FIN),
        (max, CONTINUATION),
        (i64::MAX as u64, CONTINUATION_FIN),
    ] {
        let together = [
            frame(BINARY_FIRST, b"10 of them"),
            frame_header(first, more),
        ]
        .concat();
        table.push(row(
            format!("10 bytes and {more:#x} together"),
            together,
            1009,
        ));
    }
    // The bytes of an incomplete character count as well.
    let together = [
        frame(TEXT_FIRST, b"\xe2\x82"),
        frame_header(CONTINUATION_FIN, max - 1),
    ]
    .concat();
    table.push(row("2 bytes of a character and the rest", together, 1009));
    check_under_attack(&table);
}

#[test]
fn too_many_fragments_are_1008() {
    let limited = AttackTest {
        args: &["serve", "--fragments-max", "10"],
        ..AttackTest::default()
    };
    limited.run(|server| {
        let empty = frame(CONTINUATION, b"");
        check(
            server,
            &[
                row(
                    "11 and the last",
                    [
                        frame(TEXT_FIRST, b""),
                        empty.repeat(9),
                        frame(CONTINUATION_FIN, b""),
                    ]
                    .concat(),
                    1008,
                ),
                row(
                    "11 and no last",
                    [frame(BINARY_FIRST, b"a"), empty.repeat(10)].concat(),
                    1008,
                ),
                row(
                    "12 of some bytes",
                    [
                        frame(TEXT_FIRST, b"a"),
                        frame(CONTINUATION, b"a").repeat(11),
                    ]
                    .concat(),
                    1008,
                ),
            ],
        );
    });
    let by_default = [
        frame(TEXT_FIRST, b""),
        frame(CONTINUATION, b"").repeat(131_072),
    ]
    .concat();
    check_under_attack(&[row("131 073", by_default, 1008)]);
}

#[test]
fn closes_that_are_illegal_are_refused() {
    let mut table = vec![
        row("a code of one byte", frame(CLOSE, b"\x03"), 1002),
        row("its first two bytes", vec![CLOSE, 0x81], 1002),
        row(
            "125 bytes and a code that is not allowed",
            frame(CLOSE, &[b'x'; 125]),
            1002,
        ),
        row(
            "a close inside a message, a byte",
            [frame(TEXT_FIRST, b"a"), frame(CLOSE, b"x")].concat(),
            1002,
        ),
    ];
    let codes = [
        0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 1999, 2000, 2999, 5000, 9999, 65535,
    ];
    for code in codes {
        table.push(row(format!("code {code}"), close_frame(code, ""), 1002));
        table.push(row(
            format!("code {code} and a reason"),
            close_frame(code, "because"),
            1002,
        ));
    }
    let reasons: &[&[u8]] = &[
        b"\xff",
        b"ok\xc3",
        b"\xc0\xaf",
        b"\xed\xa0\x80",
        b"\xf4\x90\x80\x80",
        &[0x80; 123],
    ];
    for reason in reasons {
        for code in [1000_u16, 4999] {
            let payload = [&code.to_be_bytes()[..], reason].concat();
            table.push(row(
                format!("{code} and the reason {reason:?}"),
                frame(CLOSE, &payload),
                1007,
            ));
        }
    }
    check_under_attack(&table);
}

#[test]
fn nothing_is_answered_after_a_legal_close() {
    let behind: &[(&str, Vec<u8>)] = &[
        ("nothing", vec![]),
        ("a text", frame(TEXT, b"too late")),
        ("a ping", frame(PING, b"too late")),
        ("another close", close_frame(1001, "again")),
        ("an illegal frame", vec![0xFF; 100]),
        ("a frame of 2^62 bytes", frame_header(BINARY, 1 << 62)),
        ("a MiB of texts", frame(TEXT, b"too late").repeat(MIB / 14)),
        ("another request", upgrade_request("/echo").into()),
    ];
    let codes = [
        1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000,
        4999,
    ];
    AttackTest::default().run(|server| {
        for (name, behind) in behind {
            for code in codes {
                let mut raw = Raw::open(server.addr, "/echo");
                raw.send(close_frame(code, "\u{fc}"));
                let writing = write_behind(&raw, behind.clone());
                assert_eq!(raw.close_frame(), (code, "\u{fc}".to_owned()), "{name}");
                raw.expect_end();
                writing.join().unwrap();
            }
            let mut raw = Raw::open(server.addr, "/echo");
            raw.send([frame(CLOSE, b""), behind.clone()].concat());
            assert_eq!(raw.frame(), (CLOSE, vec![]), "{name}");
            raw.expect_end();
        }
    });
}
