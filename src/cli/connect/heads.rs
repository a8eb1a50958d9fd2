//! `--verbose`: formats the heads of the opening handshake for people, in the notation of curl: `> ` before each line
//! that is sent, `< ` before each line that is received.

use super::screen::escaped;

/// Formats the head of the request. Hides the value of Authorization, because output is shown to other people.
pub(super) fn request(head: &[u8]) -> String {
    format(">", head, |line| {
        let (name, value) = line.split_once(':')?;
        let scheme = value.split_whitespace().next().unwrap_or("");
        name.eq_ignore_ascii_case("Authorization")
            .then(|| format!("{name}: {scheme} (hidden)"))
    })
}

/// Formats the heads of all responses in `received`, which the bytes after the last head follow.
pub(super) fn response(received: &[u8], rest_len: usize) -> String {
    format("<", &received[..received.len() - rest_len], |_| None)
}

fn format(mark: &str, head: &[u8], change: impl Fn(&str) -> Option<String>) -> String {
    let shown = &head[..head.len().min(HEAD_BYTES_SHOWN_MAX)];
    let mut text = String::new();
    for line in String::from_utf8_lossy(shown).lines() {
        let line = change(line).unwrap_or_else(|| line.to_owned());
        text.push_str(format!("{mark} {}", escaped(&line)).trim_end());
        text.push('\n');
    }
    if shown.len() < head.len() {
        text.push_str(mark);
        text.push_str(" (truncated)\n");
    }
    text
}

/// Maximum number of bytes of a head that are printed: the maximum length of a response's head.
const HEAD_BYTES_SHOWN_MAX: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_shown_line_by_line_and_secrets_are_hidden() {
        let head = b"GET / HTTP/1.1\r\nHost: a\r\nauthorization: Basic secret\r\nX: \x1b\r\n\r\n";
        let expected = "> GET / HTTP/1.1\n> Host: a\n> authorization: Basic (hidden)\n\
                        > X: \\u{1b}\n>\n";
        assert_eq!(request(head), expected);
        let received = b"HTTP/1.1 101 Yes\r\nA: b\xFF\r\n\r\n\x81\x00";
        assert_eq!(
            response(received, 2),
            "< HTTP/1.1 101 Yes\n< A: b\u{FFFD}\n<\n"
        );
        let long = response(&[b'x'; HEAD_BYTES_SHOWN_MAX + 1], 0);
        assert!(long.ends_with("xx\n< (truncated)\n"));
    }
}
