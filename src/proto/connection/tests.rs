//! Tables of frames with the expected events and replies, named after sections of RFC 6455. Each vector that is passed
//! to [`check`] is received in one piece, one byte at a time, in place (written directly into the buffer in which the
//! message is assembled), and with another frame behind it. The size of the pieces never changes events or replies.

use super::super::utf8::CHECKED_BYTES;
use super::*;
use crate::buffer::{AssemblyBuffer, Buffer};

/// An event or error, owned.
#[derive(Clone, Debug, PartialEq)]
enum Seen {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(u16, String),
    Error(ProtocolError),
}

impl From<Event<'_>> for Seen {
    fn from(event: Event<'_>) -> Self {
        match event {
            Event::Message(message) => match message.as_message().as_text() {
                Some(text) => Self::Text(text.to_owned()),
                None => Self::Binary(message.into_bytes()),
            },
            Event::Ping(payload) => Self::Ping(payload.into_owned()),
            Event::Pong(payload) => Self::Pong(payload.into_owned()),
            Event::Close(frame) => Self::Close(frame.code, frame.reason),
            Event::Request(_) => unreachable!("the connection is open"),
        }
    }
}

const LIMITS: Limits = Limits {
    message_bytes_max: 1000,
    fragments_max: 4,
    head: HeadLimits {
        head_bytes_max: 4096,
        headers_max: 50,
    },
};

fn fixed_key() -> [u8; 4] {
    [1, 2, 3, 4]
}

/// Returns a frame that the peer of an endpoint in `role` sends. `first` is its first byte.
fn frame(role: Role, first: u8, payload: &[u8]) -> Vec<u8> {
    match role {
        Role::Server => masked_frame(first, payload, [0x37, 0xFA, 0x21, 0x3D]),
        Role::Client => [&header(first, 0, payload.len() as u64)[..], payload].concat(),
    }
}

fn masked_frame(first: u8, payload: &[u8], key: [u8; 4]) -> Vec<u8> {
    let mut payload = payload.to_vec();
    apply_mask(&mut payload, key, 0);
    [
        &header(first, 0x80, payload.len() as u64)[..],
        &key,
        &payload,
    ]
    .concat()
}

/// Returns a header without its masking key.
fn header(first: u8, mask_bit: u8, len: u64) -> Vec<u8> {
    match len {
        0..=125 => vec![first, mask_bit | len as u8],
        126..=65535 => [&[first, mask_bit | 126], &(len as u16).to_be_bytes()[..]].concat(),
        _ => [&[first, mask_bit | 127], &len.to_be_bytes()[..]].concat(),
    }
}

/// Returns a frame that an endpoint in `role` sends.
fn ours(role: Role, first: u8, payload: &[u8]) -> Vec<u8> {
    match role {
        Role::Server => frame(Role::Client, first, payload),
        Role::Client => masked_frame(first, payload, fixed_key()),
    }
}

fn open(role: Role) -> Connection {
    match role {
        Role::Server => Connection::server_open(),
        Role::Client => Connection::client_open(fixed_key),
    }
}

/// Receives all of `input`, also after an error. Returns the events and errors, and appends the replies to `out`.
fn receive_all(connection: &mut Connection, input: &[u8], out: &mut Vec<u8>) -> Vec<Seen> {
    let mut bytes = input.to_vec();
    let mut input = &mut bytes[..];
    let mut seen = Vec::new();
    loop {
        match connection.receive(&mut input, &LIMITS, out) {
            Ok(None) => {
                assert!(input.is_empty());
                return seen;
            }
            Ok(Some(event)) => seen.push(event.into()),
            Err(error) => seen.push(Seen::Error(error)),
        }
    }
}

/// As `receive_all`, but receives in place if possible.
fn receive_all_in_place(
    connection: &mut Connection,
    mut input: &[u8],
    out: &mut Vec<u8>,
) -> Vec<Seen> {
    let mut seen = Vec::new();
    while !input.is_empty() {
        let Some(space) = connection.assembly_space(1) else {
            // The byte may be the last one of a header, so the next ones may be received in place.
            let (byte, rest) = input.split_at(1);
            seen.extend(receive_all(connection, byte, out));
            input = rest;
            continue;
        };
        let len = space.len().min(input.len());
        let (piece, rest) = input.split_at(len);
        space[..len].copy_from_slice(piece);
        input = rest;
        match connection.received_in_place(len, out) {
            Ok(event) => seen.extend(event.map(Seen::from)),
            Err(error) => seen.push(Seen::Error(error)),
        }
    }
    seen
}

