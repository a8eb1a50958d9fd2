//! Encodes opening handshakes and a client's masked frames, without the library under test.

/// Returns an opening handshake.
pub(crate) fn request(path: &str) -> Vec<u8> {
    request_with(path, "")
}

/// Returns an opening handshake with additional header lines, each of which must end with CR LF.
pub(crate) fn request_with(path: &str, headers: &str) -> Vec<u8> {
    format!(
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n{headers}\r\n"
    )
    .into_bytes()
}

/// Returns the first `len` bytes of an opening handshake, without the blank line that ends the head.
pub(crate) fn incomplete_request(len: usize) -> Vec<u8> {
    let mut head = request("/echo");
    head.truncate(head.len() - 2);
    head.extend_from_slice(b"Cookie: ");
    head.resize(len.max(head.len()), b'c');
    head.truncate(len);
    head
}

/// Returns a path of `len` bytes (at least 9) that is different for each `number` below 10 million.
pub(crate) fn path(number: usize, len: usize) -> String {
    let mut path = format!("/{number:07}/");
    path.extend(std::iter::repeat_n('p', len.saturating_sub(path.len())));
    path
}

pub(crate) const FIN: u8 = 0x80;
pub(crate) const CONTINUATION: u8 = 0x00;
pub(crate) const TEXT: u8 = 0x01;
pub(crate) const BINARY: u8 = 0x02;
pub(crate) const CLOSE: u8 = 0x08;
pub(crate) const PING: u8 = 0x09;
pub(crate) const PONG: u8 = 0x0A;

/// Returns a text message of `len` bytes in one frame.
pub(crate) fn text(len: usize) -> Vec<u8> {
    frame(FIN | TEXT, &vec![b'x'; len])
}

/// Returns a masked frame. `first` is its first byte: FIN, RSV bits and opcode.
pub(crate) fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = header(first, payload.len());
    frame.extend(
        payload
            .iter()
            .zip(KEY.iter().cycle())
            .map(|(byte, key)| byte ^ key),
    );
    frame
}

/// Returns a masked Close.
pub(crate) fn close(code: u16, reason: &str) -> Vec<u8> {
    frame(
        FIN | CLOSE,
        &[&code.to_be_bytes()[..], reason.as_bytes()].concat(),
    )
}

/// Returns the header, including the masking key, of a frame with `len` payload bytes.
pub(crate) fn header(first: u8, len: usize) -> Vec<u8> {
    let mut header = vec![first];
    match len {
        0..126 => header.push(0x80 | len as u8),
        126..0x1_0000 => {
            header.push(0x80 | 126);
            header.extend((len as u16).to_be_bytes());
        }
        0x1_0000.. => {
            header.push(0x80 | 127);
            header.extend((len as u64).to_be_bytes());
        }
    }
    header.extend(KEY);
    header
}

/// Returns the length of a frame from the server, which is unmasked, with `len` payload bytes.
pub(crate) fn server_frame_len(len: usize) -> usize {
    len + match len {
        0..126 => 2,
        126..0x1_0000 => 4,
        0x1_0000.. => 10,
    }
}

const KEY: [u8; 4] = [0x12, 0x34, 0x56, 0x78];
