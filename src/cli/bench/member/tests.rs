//! One connection over a scripted stream.

use super::*;
use std::collections::VecDeque;
use wsloop::Message;

/// Reads what is given, piece by piece, and takes as many bytes at a write as it is told.
#[derive(Default)]
struct Script {
    reads: VecDeque<io::Result<Vec<u8>>>,
    writes: VecDeque<usize>,
    written: Vec<u8>,
}

impl Read for Script {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let bytes = self
            .reads
            .pop_front()
            .unwrap_or(Err(ErrorKind::WouldBlock.into()))?;
        buf[..bytes.len()].copy_from_slice(&bytes);
        Ok(bytes.len())
    }
}

impl Write for Script {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Some(len) = self.writes.pop_front() else {
            return Err(ErrorKind::WouldBlock.into());
        };
        let len = len.min(bytes.len());
        self.written.extend_from_slice(&bytes[..len]);
        Ok(len)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn cycles() -> (Cycle, Cycle) {
    let message = Message::text("hello");
    (Cycle::of_requests(message), Cycle::of_answers(message))
}

#[test]
fn messages_leave_in_one_write_or_byte_by_byte() {
    let (requests, _) = cycles();
    let mut at_once = Member::new(Script::default());
    at_once.stream.writes.push_back(usize::MAX);
    at_once.owe(7);
    at_once.write(&requests).unwrap();
    assert_eq!(at_once.stream.written, requests.frame().repeat(7));
    assert_eq!(at_once.owed(), 0);

    let mut slow = Member::new(Script::default());
    slow.owe(7);
    for byte in 0..7 * requests.period() {
        slow.stream.writes.push_back(1);
        slow.unblock();
        slow.write(&requests).unwrap();
        let left = 7 * requests.period() - byte - 1;
        assert_eq!(slow.owed(), left.div_ceil(requests.period()) as u64);
    }
    assert_eq!(slow.stream.written, at_once.stream.written);
}

#[test]
fn a_blocked_socket_is_left_alone_until_it_is_writable() {
    let (requests, _) = cycles();
    let mut member = Member::new(Script::default());
    member.stream.writes.extend([3, usize::MAX]);
    member.owe(1);
    member.write(&requests).unwrap();
    member.write(&requests).unwrap();
    assert_eq!(member.stream.written, requests.frame()[..3]);
    member.unblock();
    member.write(&requests).unwrap();
    assert_eq!(member.stream.written, requests.frame());
}

#[test]
fn a_pong_leaves_after_the_message_under_way() {
    let (requests, expected) = cycles();
    let mut member = Member::new(Script::default());
    member
        .stream
        .writes
        .extend([4, usize::MAX, usize::MAX, usize::MAX]);
    member.owe(3);
    member.write(&requests).unwrap();
    member.stream.reads.push_back(Ok(b"\x89\x00".to_vec()));
    let mut received = Received::default();
    let mut buf = [0; 64];
    assert!(
        member
            .read(&mut buf, &expected, false, &mut received)
            .unwrap()
    );
    member.unblock();
    member.write(&requests).unwrap();
    let pong = b"\x8a\x80\x37\xfa\x21\x3d";
    let frame = requests.frame();
    let order = [frame, pong, &frame.repeat(2)].concat();
    assert_eq!(member.stream.written, order);
}

#[test]
fn messages_that_are_not_begun_are_forgotten() {
    let (requests, _) = cycles();
    let mut member = Member::new(Script::default());
    member.owe(5);
    member.stream.writes.push_back(requests.period() + 1);
    member.write(&requests).unwrap();
    assert_eq!((member.owed(), member.forget(), member.owed()), (4, 3, 1));
    assert_eq!(member.forget(), 0);
}

#[test]
fn reads_end_at_a_short_one_unless_the_end_is_behind_it() {
    let (_, expected) = cycles();
    let frame = expected.frame().to_vec();
    let mut member = Member::new(Script::default());
    member
        .stream
        .reads
        .extend([Ok(frame.clone()), Ok(Vec::new())]);
    let (mut buf, mut received) = ([0; 64], Received::default());
    let result = member.read(&mut buf, &expected, false, &mut received);
    assert!(matches!(result, Ok(true)) && received.messages == 1);
    member.stream.reads.push_front(Ok(frame));
    let result = member.read(&mut buf, &expected, true, &mut received);
    assert!(matches!(result, Err(Lost::Ended)) && received.messages == 2);
}

#[test]
fn a_connection_that_is_full_of_answers_lets_others_have_their_turn() {
    let (_, expected) = cycles();
    let frame = expected.frame().to_vec();
    let mut member = Member::new(Script::default());
    let reads = (0..READS_MAX + 1).map(|_| Ok(frame.clone()));
    member.stream.reads.extend(reads);
    // Each read fills it.
    let (mut buf, mut received) = (vec![0; frame.len()], Received::default());
    let mut read = |received: &mut Received| member.read(&mut buf, &expected, false, received);
    assert!(matches!(read(&mut received), Ok(false)));
    assert_eq!(received.messages, READS_MAX as u64);
    assert!(matches!(read(&mut received), Ok(true)));
    assert_eq!(received.messages, READS_MAX as u64 + 1);
}

#[test]
fn every_end_has_its_kind() {
    let (requests, expected) = cycles();
    let reset = || io::Error::from(ErrorKind::ConnectionReset);
    let read = |piece: io::Result<Vec<u8>>| {
        let mut member = Member::new(Script::default());
        member
            .stream
            .reads
            .extend([Err(ErrorKind::Interrupted.into()), piece]);
        let mut received = Received::default();
        member.read(&mut [0; 64], &expected, false, &mut received)
    };
    assert!(matches!(read(Err(reset())), Err(Lost::Read(_))));
    assert!(matches!(read(Ok(Vec::new())), Err(Lost::Ended)));
    assert!(matches!(read(Ok(b"\x88\x00".to_vec())), Err(Lost::Closed)));
    assert!(matches!(
        read(Ok(b"\xff\x00".to_vec())),
        Err(Lost::Protocol(_))
    ));
    let mut member = Member::new(Script::default());
    member.stream.writes.push_back(0);
    member.owe(1);
    assert!(matches!(member.write(&requests), Err(Lost::Write(_))));
}
