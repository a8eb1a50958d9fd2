//! The engine under scripted streams, by subject.

mod deadlines;
mod faults;
mod pressure;
mod script;
mod topics;

use super::quoted;

#[test]
fn a_peers_words_are_quoted_escaped_and_cut() {
    assert_eq!(quoted("a\n\"b\x1b[1m"), r#""a\n\"b\u{1b}[1m""#);
    assert_eq!(quoted(&"ü".repeat(50)), format!("\"{}\"..", "ü".repeat(32)));
}
