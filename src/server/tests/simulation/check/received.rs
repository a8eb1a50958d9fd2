//! Compares the bytes that one peer received with the model of its session.

use super::super::handler::RandomHandler;
use super::super::model::{AcceptedMessage, Model, Recipient, SessionModel, TOPICS};
use super::super::peer::{Peer, ping_number};
use crate::config::LagPolicy;
use crate::id::Id;
use std::collections::BTreeMap;

/// The frames that a peer received after the head of the 101 response.
#[derive(Debug, Default)]
struct Received {
    /// The model's entries for the messages, in the order in which they were received.
    messages: Vec<AcceptedMessage>,
    /// The code of the Close; `Some(None)` for a Close without a code.
    close: Option<Option<u16>>,
    /// The numbers of the pings that the pongs answer.
    pongs: Vec<usize>,
}

/// Checks at the end of a session what its peer received: only control frames and messages to this peer, in order, without a
/// gap that was not reported. `is_complete`: the session has sent everything and read the end of the stream, so only
/// messages that were reported as skipped may be missing.
pub(in super::super) fn session(peer: &Peer, is_complete: bool, handler: &mut RandomHandler) {
    let RandomHandler {
        model, counters, ..
    } = handler;
    let Some(session) = model.sessions.get(&peer.id) else {
        check_http_response(&peer.received);
        counters.refusals += 1;
        return;
    };
    assert!(session.is_closed, "on_open without on_close");
    let received = match split_head(&peer.received) {
        Some((head, frames)) => {
            assert!(head.starts_with(b"HTTP/1.1 101 "));
            parse_frames(frames, model, peer.id)
        }
        None => Received::default(),
    };
    let is_increasing = |pongs: &Vec<usize>| pongs.is_sorted_by(|one, next| one < next);
    assert!(is_increasing(&received.pongs), "{:?}", received.pongs);
    assert!(received.pongs.iter().all(|number| *number < peer.pings));

    let is_disconnected_for_lag = received.close == Some(Some(1013));
    let is_complete = (is_complete || received.close.is_some()) && !is_disconnected_for_lag;
    for topic in 0..TOPICS.len() {
        check_topic(
            topic,
            &received,
            session,
            model.policies[topic],
            is_complete,
        );
    }
    if is_complete {
        let answered = received.pongs.last().copied();
        assert_eq!(answered, session.last_ping, "the newest ping is answered");
    }
    if session.is_ended_by_peer {
        let received = (session.messages_in, session.last_ping);
        let sent = (peer.sent.messages, peer.sent.ping);
        assert_eq!(received, sent, "all that the peer sent was received");
    }
    counters.messages_out += received.messages.len() as u64;
    counters.pongs += received.pongs.len() as u64;
    counters.disconnected_for_lag += u64::from(is_disconnected_for_lag);
    counters.complete += u64::from(is_complete);
    counters.ended_by_peer += u64::from(session.is_ended_by_peer);
}

/// Checks the messages of one topic and the direct messages, which must be in order among each other.
fn check_topic(
    topic: usize,
    received: &Received,
    session: &SessionModel,
    policy: LagPolicy,
    is_complete: bool,
) {
    let is_of_topic = |message: &&AcceptedMessage| message.topic().is_none_or(|of| of == topic);
    let mut accepted = session.accepted.iter().filter(is_of_topic);
    let mut missing = 0;
    for message in received.messages.iter().filter(is_of_topic) {
        // Accepted messages before this one are missing.
        loop {
            let next = accepted
                .next()
                .expect("a message was received twice or out of order");
            if next == message {
                break;
            }
            assert!(next.topic().is_some(), "a direct message is missing");
            missing += 1;
        }
    }
    let skipped = session.skipped[topic];
    assert!(
        missing <= skipped,
        "{missing} messages are missing, {skipped} were reported as skipped"
    );
    if policy == LagPolicy::Disconnect {
        assert_eq!(skipped, 0);
    }
    if is_complete {
        let rest: Vec<&AcceptedMessage> = accepted.collect();
        assert!(rest.iter().all(|next| next.topic().is_some()), "{rest:?}");
        let missing = missing + rest.len() as u64;
        assert_eq!(missing, skipped, "missing, and reported as skipped");
    }
}

