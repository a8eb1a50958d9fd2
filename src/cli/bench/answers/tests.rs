//! Streams of a server's frames, received in pieces of every size: the size never changes the counts.

use super::*;
use wsloop::Message;

fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let len = u8::try_from(payload.len()).unwrap();
    assert!(len < 126);
    [&[first, len], payload].concat()
}

/// Receives a stream in pieces of at most `len` bytes. Returns the sums of the counts, and the replies.
fn receive(
    stream: &[u8],
    len: usize,
    expected: &Cycle,
) -> Result<(Counted, Vec<u8>), ProtocolError> {
    let (mut answers, mut out) = (Answers::default(), Vec::new());
    let mut sum = Counted::default();
    for piece in stream.chunks(len) {
        let counted = answers.receive(&mut piece.to_vec(), expected, &mut out)?;
        if sum.leading == sum.messages {
            sum.leading += counted.leading;
        }
        sum.messages += counted.messages;
        sum.mismatched += counted.mismatched;
        sum.is_closed |= counted.is_closed;
    }
    Ok((sum, out))
}

fn counted(messages: u64, mismatched: u64, is_closed: bool) -> Counted {
    Counted {
        messages,
        mismatched,
        leading: 0,
        is_closed,
    }
}

/// As [`counted`], with the number of mismatches before the first expected message.
fn leading(leading: u64, counted: Counted) -> Counted {
    Counted { leading, ..counted }
}

#[test]
fn expected_and_other_messages_are_counted_in_pieces_of_every_size() {
    let expected = Cycle::of_answers(Message::text("hello"));
    let hello = frame(0x81, b"hello");
    let table = [
        (vec![], counted(0, 0, false)),
        (hello.repeat(9), counted(9, 0, false)),
        // A ping between messages, and one between fragments.
        (
            [&hello[..], &frame(0x89, b"p"), &hello.repeat(2)].concat(),
            counted(3, 0, false),
        ),
        (
            [
                &hello[..],
                &frame(0x01, b"hel"),
                &frame(0x89, b"p"),
                &frame(0x80, b"lo"),
                &hello,
            ]
            .concat(),
            counted(3, 0, false),
        ),
        // Mismatches: in the last byte, in the type, shorter, longer, empty.
        (
            [&frame(0x81, b"hellO")[..], &hello].concat(),
            leading(1, counted(2, 1, false)),
        ),
        (
            [&hello[..], &frame(0x82, b"hello"), &hello].concat(),
            counted(3, 1, false),
        ),
        (
            [&frame(0x81, b"ello")[..], &frame(0x81, b"hello!"), &hello].concat(),
            leading(2, counted(3, 2, false)),
        ),
        (frame(0x81, b"").repeat(4), leading(4, counted(4, 4, false))),
        (
            [&frame(0x82, b"hello")[..], &hello, &frame(0x81, b"")].concat(),
            leading(1, counted(3, 2, false)),
        ),
        (
            [&hello[..], &frame(0x88, b"\x03\xe8bye")].concat(),
            counted(1, 0, true),
        ),
    ];
    for (stream, sum) in table {
        for len in 1..=stream.len().max(1) {
            let (got, _) = receive(&stream, len, &expected).unwrap();
            assert_eq!(got, sum, "{stream:x?} in pieces of {len}");
        }
    }
}

#[test]
fn a_ping_is_answered_with_its_payload() {
    let expected = Cycle::of_answers(Message::text("hello"));
    let (_, out) = receive(&frame(0x89, b"ab"), 1, &expected).unwrap();
    let [k0, k1, ..] = MASKING_KEY;
    let pong = [&b"\x8a\x82"[..], &MASKING_KEY, &[b'a' ^ k0, b'b' ^ k1]].concat();
    assert_eq!(out, pong);
}

#[test]
fn a_masked_frame_of_the_server_is_an_error() {
    let expected = Cycle::of_answers(Message::text("hello"));
    let masked = b"\x81\x85\0\0\0\0hello";
    for len in [1, masked.len()] {
        assert!(receive(masked, len, &expected).is_err());
    }
}

#[test]
fn a_byte_that_differs_in_a_large_frame_is_found() {
    let mut payload = vec![b'x'; 200_000];
    let expected = Cycle::of_answers(Message::binary(&payload));
    let right = expected.frame().to_vec();
    payload[150_000] = b'y';
    let wrong = Cycle::of_answers(Message::binary(&payload))
        .frame()
        .to_vec();
    let stream = [&right[..], &wrong, &right].concat();
    for len in [1000, 65_536, stream.len()] {
        let (got, _) = receive(&stream, len, &expected).unwrap();
        assert_eq!(got, counted(3, 1, false), "in pieces of {len}");
    }
}

#[test]
fn empty_messages_are_counted() {
    let expected = Cycle::of_answers(Message::binary(&[]));
    let stream = frame(0x82, b"").repeat(5);
    assert_eq!(
        receive(&stream, 3, &expected).unwrap().0,
        counted(5, 0, false)
    );
}