/// Runs one vector in four ways, in one role.
fn check_role(
    role: Role,
    name: &str,
    frames: &[(u8, &[u8])],
    expected: &[Seen],
    replies: &[(u8, &[u8])],
) {
    let wire: Vec<u8> = frames
        .iter()
        .flat_map(|(first, payload)| frame(role, *first, payload))
        .collect();
    let replies: Vec<u8> = replies
        .iter()
        .flat_map(|(first, payload)| ours(role, *first, payload))
        .collect();

    let (mut connection, mut out) = (open(role), Vec::new());
    assert_eq!(
        receive_all(&mut connection, &wire, &mut out),
        expected,
        "{name}, whole, {role:?}"
    );
    assert_eq!(out, replies, "{name}, whole, {role:?}");
    let stage = connection.stage();

    let (mut connection, mut out, mut seen) = (open(role), Vec::new(), Vec::new());
    for byte in &wire {
        seen.extend(receive_all(&mut connection, &[*byte], &mut out));
    }
    assert_eq!(seen, expected, "{name}, byte by byte, {role:?}");
    assert_eq!(out, replies, "{name}, byte by byte, {role:?}");
    assert_eq!(connection.stage(), stage, "{name}, {role:?}");

    let (mut connection, mut out) = (open(role), Vec::new());
    let seen = receive_all_in_place(&mut connection, &wire, &mut out);
    assert_eq!(seen, expected, "{name}, in place, {role:?}");
    assert_eq!(out, replies, "{name}, in place, {role:?}");
    assert_eq!(connection.stage(), stage, "{name}, {role:?}");

    let (mut connection, mut out) = (open(role), Vec::new());
    let mut trailing = wire.clone();
    trailing.extend_from_slice(&frame(role, 0x89, b"behind"));
    let mut seen = receive_all(&mut connection, &trailing, &mut out);
    if stage == Stage::Open {
        assert_eq!(
            seen.pop(),
            Some(Seen::Ping(b"behind".to_vec())),
            "{name}, with bytes behind, {role:?}"
        );
        let pong = ours(role, 0x8A, b"behind");
        assert_eq!(
            out.split_off(out.len() - pong.len()),
            pong,
            "{name}, {role:?}"
        );
    }
    assert_eq!(seen, expected, "{name}, with bytes behind, {role:?}");
    assert_eq!(out, replies, "{name}, with bytes behind, {role:?}");
}

/// Runs one vector in four ways, in both roles.
fn check(name: &str, frames: &[(u8, &[u8])], expected: &[Seen], replies: &[(u8, &[u8])]) {
    check_role(Role::Server, name, frames, expected, replies);
    check_role(Role::Client, name, frames, expected, replies);
}

/// Checks that a vector ends with `error`, which is answered with a Close of `code` whose reason is the error's text.
fn check_error(
    name: &str,
    frames: &[(u8, &[u8])],
    before: &[Seen],
    error: ProtocolError,
    code: u16,
) {
    let mut expected = before.to_vec();
    expected.push(Seen::Error(error.clone()));
    check(
        name,
        frames,
        &expected,
        &[(0x88, &close::payload(code, &error.to_string()))],
    );
}

fn text(text: &str) -> Seen {
    Seen::Text(text.to_owned())
}

fn binary(bytes: &[u8]) -> Seen {
    Seen::Binary(bytes.to_vec())
}

fn ping(payload: &[u8]) -> Seen {
    Seen::Ping(payload.to_vec())
}

fn closed(code: u16, reason: &str) -> Seen {
    Seen::Close(code, reason.to_owned())
}

#[test]
fn section_5_6_messages_arrive_whole_whatever_their_length() {
    check("empty text", &[(0x81, b"")], &[text("")], &[]);
    check("empty binary", &[(0x82, b"")], &[binary(b"")], &[]);
    check("text", &[(0x81, "Hellö".as_bytes())], &[text("Hellö")], &[]);
    for len in [1, 7, 8, 9, 125, 126, 127, 999, 1000] {
        let payload: Vec<u8> = (0..len).map(|at| at as u8).collect();
        check("binary", &[(0x82, &payload)], &[binary(&payload)], &[]);
    }
    check(
        "several",
        &[(0x81, b"a"), (0x82, b"b"), (0x81, b"c")],
        &[text("a"), binary(b"b"), text("c")],
        &[],
    );
}

#[test]
fn section_5_4_fragments_become_one_message() {
    check(
        "two",
        &[(0x01, b"Hel"), (0x80, b"lo")],
        &[text("Hello")],
        &[],
    );
    check(
        "empty ones",
        &[(0x01, b""), (0x00, b""), (0x80, b"")],
        &[text("")],
        &[],
    );
    check(
        "four",
        &[(0x02, b"a"), (0x00, b"b"), (0x00, b""), (0x80, b"d")],
        &[binary(b"abd")],
        &[],
    );
    check(
        "two messages",
        &[(0x01, b"a"), (0x80, b"b"), (0x81, b"c")],
        &[text("ab"), text("c")],
        &[],
    );
}

#[test]
fn section_5_4_control_frames_between_fragments_are_answered_at_once() {
    check(
        "ping and pong between",
        &[
            (0x01, b"a"),
            (0x89, b"p"),
            (0x00, b"b"),
            (0x8A, b"q"),
            (0x80, b"c"),
        ],
        &[ping(b"p"), Seen::Pong(b"q".to_vec()), text("abc")],
        &[(0x8A, b"p")],
    );
    check(
        "Close between",
        &[(0x01, b"a"), (0x88, b"\x03\xE8")],
        &[closed(1000, "")],
        &[(0x88, b"\x03\xE8")],
    );
}