/// Parses all whole frames. A reset or a deadline can have cut the last frame, which is ignored.
fn parse_frames(mut bytes: &[u8], model: &Model, id: Id) -> Received {
    let mut received = Received::default();
    // By sequence number. A message can be accepted again, as a replay.
    let accepted = model.sessions[&id].accepted.iter();
    let accepted = accepted
        .map(|message| (message.sequence, message))
        .collect();
    while let Some((first, payload, rest)) = split_frame(bytes) {
        assert!(received.close.is_none(), "a frame after the Close");
        bytes = rest;
        match first {
            0x81 | 0x82 => received
                .messages
                .push(accepted_message(first, payload, &accepted, id)),
            0x88 => received.close = Some(close_code(payload)),
            0x89 => assert!(payload.is_empty() || payload == b"ours"),
            0x8A => received.pongs.push(ping_number(payload)),
            other => panic!("a frame that begins with {other:#x}"),
        }
    }
    assert!(
        received.close.is_none() || bytes.is_empty(),
        "bytes after the Close"
    );
    received
}

/// Returns the accepted message whose sequence number is in the payload. Panics unless the message was accepted for this
/// peer, and payload and opcode are unchanged.
fn accepted_message(
    first: u8,
    payload: &[u8],
    accepted: &BTreeMap<u64, &AcceptedMessage>,
    id: Id,
) -> AcceptedMessage {
    let sequence = payload
        .split(|byte| *byte == b':')
        .nth(1)
        .expect("a sequence number");
    let sequence: u64 = std::str::from_utf8(sequence).unwrap().parse().unwrap();
    let message = accepted.get(&sequence);
    let message = **message.expect("a message of another peer");
    assert!(!matches!(message.to, Recipient::Session(to) if to != id));
    assert!(
        payload == message.payload(),
        "message {sequence} has a changed payload"
    );
    assert_eq!(first == 0x81, message.is_text());
    message
}

/// Returns the code of a Close. Panics at a code that no run causes.
fn close_code(payload: &[u8]) -> Option<u16> {
    let code = payload.first_chunk().map(|code| u16::from_be_bytes(*code));
    assert!(
        matches!(code, Some(1000 | 1001 | 1002 | 1013 | 4000)),
        "{code:?}"
    );
    code
}

/// Checks that the bytes are one HTTP response other than 101, whole or cut, without any bytes after it.
fn check_http_response(received: &[u8]) {
    let Some((head, body)) = split_head(received) else {
        assert!(received.len() < 1000);
        return;
    };
    let head = String::from_utf8_lossy(head).to_lowercase();
    let is_status = |status| head.starts_with(&format!("http/1.1 {status} "));
    let statuses = [200, 403, 405, 408, 501, 503, 400];
    assert!(statuses.into_iter().any(is_status), "{head}");
    let len = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "));
    let len: usize = len.expect("a content-length header").parse().unwrap();
    assert!(body.len() <= len, "bytes after the response");
}

/// Returns the first byte and the payload of the first frame, and the bytes after it. `None` if the frame is not whole.
fn split_frame(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (start, len) = match *bytes.get(1)? {
        126 => (
            4,
            usize::from(u16::from_be_bytes(*bytes[2..].first_chunk()?)),
        ),
        127 => (10, u64::from_be_bytes(*bytes[2..].first_chunk()?) as usize),
        len => (2, usize::from(len)),
    };
    let payload = bytes.get(start..start + len)?;
    Some((bytes[0], payload, &bytes[start + len..]))
}

/// Splits a response after the empty line that ends its head. `None` if the head is not whole.
fn split_head(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    Some(bytes.split_at(end))
}
