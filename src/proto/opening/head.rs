//! The head of a request or a response (RFC 7230 section 3): collects and checks its lines as they arrive, up to the
//! blank line. It guarantees linear time however the input is split, memory for at most [`HeadLimits::head_bytes_max`]
//! bytes, and early errors. A control character, or a byte that the first word cannot contain, is reported when that
//! byte arrives. Any other invalid line is reported when the line is complete. The meaning of the fields is not
//! checked.

use super::fields::{is_token, is_token_byte};
use crate::buffer::Buffer;
use crate::buffer::BufferPool;
use std::fmt;

/// Limits of a head. The defaults are 16 KiB and 100 headers. That is enough for any request of a browser with its
/// cookies, and limits the memory that a client with an incomplete request can occupy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadLimits {
    /// Maximum bytes from the first byte up to and including the blank line. Default 16 KiB. A request that exceeds
    /// this limit is answered with status 431. The heads of interim responses count together with that of the final
    /// response.
    pub head_bytes_max: usize,
    /// Maximum header lines. Default 100. A request that exceeds this limit is answered with status 431. Values above
    /// 124 have the effect of 124, the limit of tungstenite's parser.
    pub headers_max: usize,
}

impl Default for HeadLimits {
    fn default() -> Self {
        Self {
            head_bytes_max: 16 * 1024,
            headers_max: 100,
        }
    }
}

/// A head that is being received. Owns the bytes that have arrived, and no memory before the first byte.
#[derive(Debug, Default)]
pub struct Head {
    buf: Buffer,
    /// Offset in `buf` of the line that is being received.
    line_start: usize,
    state: State,
    /// Counts examined bytes. Each byte is examined once when it arrives, and once more when its line is complete.
    #[cfg(test)]
    pub(super) bytes_examined: usize,
}

/// The part of the head that the next byte belongs to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// The first word of the first line: the method of a request, or the version of a response.
    #[default]
    FirstWord,
    /// As `FirstWord`, after an empty line was skipped.
    FirstWordAfterEmptyLine,
    /// The rest of the first line.
    FirstLine,
    /// The header lines. Contains the number of those that are complete.
    Fields(usize),
    /// The head is complete or invalid.
    Ended { is_head: bool },
}

/// Whether the head is that of a request or a response. Their first lines differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HeadKind {
    Request,
    Response,
}

/// Why the lines of a head are invalid, regardless of their meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HeadError {
    /// RFC 7230 sections 3.1.1 and 3.1.2: the first line begins neither with a token nor with a version. The peer uses
    /// another protocol.
    NotHttp,
    /// As `NotHttp`, and the first byte is that of a ClientHello (RFC 8446 section 5.1): the peer expects TLS on a port
    /// without it.
    Tls,
    /// RFC 7230 section 3.2: the head contains a control character that is neither HTAB nor part of the CRLF at the end
    /// of a line.
    ControlByte(u8),
    /// RFC 7230 section 3: a line ends with CRLF, but there is a CR without LF. It could be used to smuggle requests.
    BareCr,
    /// RFC 7230 section 3: a line ends with CRLF, but there is an LF without CR.
    BareLf,
    /// RFC 7230 section 3.2.4: a server MUST reject (or rewrite) a field folded over several lines.
    FoldedLine,
    /// RFC 7230 section 3.2: a header line is a name, a colon and a value, but the colon is missing.
    NoColon,
    /// RFC 7230 section 3.2.4: no whitespace is allowed between a field's name and its colon; a server MUST
    /// reject it with 400.
    SpaceBeforeColon,
    /// RFC 7230 section 3.2: a field's name is not a token of at least one character.
    FieldName,
    /// The head exceeds [`HeadLimits::head_bytes_max`].
    TooLong,
    /// The head exceeds [`HeadLimits::headers_max`].
    TooManyHeaders,
}

impl fmt::Display for HeadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotHttp => f.write_str("the input is not HTTP"),
            Self::Tls => {
                f.write_str("the input is TLS (https:// or wss://), on a port without TLS")
            }
            Self::ControlByte(byte) => write!(f, "a control character in the head: 0x{byte:02x}"),
            Self::BareCr => f.write_str("a CR without its LF"),
            Self::BareLf => f.write_str("an LF without its CR"),
            Self::FoldedLine => f.write_str("a header folded over several lines"),
            Self::NoColon => f.write_str("a header line without a colon"),
            Self::SpaceBeforeColon => {
                f.write_str("whitespace between a header's name and its colon")
            }
            Self::FieldName => f.write_str("a header's name is not a token"),
            Self::TooLong => f.write_str("the head has too many bytes"),
            Self::TooManyHeaders => f.write_str("the head has too many headers"),
        }
    }
}