#[test]
fn section_5_4_fragments_out_of_order_fail() {
    use ProtocolError::*;
    check_error(
        "nothing to continue",
        &[(0x80, b"x")],
        &[],
        ContinuationWithoutMessage,
        1002,
    );
    check_error(
        "nothing to continue, not final",
        &[(0x00, b"x")],
        &[],
        ContinuationWithoutMessage,
        1002,
    );
    check_error(
        "text inside",
        &[(0x01, b"a"), (0x81, b"b")],
        &[],
        MessageInsideMessage,
        1002,
    );
    check_error(
        "binary inside",
        &[(0x02, b"a"), (0x02, b"b")],
        &[],
        MessageInsideMessage,
        1002,
    );
    let frames: &[(u8, &[u8])] = &[(0x01, b"a"), (0x80, b"b"), (0x80, b"c")];
    check_error(
        "continued after its end",
        frames,
        &[text("ab")],
        ContinuationWithoutMessage,
        1002,
    );
}

#[test]
fn section_5_2_reserved_bits_and_opcodes_fail() {
    for first in [0xC1, 0xA1, 0x91, 0xF2, 0xC9, 0x40] {
        check_error(
            "reserved bit",
            &[(first, b"x")],
            &[],
            ProtocolError::ReservedBits,
            1002,
        );
    }
    for opcode in [3, 4, 5, 6, 7, 11, 12, 13, 14, 15] {
        check_error(
            "reserved",
            &[(0x80 | opcode, b"")],
            &[],
            ProtocolError::ReservedOpcode(opcode),
            1002,
        );
    }
    check_error(
        "after a message",
        &[(0x81, b"a"), (0x83, b"")],
        &[text("a")],
        ProtocolError::ReservedOpcode(3),
        1002,
    );
}

#[test]
fn section_5_1_masking_is_checked_by_role() {
    for (role, error) in [
        (Role::Server, ProtocolError::FrameNotMasked),
        (Role::Client, ProtocolError::FrameMasked),
    ] {
        let other = if role == Role::Server {
            Role::Client
        } else {
            Role::Server
        };
        let (mut connection, mut out) = (open(role), Vec::new());
        let seen = receive_all(&mut connection, &frame(other, 0x81, b"hi"), &mut out);
        assert_eq!(seen, [Seen::Error(error.clone())]);
        assert_eq!(
            out,
            ours(role, 0x88, &close::payload(1002, &error.to_string()))
        );
        assert_eq!(connection.stage(), Stage::Ended);
    }
}

#[test]
fn section_5_5_long_and_fragmented_control_frames_fail() {
    let payload = [b'x'; 125];
    check(
        "longest ping",
        &[(0x89, &payload)],
        &[ping(&payload)],
        &[(0x8A, &payload)],
    );
    check_error(
        "fragmented ping",
        &[(0x09, b"")],
        &[],
        ProtocolError::ControlFragmented,
        1002,
    );
    check_error(
        "fragmented Close",
        &[(0x08, b"")],
        &[],
        ProtocolError::ControlFragmented,
        1002,
    );
    check_error(
        "long ping",
        &[(0x89, &[0; 126])],
        &[],
        ProtocolError::ControlTooLong,
        1002,
    );
    check_error(
        "long Close",
        &[(0x88, &[0; 200])],
        &[],
        ProtocolError::ControlTooLong,
        1002,
    );
}

#[test]
fn section_5_5_2_pings_are_answered_with_their_payload_and_pongs_are_not() {
    let frames: &[(u8, &[u8])] = &[(0x89, b""), (0x89, b"\0\xFF"), (0x8A, b"unasked")];
    let seen = [ping(b""), ping(b"\0\xFF"), Seen::Pong(b"unasked".to_vec())];
    check("pings", frames, &seen, &[(0x8A, b""), (0x8A, b"\0\xFF")]);
}

#[test]
fn section_8_1_text_that_is_not_utf8_fails() {
    use ProtocolError::TextNotUtf8;
    for bad in [
        &b"\xFF"[..],
        b"ab\xC0\xAF",
        b"\xED\xA0\x80",
        b"\xF4\x90\x80\x80",
        b"cut \xE1\x80",
    ] {
        check_error("in one frame", &[(0x81, bad)], &[], TextNotUtf8, 1007);
        check_error(
            "in the last fragment",
            &[(0x01, b"good"), (0x80, bad)],
            &[],
            TextNotUtf8,
            1007,
        );
    }
    check_error(
        "in the first fragment",
        &[(0x01, b"\xFF")],
        &[],
        TextNotUtf8,
        1007,
    );
    check_error(
        "ends inside a character",
        &[(0x01, b"\xE1"), (0x80, b"\x80")],
        &[],
        TextNotUtf8,
        1007,
    );
    let euro = [(0x01, &b"\xE2"[..]), (0x00, b"\x82"), (0x80, b"\xAC")];
    check("a character over three fragments", &euro, &[text("€")], &[]);
    check(
        "binary may be anything",
        &[(0x82, b"\xFF\xC0")],
        &[binary(b"\xFF\xC0")],
        &[],
    );
}

