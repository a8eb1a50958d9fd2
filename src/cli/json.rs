//! What the binary prints as JSON has strings.

/// `text` as a JSON string (RFC 8259 section 7).
pub(super) fn string(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c < ' ' => quoted.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_escaped() {
        assert_eq!(string("ws://a/b?c"), "\"ws://a/b?c\"");
        assert_eq!(string("\"\\\n"), "\"\\\"\\\\\\u000a\"");
    }
}
