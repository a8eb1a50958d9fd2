//! The names of limits in log lines: those of their flags, not of the fields of `Config` that embedding programs know.

use super::super::args;

/// Returns `text`, a message or an error, with the flag of a limit instead of the name of its field. The name is replaced
/// only at the end: `NAME`, `(NAME)` or `NAME reached`. The text before it can have parts that a peer sent.
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
    fn the_flag_is_at_the_end_of_the_text_instead_of_the_name_of_the_field() {
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
            "it is a member of 9 topics (memberships_max)",
            "a idle_timeout_",
            "\u{fc}idle_timeout",
        ] {
            assert_eq!(with_flag(text.to_owned()), text);
        }
    }
}