#[test]
fn section_8_1_the_first_invalid_byte_fails_before_the_frame_ends() {
    let mut wire = frame(Role::Server, 0x01, b"\xCE\xBA\xE1\xBD\xB9");
    wire.extend_from_slice(&frame(Role::Server, 0x00, b"\xF4\x90\x80\x80")[..8]);
    for cut in 1..wire.len() {
        let (mut connection, mut out) = (open(Role::Server), Vec::new());
        assert_eq!(
            receive_all(&mut connection, &wire[..cut], &mut out),
            [],
            "the first {cut} bytes are valid"
        );
        let seen = receive_all(&mut connection, &wire[cut..], &mut out);
        assert_eq!(seen, [Seen::Error(ProtocolError::TextNotUtf8)]);
    }
}

#[test]
fn section_8_1_each_byte_of_a_text_in_pieces_is_checked_once() {
    let payload = "\u{3BB}\u{20AC}\u{1F600}a".repeat(90);
    let wire = frame(Role::Server, 0x81, payload.as_bytes());
    for size in [1, 7, 100] {
        let (mut connection, mut out, mut seen) = (open(Role::Server), Vec::new(), Vec::new());
        let before = CHECKED_BYTES.get();
        for piece in wire.chunks(size) {
            seen.extend(receive_all(&mut connection, piece, &mut out));
        }
        assert_eq!(seen, [text(&payload)]);
        // The test checks all bytes once more when it converts them to a `&str`. Up to three bytes of a character in
        // two pieces are checked twice.
        let checked = CHECKED_BYTES.get() - before - payload.len();
        let cuts = wire.len().div_ceil(size);
        assert!(
            (payload.len()..=payload.len() + 3 * cuts).contains(&checked),
            "{checked} by {size}"
        );
    }
}

#[test]
fn section_5_5_1_a_close_is_answered_once_and_ends_the_connection() {
    check("empty", &[(0x88, b"")], &[closed(1005, "")], &[(0x88, b"")]);
    let bye = close::payload(1001, "bye");
    check(
        "with a reason",
        &[(0x88, &bye)],
        &[closed(1001, "bye")],
        &[(0x88, &bye)],
    );
    check(
        "with frames behind it",
        &[(0x88, &bye), (0x81, b"x"), (0x88, &bye)],
        &[closed(1001, "bye")],
        &[(0x88, &bye)],
    );
    let longest = close::payload(4999, &"x".repeat(123));
    check(
        "the longest",
        &[(0x88, &longest)],
        &[closed(4999, &"x".repeat(123))],
        &[(0x88, &longest)],
    );
}

#[test]
fn section_7_4_invalid_close_bodies_fail() {
    use ProtocolError::*;
    check_error("half a code", &[(0x88, b"\x03")], &[], CloseCodeCut, 1002);
    for code in [0_u16, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65535] {
        check_error(
            "bad code",
            &[(0x88, &code.to_be_bytes())],
            &[],
            CloseCode(code),
            1002,
        );
    }
    check_error(
        "bad reason",
        &[(0x88, b"\x03\xE8\xFF")],
        &[],
        CloseReasonNotUtf8,
        1007,
    );
}

#[test]
fn section_7_1_no_frame_is_sent_after_our_close() {
    for role in [Role::Server, Role::Client] {
        let (mut connection, mut out) = (open(role), Vec::new());
        assert!(connection.close(4000, "enough", &mut out));
        assert_eq!(out, ours(role, 0x88, &close::payload(4000, "enough")));
        out.clear();
        assert_eq!(connection.stage(), Stage::Closing);
        assert!(!connection.close(1000, "again", &mut out));
        assert!(!connection.send(Message::text("late"), &mut out));
        assert!(!connection.ping(b"late", &mut out));
        // A message that the peer sent before it received our Close still arrives. A ping is not answered any more.
        let mut wire = frame(role, 0x81, b"crossed");
        wire.extend_from_slice(&frame(role, 0x89, b"p"));
        wire.extend_from_slice(&frame(role, 0x88, &close::payload(4000, "")));
        wire.extend_from_slice(&frame(role, 0x81, b"after the Close"));
        let seen = receive_all(&mut connection, &wire, &mut out);
        assert_eq!(seen, [text("crossed"), ping(b"p"), closed(4000, "")]);
        assert_eq!(connection.stage(), Stage::Closed);
        assert_eq!(out, []);
    }
}

#[test]
fn section_7_1_a_violation_after_our_close_is_not_answered_with_another_close() {
    let (mut connection, mut out) = (open(Role::Server), Vec::new());
    connection.close(1000, "", &mut out);
    out.clear();
    let seen = receive_all(&mut connection, &frame(Role::Server, 0x83, b""), &mut out);
    assert_eq!(seen, [Seen::Error(ProtocolError::ReservedOpcode(3))]);
    assert_eq!((out, connection.stage()), (Vec::new(), Stage::Ended));
}

