//! One connection on a scripted stream.

use super::*;
use std::collections::VecDeque;
use wsloop::Message;

/// Returns the scripted results of reads, and accepts the scripted number of bytes per write. Would block when a script
/// is exhausted.
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
fn messages_are_sent_in_one_write_or_byte_by_byte() {
    let (requests, _) = cycles();
    let mut at_once = LoadConnection::new(Script::default());
    at_once.stream.writes.push_back(usize::MAX);
    at_once.queue(7);
    at_once.write(&requests).unwrap();
    assert_eq!(at_once.stream.written, requests.frame().repeat(7));
    assert_eq!(at_once.unsent(), 0);

    let mut slow = LoadConnection::new(Script::default());
    slow.queue(7);
    for byte in 0..7 * requests.period() {
        slow.stream.writes.push_back(1);
        slow.unblock();
        slow.write(&requests).unwrap();
        let left = 7 * requests.period() - byte - 1;
        assert_eq!(slow.unsent(), left.div_ceil(requests.period()) as u64);
    }
    assert_eq!(slow.stream.written, at_once.stream.written);
}

#[test]
fn a_blocked_socket_is_not_written_to_until_it_is_writable() {
    let (requests, _) = cycles();
    let mut connection = LoadConnection::new(Script::default());
    connection.stream.writes.extend([3, usize::MAX]);
    connection.queue(1);
    connection.write(&requests).unwrap();
    connection.write(&requests).unwrap();
    assert_eq!(connection.stream.written, requests.frame()[..3]);
    connection.unblock();
    connection.write(&requests).unwrap();
    assert_eq!(connection.stream.written, requests.frame());
}

#[test]
fn a_pong_is_sent_after_the_partly_written_message() {
    let (requests, expected) = cycles();
    let mut connection = LoadConnection::new(Script::default());
    connection
        .stream
        .writes
        .extend([4, usize::MAX, usize::MAX, usize::MAX]);
    connection.queue(3);
    connection.write(&requests).unwrap();
    connection.stream.reads.push_back(Ok(b"\x89\x00".to_vec()));
    let mut received = Received::default();
    let mut buf = [0; 64];
    assert!(
        connection
            .read(&mut buf, &expected, false, &mut received)
            .unwrap()
    );
    connection.unblock();
    connection.write(&requests).unwrap();
    let pong = b"\x8a\x80\x37\xfa\x21\x3d";
    let frame = requests.frame();
    let order = [frame, pong, &frame.repeat(2)].concat();
    assert_eq!(connection.stream.written, order);
}

#[test]
fn messages_of_which_no_byte_is_written_are_cancelled() {
    let (requests, _) = cycles();
    let mut connection = LoadConnection::new(Script::default());
    connection.queue(5);
    connection.stream.writes.push_back(requests.period() + 1);
    connection.write(&requests).unwrap();
    assert_eq!(
        (
            connection.unsent(),
            connection.cancel_unstarted(),
            connection.unsent()
        ),
        (4, 3, 1)
    );
    assert_eq!(connection.cancel_unstarted(), 0);
}

#[test]
fn reading_stops_at_a_short_read_unless_the_stream_has_ended() {
    let (_, expected) = cycles();
    let frame = expected.frame().to_vec();
    let mut connection = LoadConnection::new(Script::default());
    connection
        .stream
        .reads
        .extend([Ok(frame.clone()), Ok(Vec::new())]);
    let (mut buf, mut received) = ([0; 64], Received::default());
    let result = connection.read(&mut buf, &expected, false, &mut received);
    assert!(matches!(result, Ok(true)) && received.messages == 1);
    connection.stream.reads.push_front(Ok(frame));
    let result = connection.read(&mut buf, &expected, true, &mut received);
    assert!(matches!(result, Err(Lost::Ended)) && received.messages == 2);
}

#[test]
fn the_number_of_reads_per_turn_is_limited() {
    let (_, expected) = cycles();
    let frame = expected.frame().to_vec();
    let mut connection = LoadConnection::new(Script::default());
    let reads = (0..READS_PER_TURN_MAX + 1).map(|_| Ok(frame.clone()));
    connection.stream.reads.extend(reads);
    // Each read fills the buffer.
    let (mut buf, mut received) = (vec![0; frame.len()], Received::default());
    let mut read = |received: &mut Received| connection.read(&mut buf, &expected, false, received);
    assert!(matches!(read(&mut received), Ok(false)));
    assert_eq!(received.messages, READS_PER_TURN_MAX as u64);
    assert!(matches!(read(&mut received), Ok(true)));
    assert_eq!(received.messages, READS_PER_TURN_MAX as u64 + 1);
}

#[test]
fn each_kind_of_lost_connection_is_distinguished() {
    let (requests, expected) = cycles();
    let reset = || io::Error::from(ErrorKind::ConnectionReset);
    let read = |piece: io::Result<Vec<u8>>| {
        let mut connection = LoadConnection::new(Script::default());
        connection
            .stream
            .reads
            .extend([Err(ErrorKind::Interrupted.into()), piece]);
        let mut received = Received::default();
        connection.read(&mut [0; 64], &expected, false, &mut received)
    };
    assert!(matches!(read(Err(reset())), Err(Lost::Read(_))));
    assert!(matches!(read(Ok(Vec::new())), Err(Lost::Ended)));
    assert!(matches!(read(Ok(b"\x88\x00".to_vec())), Err(Lost::Closed)));
    assert!(matches!(
        read(Ok(b"\xff\x00".to_vec())),
        Err(Lost::Protocol(_))
    ));
    let mut connection = LoadConnection::new(Script::default());
    connection.stream.writes.push_back(0);
    connection.queue(1);
    assert!(matches!(connection.write(&requests), Err(Lost::Write(_))));
}

/// A server that sent pings and read no pong once took 700 MB of the load tool's memory.
#[test]
fn a_server_that_reads_no_pongs_loses_the_connection() {
    let (_, answers) = cycles();
    let mut connection = LoadConnection::new(Script::default());
    let pings = [&b"\x89\x7D"[..], &[7; 125]].concat().repeat(500);
    let lost = (0..100).find_map(|_| connection.receive(&mut pings.clone(), &answers).err());
    assert!(matches!(lost, Some(Lost::UnreadPongs)));
    assert!(connection.control.len() < CONTROL_BYTES_MAX + 2 * pings.len());
}

/// Accepts everything, and blocks until it has sent it.
#[derive(Default)]
struct Buffered {
    accepted: usize,
    sent: usize,
    is_ready: bool,
}

impl Read for Buffered {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(ErrorKind::WouldBlock.into())
    }
}

impl Write for Buffered {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.flush()?;
        self.accepted += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.sent < self.accepted && !self.is_ready {
            return Err(ErrorKind::WouldBlock.into());
        }
        self.sent = self.accepted;
        Ok(())
    }
}

#[test]
fn bytes_inside_the_stream_are_sent_when_it_is_writable_again() {
    let (requests, _) = cycles();
    let mut connection = LoadConnection::new(Buffered::default());
    connection.queue(1);
    connection.write(&requests).unwrap();
    assert_eq!((connection.unsent(), connection.stream.sent), (0, 0));
    connection.stream.is_ready = true;
    connection.unblock();
    connection.write(&requests).unwrap();
    assert_eq!(connection.stream.sent, requests.period());
}
