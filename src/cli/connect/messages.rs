//! Splits the bytes of stdin into messages: one per line, or a single one.

use std::fmt;

/// Splits input into messages. Buffers at most one incomplete message.
pub(super) struct MessageSplitter {
    mode: SplitMode,
    /// Text messages must be UTF-8, binary ones may contain any bytes.
    is_binary: bool,
    /// The beginning of an incomplete message.
    partial: Vec<u8>,
    /// Length at which the terminal cuts lines. `None`: stdin is no terminal, or one that cuts no line silently.
    cut_at: Option<usize>,
    /// Number of messages sent.
    count: u64,
    message_bytes_max: usize,
}

/// What becomes a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SplitMode {
    /// Each line, without its LF or CRLF.
    Lines,
    /// The whole input. An empty input is no message.
    Whole,
}

/// Input that cannot be sent. Lines are numbered from 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum InputError {
    /// A line is not UTF-8, as RFC 6455 section 5.6 demands of a text message.
    NotUtf8 {
        line: u64,
    },
    LineTooLong {
        line: u64,
        message_bytes_max: usize,
    },
    TooLong {
        message_bytes_max: usize,
    },
    /// The terminal may have cut the line: it has the maximum length of the terminal.
    Cut {
        line: u64,
        bytes: usize,
    },
}

impl MessageSplitter {
    pub(super) fn new(mode: SplitMode, is_binary: bool, message_bytes_max: usize) -> Self {
        Self {
            mode,
            is_binary,
            partial: Vec::new(),
            cut_at: None,
            count: 0,
            message_bytes_max,
        }
    }

    /// Rejects lines of the maximum length of a terminal that edits lines itself, because it drops the rest of a longer
    /// line silently.
    pub(super) fn for_terminal(mut self) -> Self {
        self.cut_at = cfg!(target_os = "linux").then_some(TERMINAL_LINE_BYTES_MAX);
        self
    }

    /// Processes the next bytes of stdin. Calls `send` with each message that is complete.
    ///
    /// # Errors
    /// Returns the first input that cannot be sent. The messages before it have been sent; the rest of `chunk` is
    /// dropped.
    pub(super) fn push(
        &mut self,
        chunk: &[u8],
        send: &mut dyn FnMut(&[u8]),
    ) -> Result<(), InputError> {
        let mut rest = chunk;
        while self.mode == SplitMode::Lines
            && let Some(end) = rest.iter().position(|&byte| byte == b'\n')
        {
            let (line, after) = (&rest[..end], &rest[end + 1..]);
            rest = after;
            if self.partial.is_empty() {
                self.send_line(line, send)?;
            } else {
                self.push_partial(line)?;
                let line = std::mem::take(&mut self.partial);
                self.send_line(&line, send)?;
            }
        }
        self.push_partial(rest)
    }

    /// Called at the end of stdin. Sends the last message: a last line without a line end, or the whole input.
    ///
    /// # Errors
    /// See [`push`](Self::push).
    pub(super) fn finish(&mut self, send: &mut dyn FnMut(&[u8])) -> Result<(), InputError> {
        let last = std::mem::take(&mut self.partial);
        if last.is_empty() {
            return Ok(());
        }
        self.send_message(&last, send)
    }

    fn send_line(&mut self, line: &[u8], send: &mut dyn FnMut(&[u8])) -> Result<(), InputError> {
        if self.cut_at == Some(line.len()) {
            return Err(InputError::Cut {
                line: self.count + 1,
                bytes: line.len(),
            });
        }
        self.send_message(line.strip_suffix(b"\r").unwrap_or(line), send)
    }

    fn send_message(
        &mut self,
        bytes: &[u8],
        send: &mut dyn FnMut(&[u8]),
    ) -> Result<(), InputError> {
        if bytes.len() > self.message_bytes_max {
            return Err(self.too_long());
        }
        if !self.is_binary && std::str::from_utf8(bytes).is_err() {
            return Err(InputError::NotUtf8 {
                line: self.count + 1,
            });
        }
        self.count += 1;
        send(bytes);
        Ok(())
    }

    fn push_partial(&mut self, bytes: &[u8]) -> Result<(), InputError> {
        // One byte more than the limit, since the last byte may be the CR of a line end.
        if self.partial.len() + bytes.len() > self.message_bytes_max + 1 {
            return Err(self.too_long());
        }
        self.partial.extend_from_slice(bytes);
        Ok(())
    }

    fn too_long(&self) -> InputError {
        let message_bytes_max = self.message_bytes_max;
        match self.mode {
            SplitMode::Lines => InputError::LineTooLong {
                line: self.count + 1,
                message_bytes_max,
            },
            SplitMode::Whole => InputError::TooLong { message_bytes_max },
        }
    }
}