#[test]
fn section_7_1_7_nothing_is_processed_or_sent_after_a_failure() {
    let (mut connection, mut out) = (open(Role::Server), Vec::new());
    receive_all(&mut connection, &frame(Role::Server, 0xC1, b"x"), &mut out);
    out.clear();
    assert_eq!(
        receive_all(&mut connection, &frame(Role::Server, 0x81, b"x"), &mut out),
        []
    );
    assert!(!connection.send(Message::text("x"), &mut out));
    assert!(!connection.close(1000, "", &mut out));
    assert_eq!(out, []);
}

#[test]
fn section_10_4_a_message_fails_at_the_header_that_exceeds_the_limit() {
    use ProtocolError::*;
    check_error("one frame", &[(0x82, &[0; 1001])], &[], MessageTooBig, 1009);
    check_error(
        "fragments",
        &[(0x02, &[0; 600]), (0x80, &[0; 401])],
        &[],
        MessageTooBig,
        1009,
    );
    let five: [(u8, &[u8]); 5] = [
        (0x02, b""),
        (0x00, b""),
        (0x00, b""),
        (0x00, b""),
        (0x80, b""),
    ];
    check_error(
        "five fragments, four allowed",
        &five,
        &[],
        TooManyFragments,
        1008,
    );
    // The error is reported at the header, before any payload is received.
    for len in [1001, 1 << 32, (1 << 32) + 5, 1 << 40, (1 << 63) - 1] {
        let (mut connection, mut out) = (open(Role::Server), Vec::new());
        let wire = header(0x82, 0x80, len);
        assert_eq!(
            receive_all(&mut connection, &wire, &mut out),
            [Seen::Error(MessageTooBig)]
        );
    }
}

#[test]
fn a_message_in_one_piece_borrows_the_input() {
    let mut connection = open(Role::Server);
    let mut wire = frame(Role::Server, 0x81, b"borrowed");
    let range = wire.as_ptr_range();
    let mut input = &mut wire[..];
    let Ok(Some(Event::Message(message))) =
        connection.receive(&mut input, &LIMITS, &mut Vec::new())
    else {
        panic!("no message was received");
    };
    assert!(range.contains(&message.as_message().as_bytes().as_ptr()));
    assert_eq!(message.capacity(), 0);
}

/// Returns the bytes of memory that an open connection owns for a frame or message that has arrived in part.
fn held(connection: &Connection) -> usize {
    match &connection.state {
        State::Open(receiver) => receiver.bytes_held(),
        _ => panic!("{connection:?}"),
    }
}

#[test]
fn memory_grows_with_received_bytes_and_is_released() {
    for first in [0x81, 0x82, 0x01, 0x02] {
        let (mut connection, mut out) = (open(Role::Server), Vec::new());
        let wire = frame(Role::Server, first, &[7; 1000]);
        receive_all(&mut connection, &wire[..20], &mut out);
        // The header announces 1 000 bytes, of which 12 have arrived.
        let fixed = held(&connection) - 12;
        assert!(fixed < 200, "{fixed}");
        for at in 20..wire.len() - 1 {
            receive_all(&mut connection, &wire[at..at + 1], &mut out);
            let arrived = at + 1 - 8;
            let bound = fixed + (2 * arrived).min(1000);
            assert!(
                held(&connection) <= bound,
                "{} with {arrived} arrived",
                held(&connection)
            );
        }
        receive_all(&mut connection, &wire[wire.len() - 1..], &mut out);
        if first & 0x80 == 0 {
            receive_all(&mut connection, &frame(Role::Server, 0x80, b""), &mut out);
        }
        assert_eq!(held(&connection), 0);
    }
}

#[test]
fn assembly_space_grows_with_received_bytes_and_not_with_announced_ones() {
    let limits = Limits {
        message_bytes_max: 16 << 20,
        ..LIMITS
    };
    // With and without mapped buffers, and with a longer minimum of space.
    for (mut buffers, len_min) in [
        (BufferPool::new(), 1),
        (BufferPool::default(), 1),
        (BufferPool::new(), 16_384),
    ] {
        for arrived in [0, 1, 10, 1000, 20_000, 40_000, 200_000] {
            let (mut connection, mut out) = (open(Role::Server), Vec::new());
            let mut wire = header(0x82, 0x80, 16 << 20);
            wire.extend([0; 4]);
            wire.extend(vec![7; arrived]);
            let event =
                connection.receive_with(&mut &mut wire[..], &limits, &mut buffers, &mut out);
            assert!(matches!(event, Ok(None)));
            let mut arrived = arrived;
            for _ in 0..10 {
                let space = connection.assembly_space_with(len_min, &mut buffers);
                let offered = space.map_or(0, |space| space.len());
                let allowed = arrived.min(256 * 1024);
                assert!(
                    offered <= allowed,
                    "{offered} offered when {arrived} had arrived"
                );
                assert_eq!(offered > 0, allowed >= len_min);
                if offered > 0 {
                    assert!(matches!(
                        connection.received_in_place(offered, &mut out),
                        Ok(None)
                    ));
                    arrived += offered;
                }
                assert!(held(&connection) <= 200 + (2 * arrived).max(128 * 1024));
            }
        }
    }
}