impl std::error::Error for HeadError {}

impl Head {
    /// Returns a head of which no byte has arrived. Does not allocate.
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns whether this is a HEAD request, whose response has no body. `false` until the space after the method has
    /// arrived. The result remains available after an error.
    ///
    /// ```
    /// use wsloop::proto::{Head, HeadLimits};
    ///
    /// let mut head = Head::new();
    /// let error = head.receive_request(&mut &mut b"HEAD /#a HTTP/1.1\r\n".to_owned()[..], &HeadLimits::default());
    /// let mut out = Vec::new();
    /// error.unwrap_err().response().encode(head.is_head(), &mut out);
    /// assert!(out.ends_with(b"\r\n\r\n"));
    /// ```
    pub fn is_head(&self) -> bool {
        match self.state {
            State::FirstWord
            | State::FirstWordAfterEmptyLine
            | State::FirstLine
            | State::Fields(_) => self.buf.starts_with(b"HEAD "),
            State::Ended { is_head } => is_head,
        }
    }

    /// Returns whether a byte of the head has arrived.
    pub(in crate::proto) fn has_begun(&self) -> bool {
        self.state != State::FirstWord || !self.buf.is_empty()
    }

    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.buf.capacity()
    }

    /// Consumes bytes from `input` up to and including the blank line, and returns the complete head, beginning with
    /// its first line. `Ok(None)` means that all bytes were consumed, and more are needed. `check_first_line` is called
    /// with the first line, without its CRLF, as soon as it has arrived. After an error, the bytes after the byte that
    /// caused it are left in `input`.
    pub(super) fn receive<E: From<HeadError>>(
        &mut self,
        input: &mut &mut [u8],
        limits: &HeadLimits,
        kind: HeadKind,
        check_first_line: fn(&[u8]) -> Result<(), E>,
        buffers: &BufferPool,
    ) -> Result<Option<Buffer>, E> {
        assert!(
            !matches!(self.state, State::Ended { .. }),
            "a head that is complete or has failed takes no more bytes"
        );
        let result = self.receive_lines(input, limits, kind, check_first_line, buffers);
        match result {
            Ok(false) => return Ok(None),
            Ok(true) | Err(_) => {
                self.state = State::Ended {
                    is_head: self.is_head(),
                }
            }
        }
        let head = std::mem::take(&mut self.buf);
        result.map(|_| Some(head))
    }

    /// Consumes bytes from `input` line by line. Returns whether the blank line has arrived.
    fn receive_lines<E: From<HeadError>>(
        &mut self,
        input: &mut &mut [u8],
        limits: &HeadLimits,
        kind: HeadKind,
        check_first_line: fn(&[u8]) -> Result<(), E>,
        buffers: &BufferPool,
    ) -> Result<bool, E> {
        loop {
            let left = limits.head_bytes_max.saturating_sub(self.buf.len());
            if left == 0 {
                return Err(HeadError::TooLong.into());
            }
            if input.is_empty() {
                return Ok(false);
            }
            let window = left.min(input.len());
            let needed = self.buf.len() + window;
            buffers.grow_head(&mut self.buf, needed, limits.head_bytes_max);
            let (len, result) = self.scan(&input[..window], kind);
            #[cfg(test)]
            {
                self.bytes_examined += len;
            }
            let (taken, rest) = std::mem::take(input).split_at_mut(len);
            *input = rest;
            self.buf.extend_from_slice(taken);
            if result? && self.end_line(limits, kind, check_first_line)? {
                return Ok(true);
            }
        }
    }

    /// Examines new bytes up to the end of the current line, or up to the first invalid byte. Returns the number of
    /// these bytes, and whether they end the line.
    fn scan(&mut self, window: &[u8], kind: HeadKind) -> (usize, Result<bool, HeadError>) {
        let line_len = self.buf.len() - self.line_start;
        let mut previous = if line_len == 0 {
            b'\n'
        } else {
            self.buf[self.buf.len() - 1]
        };
        let mut at = 0;
        while at < window.len() {
            let is_word = matches!(
                self.state,
                State::FirstWord | State::FirstWordAfterEmptyLine
            );
            if previous != b'\r' && !is_word {
                let plain = plain_len(&window[at..]);
                if plain > 0 {
                    at += plain;
                    previous = window[at - 1];
                }
            }
            for &byte in window[at..].iter().take(PLAIN_STEP) {
                let result = self.check_byte(previous, byte, line_len + at == 0, kind);
                at += 1;
                if byte == b'\n' || result.is_err() {
                    return (at, result.map(|()| true));
                }
                previous = byte;
            }
        }
        (window.len(), Ok(false))
    }

    fn check_byte(
        &mut self,
        previous: u8,
        byte: u8,
        is_first: bool,
        kind: HeadKind,
    ) -> Result<(), HeadError> {
        if previous == b'\r' && byte != b'\n' {
            return Err(HeadError::BareCr);
        }
        if let State::FirstWord | State::FirstWordAfterEmptyLine = self.state {
            match byte {
                b' ' if !is_first => self.state = State::FirstLine,
                b'\r' | b'\n' => {}
                // The slash in the first word of a response, "HTTP/1.1".
                b'/' if kind == HeadKind::Response => {}
                CLIENT_HELLO if is_first => return Err(HeadError::Tls),
                _ if !is_token_byte(byte) => return Err(HeadError::NotHttp),
                _ => {}
            }
        }
        match byte {
            b'\n' if previous != b'\r' => Err(HeadError::BareLf),
            b'\n' | b'\r' | b'\t' => Ok(()),
            _ if byte.is_ascii_control() => Err(HeadError::ControlByte(byte)),
            _ => Ok(()),
        }
    }

    /// Checks the last line of `buf`, which is complete. Returns whether it is the blank line after the fields.
    fn end_line<E: From<HeadError>>(
        &mut self,
        limits: &HeadLimits,
        kind: HeadKind,
        check_first_line: fn(&[u8]) -> Result<(), E>,
    ) -> Result<bool, E> {
        // `scan` found the end of the line, which is CRLF.
        let line = &self.buf[self.line_start..self.buf.len() - 2];
        #[cfg(test)]
        {
            self.bytes_examined += line.len();
        }
        self.state = match self.state {
            // RFC 7230 section 3.5: "a server that is expecting to receive and parse a request-line SHOULD ignore at
            // least one empty line (CRLF) received prior to the request-line". That line is not part of the head.
            State::FirstWord if line.is_empty() && kind == HeadKind::Request => {
                self.buf.clear();
                State::FirstWordAfterEmptyLine
            }
            State::FirstWord | State::FirstWordAfterEmptyLine if line.is_empty() => {
                return Err(HeadError::NotHttp.into());
            }
            State::FirstWord | State::FirstWordAfterEmptyLine | State::FirstLine => {
                check_first_line(line)?;
                State::Fields(0)
            }
            State::Fields(_) if line.is_empty() => return Ok(true),
            State::Fields(count) => {
                if count >= limits.headers_max.min(PARSER_HEADERS_MAX) {
                    return Err(HeadError::TooManyHeaders.into());
                }
                check_field_line(line)?;
                State::Fields(count + 1)
            }
            State::Ended { .. } => unreachable!("receive asserts that the head has not ended"),
        };
        self.line_start = self.buf.len();
        Ok(false)
    }
}