impl fmt::Display for InputError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotUtf8 { line } => write!(
                f,
                "line {line} of stdin is not UTF-8, which a text message must be; \
                 use --binary to send arbitrary bytes"
            ),
            Self::LineTooLong {
                line,
                message_bytes_max,
            } => write!(
                f,
                "line {line} of stdin is longer than the {message_bytes_max} bytes of --message-bytes-max"
            ),
            Self::TooLong { message_bytes_max } => write!(
                f,
                "stdin is longer than the {message_bytes_max} bytes of --message-bytes-max"
            ),
            Self::Cut { line, bytes } => write!(
                f,
                "line {line} of stdin was not sent: the terminal cuts lines at {bytes} bytes; \
                 use a file or a pipe for long lines"
            ),
        }
    }
}

/// Maximum length of a line of a Linux terminal, without the line end: N_TTY_BUF_SIZE in the kernel's n_tty.c.
const TERMINAL_LINE_BYTES_MAX: usize = 4095;

#[cfg(test)]
mod tests {
    use super::*;

    /// Splits `input`, pushed in chunks of every size, and checks that the size does not change the result. Returns the
    /// messages sent and the result.
    fn split(
        mode: SplitMode,
        is_binary: bool,
        input: &[u8],
    ) -> (Vec<Vec<u8>>, Result<(), InputError>) {
        let all = (1..=input.len().max(1)).map(|size| {
            let mut messages = MessageSplitter::new(mode, is_binary, 8);
            let mut sent = Vec::new();
            let mut result = Ok(());
            for chunk in input.chunks(size) {
                result =
                    result.and_then(|()| messages.push(chunk, &mut |m| sent.push(m.to_owned())));
            }
            let result = result.and_then(|()| messages.finish(&mut |m| sent.push(m.to_owned())));
            (sent, result)
        });
        let all: Vec<_> = all.collect();
        assert!(all.iter().all(|one| *one == all[0]), "{input:?}: {all:?}");
        all.into_iter().next().unwrap()
    }

    #[test]
    fn each_line_is_a_message_in_chunks_of_every_size() {
        let table: [(&[u8], &[&[u8]]); 9] = [
            (b"", &[]),
            (b"a", &[b"a"]),
            (b"a\n", &[b"a"]),
            (b"a\r\nb\r\n", &[b"a", b"b"]),
            (b"a\n\nb", &[b"a", b"", b"b"]),
            (b"\n", &[b""]),
            (b"a\rb\r\r\n", &[b"a\rb\r"]),
            (b"12345678\r\n12345678\n12345678", &[&b"12345678"[..]; 3]),
            ("ä\nö".as_bytes(), &["ä".as_bytes(), "ö".as_bytes()]),
        ];
        for (input, expected) in table {
            for is_binary in [false, true] {
                let (sent, result) = split(SplitMode::Lines, is_binary, input);
                assert_eq!(
                    (&sent[..], result),
                    (
                        &expected.iter().map(|m| m.to_vec()).collect::<Vec<_>>()[..],
                        Ok(())
                    )
                );
            }
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_line_that_the_terminal_has_cut_is_rejected() {
        let longest = [b'x'; TERMINAL_LINE_BYTES_MAX];
        let (fits, cut) = (
            [&longest[1..], b"\n"].concat(),
            [&longest, &b"\n"[..]].concat(),
        );
        let messages = || MessageSplitter::new(SplitMode::Lines, false, 5000);
        assert_eq!(messages().push(&cut, &mut |_| {}), Ok(()));
        let mut messages = messages().for_terminal();
        assert_eq!(messages.push(&fits, &mut |_| {}), Ok(()));
        let result = messages.push(&cut, &mut |_| panic!("a cut line is not sent"));
        let (line, bytes) = (2, TERMINAL_LINE_BYTES_MAX);
        assert_eq!(result, Err(InputError::Cut { line, bytes }));
    }

    #[test]
    fn the_whole_of_stdin_is_one_message_or_none_if_empty() {
        assert_eq!(split(SplitMode::Whole, true, b""), (vec![], Ok(())));
        let bytes = b"\xFF\r\n\n\r\n";
        assert_eq!(
            split(SplitMode::Whole, true, bytes),
            (vec![bytes.to_vec()], Ok(()))
        );
        let message_bytes_max = 8;
        let too_long = Err(InputError::TooLong { message_bytes_max });
        for input in [&b"123456789"[..], b"1234567890"] {
            assert_eq!(
                split(SplitMode::Whole, true, input),
                (vec![], too_long.clone())
            );
        }
    }

    #[test]
    fn lines_before_one_that_cannot_be_sent_are_sent() {
        let not_utf8 = Err(InputError::NotUtf8 { line: 2 });
        let one = vec![b"a".to_vec()];
        assert_eq!(
            split(SplitMode::Lines, false, b"a\n\xFF\nb\n"),
            (one, not_utf8)
        );
        let (sent, result) = split(SplitMode::Lines, true, b"a\n\xFF\nb\n");
        assert_eq!((sent.len(), result), (3, Ok(())));
        for input in [
            &b"a\n123456789\nb"[..],
            b"a\n123456789",
            b"a\n123456789\r\n",
        ] {
            let (sent, result) = split(SplitMode::Lines, false, input);
            let (line, message_bytes_max) = (2, 8);
            let expected = InputError::LineTooLong {
                line,
                message_bytes_max,
            };
            assert_eq!((sent, result), (vec![b"a".to_vec()], Err(expected)));
        }
    }
}