#[test]
fn assembly_space_in_a_used_buffer_extends_to_the_end_of_the_frame() {
    let limits = Limits {
        message_bytes_max: 1 << 20,
        ..LIMITS
    };
    let (mut buffers, mut out) = (BufferPool::new(), Vec::new());
    // The used buffer is initialised already, so space for the whole frame costs no additional memory.
    let mut used = AssemblyBuffer::new(Buffer::with_capacity(300_000), None);
    used.extend_from_slice(&[1; 290_000]);
    buffers.put_message(used);
    let mut wire = frame(Role::Server, 0x82, &[7; 280_000]);
    let (begin, end) = wire.split_at_mut(40_008);
    let mut connection = open(Role::Server);
    let event = connection.receive_with(&mut &mut begin[..], &limits, &mut buffers, &mut out);
    assert!(matches!(event, Ok(None)));
    let space = connection.assembly_space_with(1, &mut buffers).unwrap();
    assert_eq!(space.len(), end.len());
    space.copy_from_slice(end);
    let event = connection.received_in_place(end.len(), &mut out);
    assert_eq!(Seen::from(event.unwrap().unwrap()), binary(&[7; 280_000]));
    assert!(
        connection.assembly_space(1).is_none(),
        "the message is complete"
    );
}

#[test]
#[should_panic(expected = "more bytes than there was space for")]
fn receiving_more_bytes_in_place_than_the_frame_has_panics() {
    let (mut connection, mut out) = (open(Role::Server), Vec::new());
    let wire = frame(Role::Server, 0x82, &[7; 10]);
    receive_all(&mut connection, &wire[..wire.len() - 2], &mut out);
    assert_eq!(connection.assembly_space(1).unwrap().len(), 2);
    let _ = connection.received_in_place(3, &mut out);
}

#[test]
fn a_large_buffer_is_released_when_its_message_is_completed_or_its_connection_abandoned() {
    let limits = Limits {
        message_bytes_max: 1 << 20,
        ..LIMITS
    };
    let (mut buffers, mut out) = (BufferPool::new(), Vec::new());
    let mut wire = frame(Role::Server, 0x82, &[7; 500_000]);
    let (begin, end) = wire.split_at_mut(100_000);
    // More rounds than the maximum number of large buffers in use. If a round did not release its buffers, a later one
    // would get none, and the second assertion on `counts` would fail.
    for _ in 0..20 {
        let mut completed = open(Role::Server);
        let mut receive = |connection: &mut Connection, piece: &[u8], buffers: &mut BufferPool| {
            let mut bytes = piece.to_vec();
            let event = connection.receive_with(&mut &mut bytes[..], &limits, buffers, &mut out);
            match event.unwrap()? {
                Event::Message(message) => message.into_buffer(),
                other => panic!("{other:?}"),
            }
        };
        assert!(receive(&mut completed, begin, &mut buffers).is_none());
        let buffer = receive(&mut completed, end, &mut buffers);
        buffers.put_message(buffer.expect("the message was assembled"));
        // The third count is that of the retained large buffers.
        assert_eq!(buffers.counts().2, 1, "the buffer is retained");
        let mut abandoned = open(Role::Server);
        assert!(receive(&mut abandoned, begin, &mut buffers).is_none());
        assert_eq!(buffers.counts().2, 0, "the buffer is in use");
        abandoned.abandon();
    }
}

#[test]
fn memory_of_a_control_frame_in_two_pieces_is_released() {
    let wire = frame(Role::Server, 0x89, &[7; 125]);
    for cut in 1..wire.len() {
        let (mut connection, mut out) = (open(Role::Server), Vec::new());
        receive_all(&mut connection, &wire[..cut], &mut out);
        assert!(
            held(&connection) < 200 + 2 * cut,
            "{} at {cut}",
            held(&connection)
        );
        receive_all(&mut connection, &wire[cut..], &mut out);
        assert_eq!(held(&connection), 0);
    }
}

#[test]
fn received_control_frames_borrow_the_input_and_the_payload_of_a_sent_ping_is_truncated() {
    let mut connection = open(Role::Server);
    let mut wire = [
        frame(Role::Server, 0x89, b"a"),
        frame(Role::Server, 0x8A, b"b"),
    ]
    .concat();
    let (mut input, mut out) = (&mut wire[..], Vec::new());
    let first = connection.receive(&mut input, &LIMITS, &mut out);
    assert!(matches!(first, Ok(Some(Event::Ping(Cow::Borrowed(b"a"))))));
    let second = connection.receive(&mut input, &LIMITS, &mut out);
    assert!(matches!(second, Ok(Some(Event::Pong(Cow::Borrowed(b"b"))))));
    out.clear();
    assert!(connection.ping(&[7; 200], &mut out));
    assert_eq!(out, ours(Role::Server, 0x89, &[7; 125]));
}