/// Checks that `line` is `name ":" OWS value OWS`. It contains no control character other than HTAB, as `scan` has
/// checked.
fn check_field_line(line: &[u8]) -> Result<(), HeadError> {
    if let [b' ' | b'\t', ..] = line {
        return Err(HeadError::FoldedLine);
    }
    let Some(colon) = line.iter().position(|&byte| byte == b':') else {
        return Err(HeadError::NoColon);
    };
    let name = &line[..colon];
    if let [.., b' ' | b'\t'] = name {
        return Err(HeadError::SpaceBeforeColon);
    }
    // The `http` crate rejects longer names. They are possible only with a `head_bytes_max` above 64 KiB.
    if is_token(name) && name.len() <= usize::from(u16::MAX) {
        Ok(())
    } else {
        Err(HeadError::FieldName)
    }
}

/// Maximum header lines that tungstenite parses: `tungstenite::handshake::headers::MAX_HEADERS`.
const PARSER_HEADERS_MAX: usize = 124;

/// The first byte of a connection that speaks TLS: the content type of the record with the ClientHello.
const CLIENT_HELLO: u8 = 22;

/// Returns the length of a prefix of `bytes` that contains no control characters. It is a multiple of [`PLAIN_STEP`],
/// because the check of that many bytes at once compiles to vector instructions.
fn plain_len(bytes: &[u8]) -> usize {
    let is_plain = |step: &[u8; PLAIN_STEP]| {
        let controls = step.iter().map(|byte| byte.is_ascii_control());
        !controls.fold(false, |any, is_control| any | is_control)
    };
    let (steps, _) = bytes.as_chunks();
    PLAIN_STEP * steps.iter().take_while(|step| is_plain(step)).count()
}

/// Bytes that are checked together for control characters.
const PLAIN_STEP: usize = 32;
