//! One connection of the load.

use mio::net::TcpStream as MioStream;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd;

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// The path of the URL is the topic; a message is a text message.
    Plain,
    /// Socket.IO over Engine.IO 4: a message is the text `42["m","..."]`.
    SocketIo,
}

pub struct Link {
    pub stream: MioStream,
    pub topic: usize,
    pub is_sender: bool,
    protocol: Protocol,
    input: Vec<u8>,
    /// The unwritten end of a burst.
    unwritten: Vec<u8>,
}

impl Protocol {
    /// Returns the masked frame of a message.
    pub fn message(self, text: &[u8]) -> Vec<u8> {
        match self {
            Self::Plain => frame(0x81, text),
            Self::SocketIo => frame(0x81, &[b"42[\"m\",\"", text, b"\"]"].concat()),
        }
    }

    fn target(self, topic: usize) -> String {
        match self {
            Self::Plain => format!("/topic/{topic}"),
            Self::SocketIo => format!("/socket.io/?EIO=4&transport=websocket&topic={topic}"),
        }
    }

    /// Returns the text of a message from the server, or `None` for what belongs to Engine.IO.
    fn text(self, payload: &[u8]) -> Option<&[u8]> {
        match self {
            Self::Plain => Some(payload),
            Self::SocketIo => payload.strip_prefix(b"42[\"m\",\"")?.strip_suffix(b"\"]"),
        }
    }
}

impl Link {
    pub fn connect(address: SocketAddr, protocol: Protocol, topic: usize) -> Self {
        let mut stream = TcpStream::connect(address).expect("a connection");
        stream.set_nodelay(true).expect("TCP_NODELAY");
        let target = protocol.target(topic);
        write!(
            stream,
            "GET {target} HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        .expect("the request is written");
        let mut input = Vec::new();
        let head = loop {
            more(&mut stream, &mut input);
            if let Some(at) = input.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                break at + 4;
            }
        };
        assert!(
            input.starts_with(b"HTTP/1.1 101 "),
            "the server accepts WebSockets"
        );
        input.drain(..head);
        if protocol == Protocol::SocketIo {
            expect(&mut stream, &mut input, b"0{");
            stream
                .write_all(&frame(0x81, b"40"))
                .expect("the greeting is written");
            expect(&mut stream, &mut input, b"40{");
        }
        stream.set_nonblocking(true).expect("O_NONBLOCK");
        Self {
            stream: MioStream::from_std(stream),
            topic,
            is_sender: false,
            protocol,
            input,
            unwritten: Vec::new(),
        }
    }

    pub fn clone_stream(&self) -> TcpStream {
        let descriptor = self.stream.as_fd().try_clone_to_owned();
        TcpStream::from(descriptor.expect("a descriptor"))
    }

    /// Reads all that has arrived. Returns `false` if the server has ended the connection.
    pub fn read(&mut self, mut on_message: impl FnMut(&[u8])) -> bool {
        let mut buf = [0; 64 * 1024];
        loop {
            let count = match self.stream.read(&mut buf) {
                Ok(0) => return false,
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return true,
                Err(_) => return false,
            };
            // Mostly whole frames arrive, which need no copy.
            let mut joined = Vec::new();
            let mut rest = match self.input.is_empty() {
                true => &buf[..count],
                false => {
                    joined.append(&mut self.input);
                    joined.extend_from_slice(&buf[..count]);
                    &joined
                }
            };
            while let Some((first, payload, after)) = split_frame(rest) {
                rest = after;
                match first {
                    0x81 | 0x82 => match self.protocol.text(payload) {
                        Some(text) => on_message(text),
                        None if payload == b"2" => drop(self.stream.write(&frame(0x81, b"3"))),
                        None => {}
                    },
                    0x88 => return false,
                    0x89 => drop(self.stream.write(&frame(0x8a, payload))),
                    _ => {}
                }
            }
            self.input = rest.to_vec();
            // Less than what fits: all was read.
            if count < buf.len() {
                return true;
            }
        }
    }

    /// Writes the rest of the burst before, or begins a burst. Returns `false` if the socket accepts no more.
    pub fn write_some(&mut self, burst: &[u8]) -> bool {
        if self.unwritten.is_empty() {
            self.unwritten.extend_from_slice(burst);
        }
        let Ok(written) = self.stream.write(&self.unwritten) else {
            return false;
        };
        self.unwritten.drain(..written);
        self.unwritten.is_empty()
    }
}

fn more(stream: &mut TcpStream, input: &mut Vec<u8>) {
    let mut buf = [0; 4096];
    let count = stream.read(&mut buf).expect("an answer");
    assert!(count > 0, "the server has ended the connection");
    input.extend_from_slice(&buf[..count]);
}

/// Reads a message that begins with `prefix`.
fn expect(stream: &mut TcpStream, input: &mut Vec<u8>, prefix: &[u8]) {
    let used = loop {
        if let Some((_, payload, after)) = split_frame(input) {
            assert!(payload.starts_with(prefix), "the server greets");
            break input.len() - after.len();
        }
        more(stream, input);
    };
    input.drain(..used);
}

/// Splits a server's frame off the input: its first byte, its payload and the rest.
fn split_frame(input: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (header, len) = match *input {
        [_, 127, ..] => (
            10,
            u64::from_be_bytes(input.get(2..10)?.try_into().ok()?) as usize,
        ),
        [_, 126, ..] => (
            4,
            u16::from_be_bytes(input.get(2..4)?.try_into().ok()?) as usize,
        ),
        [_, len, ..] => (2, usize::from(len)),
        _ => return None,
    };
    let payload = input.get(header..header + len)?;
    Some((input[0], payload, &input[header + len..]))
}

/// Returns a masked frame. The key is the example of RFC 6455 section 5.7; it is not zero, so that servers unmask.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
    let mut frame = vec![first];
    match payload.len() {
        len @ 0..126 => frame.push(0x80 | len as u8),
        len => {
            frame.push(0x80 | 126);
            frame.extend((len as u16).to_be_bytes());
        }
    }
    frame.extend(KEY);
    frame.extend(
        payload
            .iter()
            .zip(KEY.iter().cycle())
            .map(|(byte, key)| byte ^ key),
    );
    frame
}