#[test]
fn section_10_4_an_incomplete_character_counts_against_the_limit() {
    let mut first = vec![b'a'; 999];
    first.push(0xC3);
    let frames = [(0x01, &first[..]), (0x80, b"\xA9")];
    check_error(
        "one byte too many",
        &frames,
        &[],
        ProtocolError::MessageTooBig,
        1009,
    );
    let frames = [(0x01, &first[1..]), (0x80, b"\xA9")];
    check(
        "just enough",
        &frames,
        &[text(&format!("{}é", "a".repeat(998)))],
        &[],
    );
}

#[test]
fn a_frame_after_a_fragment_may_arrive_in_two_pieces() {
    for role in [Role::Server, Role::Client] {
        // A fragment, and behind it a continuation, a ping or a Close that arrives in two pieces.
        let fragment = frame(role, 0x01, b"ab");
        let next = frame(role, 0x80, &[b'c'; 300]);
        for cut in 0..next.len() {
            let (mut connection, mut out) = (open(role), Vec::new());
            let first = [&fragment[..], &next[..cut]].concat();
            assert_eq!(receive_all(&mut connection, &first, &mut out), []);
            let seen = receive_all(&mut connection, &next[cut..], &mut out);
            assert_eq!(
                seen,
                [text(&format!("ab{}", "c".repeat(300)))],
                "cut at {cut}, {role:?}"
            );
        }
        let control = [
            (0x89, vec![ping(b"xy")], 1),
            (0x88, vec![closed(1000, "")], 1),
        ];
        for (first_byte, expected, replies) in control {
            let payload = if first_byte == 0x88 {
                &b"\x03\xE8"[..]
            } else {
                b"xy"
            };
            let next = frame(role, first_byte, payload);
            for cut in 1..next.len() {
                let (mut connection, mut out) = (open(role), Vec::new());
                let first = [&fragment[..], &next[..cut]].concat();
                assert_eq!(receive_all(&mut connection, &first, &mut out), []);
                assert_eq!(
                    receive_all(&mut connection, &next[cut..], &mut out),
                    expected
                );
                assert_eq!(usize::from(!out.is_empty()), replies);
            }
        }
    }
}

/// Generates streams of frames. Most are valid messages, so that messages are assembled. Some are a Close, violate the
/// protocol, or end in the middle of a frame.
struct Generator {
    seed: u32,
}

impl Generator {
    fn random(&mut self, below: usize) -> usize {
        self.seed = self
            .seed
            .wrapping_mul(1_664_525)
            .wrapping_add(1_013_904_223);
        (self.seed >> 8) as usize % below
    }

    fn payload(&mut self, is_text: bool) -> Vec<u8> {
        let len = [0, 1, 2, 5, 20, 125, 126, 300][self.random(8)];
        let mut payload = Vec::new();
        while payload.len() < len {
            let character = ["a", "é", "€", "𝄞"][self.random(4)];
            payload.extend_from_slice(character.as_bytes());
        }
        if !is_text {
            payload.push(0xFF);
        }
        payload
    }

    /// Appends the frames of a message: random fragments, with control frames between them.
    fn message(&mut self, role: Role, wire: &mut Vec<u8>) {
        let is_text = self.random(2) == 0;
        let payload = self.payload(is_text);
        let mut rest = &payload[..];
        let mut opcode = if is_text { 1 } else { 2 };
        for _ in 0..self.random(4) {
            let (piece, later) = rest.split_at(self.random(rest.len() + 1));
            wire.extend_from_slice(&frame(role, opcode, piece));
            if self.random(3) == 0 {
                let first = [0x89, 0x8A][self.random(2)];
                wire.extend_from_slice(&frame(role, first, b"between"));
            }
            (rest, opcode) = (later, 0);
        }
        wire.extend_from_slice(&frame(role, 0x80 | opcode, rest));
    }

    /// Returns a stream of one to six messages, Closes and violations, sometimes incomplete.
    fn stream(&mut self, role: Role) -> Vec<u8> {
        let mut wire = Vec::new();
        for _ in 0..1 + self.random(6) {
            match self.random(24) {
                0 => wire.extend_from_slice(&frame(
                    role,
                    0x88,
                    [&b""[..], b"\x03\xE8bye", b"\0\0"][self.random(3)],
                )),
                1 => wire.extend_from_slice(&frame(
                    role,
                    [0x83, 0xC1, 0x80, 0x09][self.random(4)],
                    b"x",
                )),
                2 => wire.extend_from_slice(&frame(
                    role,
                    0x81,
                    [&b"\xFF"[..], b"ab\xE2\x82"][self.random(2)],
                )),
                3 => wire.extend_from_slice(&frame(role, 0x82, &[0; 1001])),
                _ => self.message(role, &mut wire),
            }
        }
        if self.random(4) == 0 {
            wire.truncate(self.random(wire.len() + 1));
        }
        wire
    }
}

