//! The JSON format of the log: each line is an object with the time, the level, the message and the fields of a record.
//!
//! A line about a session has a short message (`connected`, `disconnected`, `refused`, `gone`) and all figures in
//! fields. Non-printable characters are escaped (see `json`), so that a terminal can show a line; a parser restores
//! them. The library has already escaped text that peers sent, in Rust's notation, so that decoded values are safe to
//! print, too.

use super::limit;
use crate::cli::json;
use env_logger::fmt::Formatter;
use log::Record;
use log::kv::{Error, Key, Value, VisitSource, VisitValue};
use std::fmt::{Display, Write as _};
use std::io::{self, Write as _};

/// Writes a record as a line. Passed to `Builder::format`.
pub(super) fn write(out: &mut Formatter, record: &Record<'_>) -> io::Result<()> {
    let line = line(&out.timestamp_millis(), record);
    out.write_all(line.as_bytes())
}

/// Returns the line of a record, with its line end. Fields without a value are omitted.
fn line(time: &dyn Display, record: &Record<'_>) -> String {
    let mut fields = Fields(String::from("{"));
    // A time in RFC 3339's format has no characters that need escaping.
    fields.member("time", format_args!("\"{time}\""));
    fields.string("level", record.level().as_str());
    match record.key_values().get(Key::from(EVENT)) {
        // The text is omitted, because the fields contain the same information.
        Some(event) => fields.string("message", &event.to_string()),
        None => fields.string("message", &limit::with_flag(record.args().to_string())),
    }
    // Only writing can fail, and writing to a String does not.
    let _ = record.key_values().visit(&mut fields);
    fields.0 + "}\n"
}

/// The key of the field that becomes the message: what happened, without figures.
const EVENT: &str = "event";

/// The key of the field that says why a session ended or was refused.
const ERROR: &str = "error";

/// A JSON object under construction: `{` and the members so far.
struct Fields(String);

impl Fields {
    fn string(&mut self, key: &str, text: &str) {
        self.member(key, json::string(text));
    }

    fn member(&mut self, key: &str, value: impl Display) {
        let comma = if self.0.len() > 1 { "," } else { "" };
        // Writing to a String does not fail.
        let _ = write!(self.0, "{comma}{}:{value}", json::string(key));
    }
}

impl<'kvs> VisitSource<'kvs> for Fields {
    fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), Error> {
        if key.as_str() == EVENT {
            return Ok(());
        }
        if key.as_str() == ERROR
            && let Some(error) = value.to_borrowed_str()
        {
            self.string(ERROR, &limit::with_flag(error.to_owned()));
            return Ok(());
        }
        value.visit(Member {
            fields: self,
            key: key.as_str(),
        })
    }
}

/// Appends one field to the object, by the type of its value.
struct Member<'f> {
    fields: &'f mut Fields,
    key: &'f str,
}

impl<'v> VisitValue<'v> for Member<'_> {
    fn visit_any(&mut self, value: Value<'_>) -> Result<(), Error> {
        self.fields.string(self.key, &value.to_string());
        Ok(())
    }

    fn visit_null(&mut self) -> Result<(), Error> {
        Ok(())
    }

    fn visit_u64(&mut self, value: u64) -> Result<(), Error> {
        self.fields.member(self.key, value);
        Ok(())
    }

    fn visit_i64(&mut self, value: i64) -> Result<(), Error> {
        self.fields.member(self.key, value);
        Ok(())
    }

    fn visit_bool(&mut self, value: bool) -> Result<(), Error> {
        self.fields.member(self.key, value);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use log::Level;

    #[test]
    fn the_event_field_is_the_message_and_the_other_fields_follow() {
        let values = [("event", Value::from("left")), ("code", Value::from(1000))];
        let mut record = Record::builder();
        let record = record.args(format_args!("x left with code 1000"));
        let line = line(&"now", &record.key_values(&values).build());
        let expected = r#"{"time":"now","level":"INFO","message":"left","code":1000}"#;
        assert_eq!(line, format!("{expected}\n"));
    }

    #[test]
    fn the_error_has_the_flag_of_the_limit() {
        let values = [
            ("event", Value::from("left")),
            ("error", Value::from("idle_timeout reached")),
        ];
        let mut record = Record::builder();
        let line = line(&"now", &record.key_values(&values).build());
        let expected =
            r#"{"time":"now","level":"INFO","message":"left","error":"--idle-timeout reached"}"#;
        assert_eq!(line, format!("{expected}\n"));
    }

    #[test]
    fn a_record_is_one_object_whatever_is_in_it() {
        let values: [(&str, Value<'_>); 5] = [
            ("path", Value::from("/a\"\n")),
            ("code", Value::from(1000_u16)),
            ("clean", Value::from(true)),
            ("error", Value::null()),
            ("peer", Value::from_display(&"[::1]:9")),
        ];
        let line = line(
            &"now",
            &Record::builder()
                .level(Level::Info)
                .args(format_args!("{} \"left\"", "x"))
                .key_values(&values)
                .build(),
        );
        let expected = r#"{"time":"now","level":"INFO","message":"x \"left\"","path":"/a\"\u000a","code":1000,"clean":true,"peer":"[::1]:9"}"#;
        assert_eq!(line, format!("{expected}\n"));
    }
}
