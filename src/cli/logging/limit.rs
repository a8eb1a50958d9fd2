//! Names of limits in log lines. The library's messages name the field of `Config`, such as `idle_timeout`; the log of the
//! binary names the flag, `--idle-timeout`.

use super::super::args;

/// Returns `text`, a message or an error, with the flag of a limit instead of the name of its field. The name is replaced
/// only at the end: `NAME`, `(NAME)` or `NAME reached`. It is not replaced elsewhere, because the text before the end can
/// contain text that a peer sent.
pub(super) fn with_flag(text: String) -> String {
    let name = text.strip_suffix(" reached").unwrap_or(&text);
    let end = name.strip_suffix(')').unwrap_or(name).len();
    let start = text[..end].rfind([' ', '(']).map_or(0, |at| at + 1);
    match args::flag_of_limit(&text[start..end]) {
        Some(flag) => format!("{}{flag}{}", &text[..start], &text[end..]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_at_the_end_of_the_text_is_replaced_with_its_flag() {
        let table = [
            ("a: idle_timeout reached", "a: --idle-timeout reached"),
            ("9 B unsent (lag_bytes_max)", "9 B unsent (--lag-bytes-max)"),
            ("within shutdown_grace", "within --shutdown-grace"),
            ("idle_timeout", "--idle-timeout"),
        ];
        for (text, expected) in table {
            assert_eq!(with_flag(text.to_owned()), expected);
        }
    }

    #[test]
    fn other_text_is_unchanged() {
        for text in [
            "",
            ")",
            " reached",
            "path \"/idle_timeout\"",
            "idle_timeout: too big",
            "of a lag",
            // This limit has no flag.
            "it is a member of 9 topics (memberships_max)",
            "a idle_timeout_",
            "\u{fc}idle_timeout",
        ] {
            assert_eq!(with_flag(text.to_owned()), text);
        }
    }
}