#[test]
fn random_pieces_never_change_events_or_replies() {
    let mut generator = Generator { seed: 0x1234_5678 };
    let (mut messages, mut errors) = (0, 0);
    for round in 0..4_000 {
        let role = [Role::Server, Role::Client][round % 2];
        let wire = generator.stream(role);
        let (mut connection, mut whole_out) = (open(role), Vec::new());
        let whole = receive_all(&mut connection, &wire, &mut whole_out);
        let (mut connection, mut out, mut seen) = (open(role), Vec::new(), Vec::new());
        let mut rest = &wire[..];
        while !rest.is_empty() {
            let (piece, later) = rest.split_at(1 + generator.random(rest.len().min(40)));
            let receive = [receive_all, receive_all_in_place][generator.random(2)];
            seen.extend(receive(&mut connection, piece, &mut out));
            rest = later;
        }
        for event in &whole {
            match event {
                Seen::Text(_) | Seen::Binary(_) => messages += 1,
                Seen::Error(_) => errors += 1,
                Seen::Ping(_) | Seen::Pong(_) | Seen::Close(..) => {}
            }
        }
        assert_eq!(
            (seen, out),
            (whole, whole_out),
            "round {round} of seed 0x12345678"
        );
    }
    assert!(
        messages > 5_000 && errors > 500,
        "too few messages ({messages}) or errors ({errors}) were generated"
    );
}

#[test]
fn frames_behind_a_request_are_answered_after_the_101() {
    let request =
        b"GET /chat HTTP/1.1\r\nHost: example.org\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
    let mut wire = request.to_vec();
    wire.extend_from_slice(&frame(Role::Server, 0x89, b"early"));
    for size in [1, 7, wire.len()] {
        let (mut connection, mut out) = (Connection::server(), Vec::new());
        let mut seen = Vec::new();
        for piece in wire.clone().chunks_mut(size) {
            let mut input = piece;
            while let Some(event) = connection.receive(&mut input, &LIMITS, &mut out).unwrap() {
                match event {
                    Event::Request(request) => {
                        assert_eq!(request.path(), "/chat");
                        assert_eq!(connection.stage(), Stage::Opening);
                        connection
                            .accept(&request, &Upgrade::new(&request), &mut out)
                            .unwrap();
                    }
                    Event::Ping(payload) => seen.push(payload.into_owned()),
                    other => panic!("{other:?}"),
                }
            }
        }
        assert_eq!(seen, [b"early"]);
        let response = String::from_utf8_lossy(&out);
        assert!(
            response.starts_with("HTTP/1.1 101 Switching Protocols\r\n"),
            "{response}"
        );
        assert!(
            out.ends_with(&[b"\r\n\r\n", &ours(Role::Server, 0x8A, b"early")[..]].concat()),
            "{response}"
        );
    }
}

#[test]
fn an_invalid_request_is_answered_with_an_http_error_and_ends_the_connection() {
    let (mut connection, mut out) = (Connection::server(), Vec::new());
    let mut wire = b"POST / HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\n".to_vec();
    let error = connection
        .receive(&mut &mut wire[..], &LIMITS, &mut out)
        .unwrap_err();
    assert_eq!(error.close_code(), None);
    assert!(
        out.starts_with(b"HTTP/1.1 405 "),
        "{}",
        String::from_utf8_lossy(&out)
    );
    assert_eq!(connection.stage(), Stage::Ended);
}

#[test]
fn a_refused_head_request_gets_no_body() {
    for size in [1, 100] {
        let (mut connection, mut out) = (Connection::server(), Vec::new());
        let mut wire = b"HEAD / HTTP/2.0\r\nHost: a\r\n\r\n".to_vec();
        for piece in wire.chunks_mut(size) {
            let mut input = piece;
            let _ = connection.receive(&mut input, &LIMITS, &mut out);
        }
        assert!(out.starts_with(b"HTTP/1.1 505 "));
        assert!(
            out.ends_with(b"\r\n\r\n"),
            "{}",
            String::from_utf8_lossy(&out)
        );
    }
}

#[test]
fn an_abandoned_connection_ends_without_a_reply() {
    let mut connections = [Connection::server(), Connection::server_open()];
    for connection in &mut connections {
        let mut out = Vec::new();
        let mut begun = b"GET / HTTP/1.1\r\n".to_vec();
        let mut input = match connection.stage() {
            Stage::Opening => &mut begun[..],
            _ => &mut [0x81, 0xFE][..],
        };
        assert!(matches!(
            connection.receive(&mut input, &LIMITS, &mut out),
            Ok(None)
        ));
        connection.abandon();
        assert_eq!(connection.stage(), Stage::Ended);
        assert!(!connection.send(Message::text("late"), &mut out));
        let mut input = &mut [0x81, 0x80, 0, 0, 0, 0][..];
        assert!(matches!(
            connection.receive(&mut input, &LIMITS, &mut out),
            Ok(None)
        ));
        assert_eq!(out, []);
    }
}
