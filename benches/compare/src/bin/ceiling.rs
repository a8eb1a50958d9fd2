//! The least that one thread can do: epoll, one `recv` into a large shared buffer, unmask in place, one `send`.
//!
//! It checks nothing: no UTF-8, no limits, no order of fragments, no close handshake. It is a measuring stick and not a
//! server. Frames of one `recv` leave in one `send`; what is cut at the end of the buffer waits, if it is short, or is
//! passed on as it comes, if it is long.

use base64::Engine;
use sha1::{Digest, Sha1};
use std::collections::HashMap;
use std::io::Write;
use std::net::TcpListener;
use std::os::fd::{AsRawFd, IntoRawFd, RawFd};

const BUFFER: usize = 256 * 1024;
/// Room before the buffer's data, for the piece that a cut left behind.
const ROOM: usize = 64 * 1024;
/// Frames that are longer are passed on in pieces.
const WHOLE_MAX: usize = ROOM - 14;

#[derive(Default)]
struct Conn {
    is_open: bool,
    is_member: bool,
    /// The beginning of a short frame, or of the request.
    rest: Vec<u8>,
    /// Of a long frame: payload that is still to come, its key and the key's phase.
    left: u64,
    key: [u8; 4],
    phase: usize,
    /// What the socket has not taken.
    unsent: Vec<u8>,
}

fn main() {
    let port = std::env::args().nth(1).expect("a port");
    let listener = TcpListener::bind(format!("127.0.0.1:{port}")).expect("the port is free");
    unsafe { libc::listen(listener.as_raw_fd(), 4096) };
    listener.set_nonblocking(true).expect("a socket option");
    println!("listening");
    std::io::stdout().flush().expect("stdout is there");
    let epoll = unsafe { libc::epoll_create1(0) };
    register(epoll, listener.as_raw_fd());
    let mut conns: HashMap<RawFd, Conn> = HashMap::new();
    let mut members: Vec<RawFd> = Vec::new();
    let mut buffer = vec![0_u8; ROOM + BUFFER];
    let mut events = vec![libc::epoll_event { events: 0, u64: 0 }; 1024];
    let mut published = Vec::new();
    loop {
        let count = unsafe { libc::epoll_wait(epoll, events.as_mut_ptr(), 1024, -1) };
        for event in &events[..count.max(0) as usize] {
            let fd = event.u64 as RawFd;
            if fd == listener.as_raw_fd() {
                while let Ok((stream, _)) = listener.accept() {
                    stream.set_nonblocking(true).expect("a socket option");
                    stream.set_nodelay(true).expect("a socket option");
                    let fd = stream.into_raw_fd();
                    register(epoll, fd);
                    conns.insert(fd, Conn::default());
                }
                continue;
            }
            let conn = conns.get_mut(&fd).expect("it is registered");
            if event.events & libc::EPOLLOUT as u32 != 0 && !conn.unsent.is_empty() {
                let unsent = std::mem::take(&mut conn.unsent);
                send(fd, conn, &unsent);
            }
            if event.events & libc::EPOLLIN as u32 == 0 {
                continue;
            }
            if !read(fd, conn, &mut buffer, &mut published, &mut members) {
                members.retain(|member| *member != fd);
                conns.remove(&fd);
                unsafe { libc::close(fd) };
            }
        }
        if !published.is_empty() {
            for member in &members {
                let conn = conns.get_mut(member).expect("a member is there");
                send(*member, conn, &published);
            }
            published.clear();
        }
    }
}

fn register(epoll: RawFd, fd: RawFd) {
    let mut event = libc::epoll_event {
        events: (libc::EPOLLIN | libc::EPOLLOUT | libc::EPOLLET) as u32,
        u64: fd as u64,
    };
    unsafe { libc::epoll_ctl(epoll, libc::EPOLL_CTL_ADD, fd, &mut event) };
}

/// Reads until a read comes back short; `false`: the peer is gone.
fn read(
    fd: RawFd,
    conn: &mut Conn,
    buffer: &mut [u8],
    published: &mut Vec<u8>,
    members: &mut Vec<RawFd>,
) -> bool {
    loop {
        let target = buffer[ROOM..].as_mut_ptr();
        let len = unsafe { libc::recv(fd, target.cast(), BUFFER, 0) };
        if len <= 0 {
            return len < 0 && std::io::Error::last_os_error().raw_os_error() == Some(libc::EAGAIN);
        }
        let len = len as usize;
        let start = ROOM - conn.rest.len();
        buffer[start..ROOM].copy_from_slice(&conn.rest);
        conn.rest.clear();
        let input = &mut buffer[start..ROOM + len];
        if conn.is_open {
            frames(fd, conn, input, published);
        } else {
            open(fd, conn, input, members);
        }
        if len < BUFFER {
            return true;
        }
    }
}

