//! The names of limits in log lines: those of their flags, not of the fields of `Config` that embedding programs know.

use log::Record;
use log::kv::Key;

/// Returns `text`, the message or the error of a record, with the flag of the limit that the record is about: instead of
/// the field name at its end, or after it. A text without a limit is unchanged.
pub(super) fn with_flag(mut text: String, record: &Record<'_>) -> String {
    let limit = record.key_values().get(Key::from(LIMIT));
    let Some(limit) = limit.and_then(|limit| limit.to_borrowed_str()) else {
        return text;
    };
    let flag = format!("--{}", limit.replace('_', "-"));
    // Only at the end, because the text before it can have parts that a peer sent.
    let at_end = [" reached", ")", ""].into_iter().find_map(|tail| {
        let start = text.strip_suffix(tail)?.strip_suffix(limit)?.len();
        Some((start, tail))
    });
    match at_end {
        Some((start, tail)) => {
            text.truncate(start);
            text + &flag + tail
        }
        None => text + " (" + &flag + ")",
    }
}

/// The key of the field with the name of the limit.
const LIMIT: &str = "limit";

#[cfg(test)]
mod tests {
    use super::*;
    use log::kv::Value;

    #[test]
    fn the_flag_is_at_the_end_of_the_text_instead_of_the_field_name() {
        let table = [
            ("a: idle_timeout reached", "a: --idle-timeout reached"),
            ("9 B unsent (idle_timeout)", "9 B unsent (--idle-timeout)"),
            ("within idle_timeout", "within --idle-timeout"),
            (
                "path \"/idle_timeout\": too big",
                "path \"/idle_timeout\": too big (--idle-timeout)",
            ),
            ("", " (--idle-timeout)"),
        ];
        let fields = [("limit", "idle_timeout")];
        let mut record = Record::builder();
        let record = record.key_values(&fields).build();
        for (text, expected) in table {
            assert_eq!(with_flag(text.to_owned(), &record), expected);
        }
    }

    #[test]
    fn a_text_without_a_limit_is_unchanged() {
        let fields = [("limit", Value::null())];
        for fields in [&fields[..], &[]] {
            let mut record = Record::builder();
            let record = record.key_values(&fields).build();
            let text = "a: idle_timeout reached";
            assert_eq!(with_flag(text.to_owned(), &record), text);
        }
    }
}
