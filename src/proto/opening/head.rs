//! The head of a request or a response (RFC 7230 section 3): collects its lines as they arrive, up to the blank line.
//! Guarantees linear time however the bytes are cut, no more than the allowed bytes retained, and an error at the first
//! byte that decides. The meaning of the fields is not checked here.

use super::fields::{is_token, is_token_byte};
use crate::buffer::Buffer;
use crate::buffer::BufferPool;
use std::fmt;

/// Limits of a head. The defaults, 16 KiB and 100 headers, have room for any request that a browser sends with its
/// cookies, and bound what one silent client can make a server retain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadLimits {
    /// Maximum bytes, from the first one to the blank line, both included. A request that exceeds it is answered 431. The
    /// interim responses before a response count as part of its head.
    pub head_bytes_max: usize,
    /// Maximum header lines. A request that exceeds it is answered 431. More than 124 are never accepted: that is the limit
    /// of tungstenite's parser.
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

/// A head that is being received. Owns the bytes that have arrived, and no memory before the first.
#[derive(Debug, Default)]
pub struct Head {
    buf: Buffer,
    /// Where the line under way begins in `buf`.
    line_start: usize,
    state: State,
    /// Bytes examined, to show that each is examined once as it arrives and once more as part of its line.
    #[cfg(test)]
    pub(super) bytes_examined: usize,
}

/// What the byte after `buf` belongs to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// The first word of the first line: a method, or a response's version.
    #[default]
    FirstWord,
    /// As `FirstWord`, after an empty line was skipped.
    FirstWordAfterEmptyLine,
    /// The rest of the first line.
    FirstLine,
    /// Header lines, and how many were received.
    Fields(usize),
    /// Complete, or failed.
    Ended { is_head: bool },
}

/// Kind of head. The lines of the two differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HeadKind {
    Request,
    Response,
}

/// What is wrong with the lines of a head, whatever their meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HeadError {
    /// RFC 7230 sections 3.1.1 and 3.1.2: the first line begins with a token (or a version), so this is no HTTP:
    /// TLS on a plain port, or something binary.
    NotHttp,
    /// RFC 7230 section 3.2: no control character but HTAB in a field's value, and none elsewhere.
    ControlByte(u8),
    /// RFC 7230 section 3: a line ends with CRLF. A CR elsewhere is a way to smuggle.
    BareCr,
    /// RFC 7230 section 3: a line ends with CRLF.
    BareLf,
    /// RFC 7230 section 3.2.4: a server MUST reject (or rewrite) a field folded over several lines.
    FoldedLine,
    /// RFC 7230 section 3.2: a header line is a name, a colon and a value.
    NoColon,
    /// RFC 7230 section 3.2.4: no whitespace is allowed between a field's name and its colon; a server MUST
    /// reject it with 400.
    SpaceBeforeColon,
    /// RFC 7230 section 3.2: a field's name is a token, of at least one character.
    FieldName,
    /// [`HeadLimits::head_bytes_max`].
    TooLong,
    /// [`HeadLimits::headers_max`].
    TooManyHeaders,
}

impl fmt::Display for HeadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotHttp => f.write_str("this is not HTTP"),
            Self::ControlByte(byte) => write!(f, "a control character in the head: 0x{byte:02x}"),
            Self::BareCr => f.write_str("a CR without its LF"),
            Self::BareLf => f.write_str("a LF without its CR"),
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
    /// Returns a head of which nothing has arrived. Does not allocate.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether this is a HEAD request, whose response has no body. Known once the first word has arrived, also after an
    /// error.
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

    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.buf.capacity()
    }

    /// Takes bytes from `input` up to and including the blank line, and returns the whole head, from its first line on.
    /// `Ok(None)` means that all bytes were taken, and more are needed. `check_first_line` is called as soon as that line
    /// has arrived, without its CRLF. After an error, the bytes after the one that decided are left in `input`.
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

    /// Returns whether the blank line has arrived.
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

    /// Examines new bytes, up to the end of the line under way or the first invalid byte. Returns how many bytes that
    /// are, and whether they end the line.
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
                // The slash of a response's "HTTP/1.1".
                b'/' if kind == HeadKind::Response => {}
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

    /// Checks the line that `buf` ends with. Returns whether it is the blank line after the fields.
    fn end_line<E: From<HeadError>>(
        &mut self,
        limits: &HeadLimits,
        kind: HeadKind,
        check_first_line: fn(&[u8]) -> Result<(), E>,
    ) -> Result<bool, E> {
        // The scan ended a line, so CRLF stands at its end.
        let line = &self.buf[self.line_start..self.buf.len() - 2];
        #[cfg(test)]
        {
            self.bytes_examined += line.len();
        }
        self.state = match self.state {
            // RFC 7230 section 3.5: "a server that is expecting to receive and parse a request-line SHOULD
            // ignore at least one empty line (CRLF) received prior to the request-line". It is no part of the head.
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
            State::Ended { .. } => unreachable!("receive has asserted that it is not"),
        };
        self.line_start = self.buf.len();
        Ok(false)
    }
}

/// Checks `name ":" OWS value OWS`, whose bytes are known to be no control characters but HTAB.
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
    // The `http` crate accepts no longer names. Reached only with a limit of more than 64 KiB.
    if is_token(name) && name.len() <= usize::from(u16::MAX) {
        Ok(())
    } else {
        Err(HeadError::FieldName)
    }
}

/// `tungstenite::handshake::headers::MAX_HEADERS`.
const PARSER_HEADERS_MAX: usize = 124;

/// Returns how many bytes at the start are no control characters, counted in steps that compile to vector instructions.
fn plain_len(bytes: &[u8]) -> usize {
    let is_plain = |step: &[u8; PLAIN_STEP]| {
        let controls = step.iter().map(|byte| byte.is_ascii_control());
        !controls.fold(false, |any, is_control| any | is_control)
    };
    let (steps, _) = bytes.as_chunks();
    PLAIN_STEP * steps.iter().take_while(|step| is_plain(step)).count()
}

const PLAIN_STEP: usize = 32;
