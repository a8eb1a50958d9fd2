//! Translates error replies of the broker: what they mean, and what an operator has to change.

use crate::backplane::BackplaneError;

/// Returns the error for an error reply. Its text never contains the password.
pub(super) fn error(reply: &[u8], password: Option<&str>, prefix: &str) -> BackplaneError {
    let shown = shown(reply, password);
    let is_unknown_command =
        reply.starts_with(b"ERR unknown command") || reply.starts_with(b"ERR unknown subcommand");
    let code = reply.split(|byte| *byte == b' ').next().unwrap_or_default();
    let advice = match code {
        b"NOAUTH" => "needs a password: set it, and the user if it is not \"default\"",
        b"WRONGPASS" => "refuses this user with this password: correct them",
        b"NOPROTO" => "does not speak RESP3: Redis 7 or Valkey is needed",
        b"ERR" if is_unknown_command => "lacks a command: Redis 7 or Valkey is needed",
        b"DENIED" => {
            "is in protected mode, which refuses other machines: set a password in its configuration"
        }
        b"NOPERM" => {
            return BackplaneError::permanent(format!(
                "the broker denies a permission: allow the user the channels and commands \"&{prefix}* +hello +publish +subscribe \
                 +unsubscribe +client|list +client|kill\" with ACL SETUSER ({shown})"
            ));
        }
        b"READONLY" | b"MOVED" => "does not accept publications: connect to the primary server",
        _ => return BackplaneError::new(format!("the broker answers with an error: {shown}")),
    };
    BackplaneError::permanent(format!("the broker {advice} ({shown})"))
}

/// Returns whether an error is permanent: a missing permission (`NOPERM`), or a command or argument that this version lacks
/// (`ERR`). Others, such as `BUSY` during a script, are temporary.
pub(super) fn is_lasting(reply: &[u8]) -> bool {
    let code = reply.split(|byte| *byte == b' ').next();
    matches!(code, Some(b"NOPERM" | b"ERR"))
}

/// Returns the text of a reply as it may be logged: on one line, at most [`TEXT_CHARS_MAX`] characters, without the password.
pub(super) fn shown(reply: &[u8], password: Option<&str>) -> String {
    // A copy of a long text would need several times its memory. A password that begins in the part that is shown is whole.
    let bytes_max = 4 * TEXT_CHARS_MAX + password.map_or(0, str::len);
    let text = String::from_utf8_lossy(&reply[..reply.len().min(bytes_max)]);
    // Brokers repeat the arguments of an unknown command. Those of HELLO contain the password.
    let text = match text.split_once(", with args beginning with") {
        Some((text, _)) => text,
        None => &text,
    };
    if password.is_some_and(|password| !password.is_empty() && text.contains(password)) {
        return "its text contains the password".into();
    }
    let mut shown = String::new();
    for (count, char) in text.chars().enumerate() {
        match char {
            _ if count == TEXT_CHARS_MAX => {
                shown.push_str("...");
                break;
            }
            '\'' | '"' => shown.push(char),
            _ => shown.extend(char.escape_debug()),
        }
    }
    shown
}

/// Maximum characters of the broker's text.
const TEXT_CHARS_MAX: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_that_an_operator_must_correct_are_permanent_and_name_the_remedy() {
        let table = [
            ("NOAUTH Authentication required.", Some("set it")),
            (
                "NOAUTH HELLO must be called with the client already authenticated",
                Some("needs a password"),
            ),
            (
                "WRONGPASS invalid username-password pair or user is disabled.",
                Some("correct them"),
            ),
            ("NOPROTO unsupported protocol version", Some("Redis 7")),
            ("ERR unknown command 'HELLO'", Some("Redis 7")),
            ("ERR unknown command `HELLO`, with args", Some("Redis 7")),
            ("NOPERM No permissions to access a channel", Some("&p:*")),
            (
                "DENIED Redis is running in protected mode",
                Some("protected"),
            ),
            ("READONLY You can't write", Some("primary")),
            ("MOVED 1 127.0.0.1:7000", Some("primary")),
            ("ERR max number of clients reached", None),
            ("LOADING Redis is loading the dataset in memory", None),
            ("MASTERDOWN Link with MASTER is down", None),
            ("BUSY Redis is busy running a script", None),
            ("OOM command not allowed", None),
            ("", None),
        ];
        for (reply, remedy) in table {
            let error = error(reply.as_bytes(), Some("pw"), "p:");
            assert_eq!(error.is_permanent(), remedy.is_some(), "{reply}");
            let text = error.to_string();
            assert!(text.contains(remedy.unwrap_or("answers")), "{text}");
            assert!(text.contains(reply.split(',').next().unwrap()), "{text}");
        }
    }

    #[test]
    fn the_text_of_the_broker_is_one_short_line_without_the_password() {
        let reply =
            b"ERR unknown command `HELLO`, with args beginning with: `3`, `AUTH`, `u`, `sEcret`";
        for reply in [
            &reply[..],
            b"ERR sEcret",
            b"WRONGPASS sEcret",
            b"NOPERM sEcret",
        ] {
            let text = error(reply, Some("sEcret"), "p:").to_string();
            assert!(!text.contains("sEcret"), "{text}");
        }
        let long = [b"ERR a\r\nb\x1b[1m\xff".as_slice(), &[b'x'; 1000]].concat();
        let text = shown(&long, Some(""));
        assert!(text.starts_with(r"ERR a\r\nb\u{1b}[1m"), "{text}");
        assert!(text.ends_with("x..."), "{text}");
        assert!(text.len() < 300);
    }

    #[test]
    fn of_a_long_text_only_the_part_that_matters_is_read() {
        for before in [0, 100, 790, 2000, 1 << 20] {
            let text = [&b"ERR "[..], &vec![0xff; before], b"sEcret", &[b'x'; 2000]].concat();
            let shown = shown(&text, Some("sEcret"));
            assert!(!shown.contains("sEc"), "{before}: {shown}");
            assert_eq!(
                shown.starts_with("ERR "),
                before > 1000,
                "{before}: {shown}"
            );
        }
    }
}
