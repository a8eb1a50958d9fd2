//! Encodes the JSON strings that the binary prints.

use super::escape::is_printable;

/// Returns `text` as a JSON string with its quotes (RFC 8259 section 7). Escapes all characters that are not printable
/// (`\u202e`), although only those below U+0020 must be escaped, so that a terminal can show the line safely. A parser
/// restores the text exactly.
pub(super) fn string(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if is_printable(c) => quoted.push(c),
            c => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    quoted.push_str(&format!("\\u{unit:04x}"));
                }
            }
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    #[test]
    fn strings_are_escaped() {
        assert_eq!(string("ws://a/b?c"), "\"ws://a/b?c\"");
        assert_eq!(string("\"\\\n"), "\"\\\"\\\\\\u000a\"");
        assert_eq!(
            string("\u{fc}\u{202e}\u{e0041}"),
            "\"\u{fc}\\u202e\\udb40\\udc41\""
        );
    }

    #[test]
    fn a_parser_restores_every_character() {
        let text: String = ('\0'..=char::MAX).collect();
        let parsed: Value = serde_json::from_str(&string(&text)).unwrap();
        assert_eq!(parsed, Value::String(text));
    }

    #[test]
    fn every_character_of_a_json_string_is_printable() {
        let text: String = ('\0'..=char::MAX).collect();
        assert!(string(&text).chars().all(is_printable));
    }
}
