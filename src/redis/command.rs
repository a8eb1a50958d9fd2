//! Encodes commands, which are arrays of strings in RESP.

use crate::backplane::Outbox;

/// Appends a publication to the outbox.
pub(super) fn publish(outbox: &mut Outbox, prefix: &str, topic: &str, payload: &[u8]) {
    // Few parts: each costs as much as some dozens of bytes.
    let channel_len = Line::new(b"*3\r\n$7\r\nPUBLISH\r\n$", prefix.len() + topic.len());
    let payload_len = Line::new(b"\r\n$", payload.len());
    outbox.push_publication(&[
        channel_len.bytes(),
        prefix.as_bytes(),
        topic.as_bytes(),
        payload_len.bytes(),
        payload,
        b"\r\n",
    ]);
}

/// Appends a command to the outbox. Returns its length. Allocates, so it is for rare commands.
pub(super) fn command(outbox: &mut Outbox, words: &[&str]) -> u32 {
    let mut names = Names::default();
    for word in words {
        names.push("", word);
    }
    let count = Decimal::new(words.len());
    let parts = [b"*", count.digits(), b"\r\n", &names.encoded];
    outbox.push_command(&parts);
    parts.iter().map(|part| part.len() as u32).sum()
}

/// The encoded arguments of one command: names of channels.
#[derive(Debug, Default)]
pub(super) struct Names {
    encoded: Vec<u8>,
    count: usize,
}

impl Names {
    /// Appends the name `prefix` + `topic`.
    pub(super) fn push(&mut self, prefix: &str, topic: &str) {
        let len = Decimal::new(prefix.len() + topic.len());
        let parts = [
            b"$",
            len.digits(),
            b"\r\n",
            prefix.as_bytes(),
            topic.as_bytes(),
            b"\r\n",
        ];
        for part in parts {
            self.encoded.extend_from_slice(part);
        }
        self.count += 1;
    }

    /// Returns the number of names.
    pub(super) fn len(&self) -> usize {
        self.count
    }

    /// Appends the command `verb` with these names to the outbox.
    pub(super) fn command(&self, outbox: &mut Outbox, verb: &str) {
        let count = Decimal::new(1 + self.count);
        let verb_len = Decimal::new(verb.len());
        outbox.push_command(&[
            b"*",
            count.digits(),
            b"\r\n$",
            verb_len.digits(),
            b"\r\n",
            verb.as_bytes(),
            b"\r\n",
            &self.encoded,
        ]);
    }
}

/// A number as decimal digits, between other bytes and CR LF.
struct Line {
    bytes: [u8; 48],
    start: usize,
}

impl Line {
    /// Returns a line. `before` has at most 26 bytes.
    fn new(before: &[u8], number: usize) -> Self {
        let mut bytes = [0; 48];
        let decimal = Decimal::new(number);
        let digits = decimal.digits();
        let end = bytes.len() - 2;
        bytes[end..].copy_from_slice(b"\r\n");
        let digits_start = end - digits.len();
        bytes[digits_start..end].copy_from_slice(digits);
        let start = digits_start - before.len();
        bytes[start..digits_start].copy_from_slice(before);
        Self { bytes, start }
    }

    fn bytes(&self) -> &[u8] {
        &self.bytes[self.start..]
    }
}

/// A number as decimal digits.
struct Decimal {
    digits: [u8; 20],
    start: usize,
}

impl Decimal {
    fn new(number: usize) -> Self {
        let mut decimal = Self {
            digits: [0; 20],
            start: 20,
        };
        let mut rest = number;
        loop {
            decimal.start -= 1;
            decimal.digits[decimal.start] = b'0' + (rest % 10) as u8;
            rest /= 10;
            if rest == 0 {
                return decimal;
            }
        }
    }

    fn digits(&self) -> &[u8] {
        &self.digits[self.start..]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::IoSlice;

    #[test]
    fn commands_are_arrays_of_strings() {
        let mut outbox = Outbox::default();
        publish(&mut outbox, "p:", "/chat", b"0123456789");
        command(&mut outbox, &["CLIENT", "LIST", ""]);
        let mut names = Names::default();
        names.push("p:", "/a");
        names.push("p:", "/é");
        assert_eq!(names.len(), 2);
        names.command(&mut outbox, "SUBSCRIBE");
        let mut slices = [IoSlice::new(&[])];
        assert_eq!(outbox.slices(&mut slices, usize::MAX), 1);
        let expected = "*3\r\n$7\r\nPUBLISH\r\n$7\r\np:/chat\r\n$10\r\n0123456789\r\n\
            *3\r\n$6\r\nCLIENT\r\n$4\r\nLIST\r\n$0\r\n\r\n\
            *3\r\n$9\r\nSUBSCRIBE\r\n$4\r\np:/a\r\n$5\r\np:/é\r\n";
        assert_eq!(str::from_utf8(&slices[0]).unwrap(), expected);
        assert_eq!(
            Line::new(&[b'x'; 26], usize::MAX).bytes(),
            format!("{}{}\r\n", "x".repeat(26), usize::MAX).as_bytes()
        );
    }
}