/// Turns the frames in `input` into a server's, one next to the other at its start, and sends them.
fn frames(fd: RawFd, conn: &mut Conn, input: &mut [u8], published: &mut Vec<u8>) {
    let (mut at, mut end) = (0, 0);
    if conn.left > 0 {
        let len = (conn.left as usize).min(input.len());
        unmask(&mut input[..len], conn.key, conn.phase);
        conn.left -= len as u64;
        conn.phase = (conn.phase + len) % 4;
        (at, end) = (len, len);
    }
    while let Some((header, payload)) = header(&input[at..]) {
        let key = [0, 1, 2, 3].map(|i| input[at + header - 4 + i]);
        let arrived = (payload as usize).min(input.len() - at - header);
        if arrived < payload as usize && payload as usize <= WHOLE_MAX {
            break;
        }
        // The server's header, which has no key, and the payload right behind what is already there.
        let first = input[at];
        let second = input[at + 1] & 0x7F;
        input[end] = first;
        input[end + 1] = second;
        // The longer forms of the length; it moves to the left, or stays.
        input.copy_within(at + 2..at + header - 4, end + 2);
        end += header - 4;
        let from = at + header;
        if first & 0x0F == 9 {
            input[end - (header - 4)] = 0x8A;
        }
        input.copy_within(from..from + arrived, end);
        unmask(&mut input[end..end + arrived], key, 0);
        end += arrived;
        at = from + arrived;
        if arrived < payload as usize {
            conn.left = payload - arrived as u64;
            conn.key = key;
            conn.phase = arrived % 4;
        }
    }
    if conn.left == 0 {
        conn.rest.extend_from_slice(&input[at..]);
    }
    if conn.is_member {
        published.extend_from_slice(&input[..end]);
    } else if end > 0 {
        send(fd, conn, &input[..end]);
    }
}

/// Bytes of the client's header, and of its payload; `None`: it is cut.
fn header(input: &[u8]) -> Option<(usize, u64)> {
    let len = u64::from(input.get(1)? & 0x7F);
    let (header, payload) = match len {
        126 => (
            8,
            u64::from(u16::from_be_bytes(input.get(2..4)?.try_into().ok()?)),
        ),
        127 => (14, u64::from_be_bytes(input.get(2..10)?.try_into().ok()?)),
        _ => (6, len),
    };
    (input.len() >= header).then_some((header, payload))
}

fn unmask(payload: &mut [u8], mut key: [u8; 4], phase: usize) {
    key.rotate_left(phase);
    let half = u32::from_ne_bytes(key);
    let word = u64::from(half) << 32 | u64::from(half);
    let (words, rest) = payload.as_chunks_mut();
    for bytes in words {
        *bytes = (u64::from_ne_bytes(*bytes) ^ word).to_ne_bytes();
    }
    for (byte, key) in rest.iter_mut().zip(key.iter().cycle()) {
        *byte ^= key;
    }
}

fn send(fd: RawFd, conn: &mut Conn, bytes: &[u8]) {
    if !conn.unsent.is_empty() {
        conn.unsent.extend_from_slice(bytes);
        return;
    }
    let sent = unsafe { libc::send(fd, bytes.as_ptr().cast(), bytes.len(), libc::MSG_NOSIGNAL) };
    conn.unsent
        .extend_from_slice(&bytes[sent.max(0) as usize..]);
}

/// Answers the request, of which all must have come for that.
fn open(fd: RawFd, conn: &mut Conn, input: &[u8], members: &mut Vec<RawFd>) {
    let Some(end) = input.windows(4).position(|bytes| bytes == b"\r\n\r\n") else {
        conn.rest = input.to_vec();
        return;
    };
    let head = String::from_utf8_lossy(&input[..end]);
    let key = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("sec-websocket-key")
            .then(|| value.trim().to_owned())
    });
    let mut sha = Sha1::new();
    sha.update(key.unwrap_or_default());
    sha.update("258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    let accept = base64::engine::general_purpose::STANDARD.encode(sha.finalize());
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Accept: {accept}\r\n\r\n"
    );
    send(fd, conn, answer.as_bytes());
    conn.is_open = true;
    if head.starts_with("GET /broadcast") {
        conn.is_member = true;
        members.push(fd);
    }
}
