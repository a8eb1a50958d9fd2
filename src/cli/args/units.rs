//! Parses the values of flags: counts, bytes (`64K`) and durations (`1.5m`).
//!
//! Each error is the reason for a [`UsageError::invalid_value`](super::UsageError). The functions check the syntax;
//! `Config::check` checks whether a number is valid for its limit.

use std::str::FromStr;
use std::time::Duration;
use wsloop::Replay;

/// Parses a number that consists of digits only. Rejects the leading `+` that `FromStr` accepts.
pub(super) fn count<T: FromStr>(text: &str) -> Result<T, &'static str> {
    if !is_digits(text) {
        return Err("is not a whole number");
    }
    text.parse().map_err(|_| TOO_LARGE)
}

/// Parses a number, as [`count`] does. 0 and `off` are `None`.
pub(super) fn count_or_off(text: &str) -> Result<Option<usize>, &'static str> {
    if text == "off" {
        return Ok(None);
    }
    Ok(Some(count(text)?).filter(|count| *count > 0))
}

/// As [`count_or_off`], for a number of 32 bits.
pub(super) fn count_u32_or_off(text: &str) -> Result<Option<u32>, &'static str> {
    let count = count_or_off(text)?.map(u32::try_from);
    count.transpose().map_err(|_| TOO_LARGE)
}

/// Parses a number of bytes: digits, optionally followed by K, M or G (or KiB, MiB, GiB), which are powers of 1024.
pub(super) fn bytes(text: &str) -> Result<usize, &'static str> {
    let (digits, unit) = split(text, |c| c.is_ascii_digit());
    let factor: usize = match unit.to_ascii_lowercase().as_str() {
        "" => 1,
        "k" | "kib" => 1 << 10,
        "m" | "mib" => 1 << 20,
        "g" | "gib" => 1 << 30,
        _ => return Err(NOT_BYTES),
    };
    if !is_digits(digits) {
        return Err(NOT_BYTES);
    }
    let number: usize = digits.parse().map_err(|_| TOO_LARGE)?;
    number.checked_mul(factor).ok_or(TOO_LARGE)
}

/// Parses a number of bytes, as [`bytes`] does. 0 and `off` are `None`.
pub(super) fn bytes_or_off(text: &str) -> Result<Option<u32>, &'static str> {
    if text == "off" {
        return Ok(None);
    }
    let bytes = u32::try_from(bytes(text)?).map_err(|_| TOO_LARGE)?;
    Ok(Some(bytes).filter(|bytes| *bytes > 0))
}

/// Parses what is retained for replay: a number of messages, or a number of bytes with K, M or G. At least 1.
pub(super) fn replay(text: &str) -> Result<Replay, &'static str> {
    let replay = if is_digits(text) {
        Replay::Messages(count(text)?)
    } else {
        let parsed = bytes(text).map_err(|reason| match reason {
            NOT_BYTES => NOT_REPLAY,
            reason => reason,
        });
        Replay::Bytes(parsed?)
    };
    match replay {
        Replay::Messages(0) | Replay::Bytes(0) => Err(NO_REPLAY),
        replay => Ok(replay),
    }
}

/// Parses a duration: a number of seconds, or a number followed by ms, s, m or h. Fractions are allowed, exponents
/// are not. Digits below a nanosecond are ignored.
///
/// Uses integers only, because std's floating-point parser would add 16 KiB to the binary.
pub(super) fn duration(text: &str) -> Result<Duration, &'static str> {
    let (number, unit) = split(text, |c| c.is_ascii_digit() || c == '.');
    let unit: u128 = match unit {
        "ms" => 1_000_000,
        "" | "s" => NANOS,
        "m" => 60 * NANOS,
        "h" => 3600 * NANOS,
        _ => return Err(NOT_DURATION),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if !is_digits(whole) && !is_digits(fraction) || fraction.contains('.') {
        return Err(NOT_DURATION);
    }
    let digits = whole.trim_start_matches('0');
    let whole: u64 = match digits {
        "" => 0,
        digits => digits.parse().map_err(|_| TOO_LARGE)?,
    };
    let mut nanos = u128::from(whole) * unit;
    let mut place = unit;
    for digit in fraction.bytes() {
        place /= 10;
        nanos += u128::from(digit - b'0') * place;
    }
    let seconds = u64::try_from(nanos / NANOS).map_err(|_| TOO_LARGE)?;
    let nanos = u32::try_from(nanos % NANOS).expect("a remainder of 10^9 is below 2^32");
    Ok(Duration::new(seconds, nanos))
}

/// Parses a duration, as [`duration`] does. 0 and `off` are `None`.
pub(super) fn duration_or_off(text: &str) -> Result<Option<Duration>, &'static str> {
    if text == "off" {
        return Ok(None);
    }
    Ok(Some(duration(text)?).filter(|duration| !duration.is_zero()))
}

/// Nanoseconds per second.
const NANOS: u128 = 1_000_000_000;

/// Returns whether `text` consists of one or more ASCII digits.
pub(super) fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Splits `text` into a number and its unit.
fn split(text: &str, is_number: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(|c| !is_number(c)).unwrap_or(text.len()))
}

const TOO_LARGE: &str = "is too large";
const NOT_BYTES: &str = "is not a number of bytes, such as 65536, 64K or 16M";
const NOT_REPLAY: &str = "is neither a number of messages, such as 20, nor of bytes, such as 64K";
const NO_REPLAY: &str = "retains no message; without the flag, none is retained";
const NOT_DURATION: &str = "is not a duration, such as 30, 0.5, 500ms, 2m or 1h";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_digits() {
        assert_eq!(count::<usize>("0"), Ok(0));
        assert_eq!(count::<u32>("4294967295"), Ok(u32::MAX));
        assert_eq!(count::<u32>("4294967296"), Err(TOO_LARGE));
        for text in ["", "-1", "+1", "1.5", "1K", " 1", "1 ", "x", "1_000", "١"] {
            assert_eq!(
                count::<usize>(text),
                Err("is not a whole number"),
                "{text:?}"
            );
        }
    }

    #[test]
    fn a_count_can_be_off() {
        for (text, expected) in [("off", None), ("0", None), ("00", None), ("7", Some(7))] {
            assert_eq!(count_or_off(text), Ok(expected), "{text:?}");
            let expected = expected.map(|count| count as u32);
            assert_eq!(count_u32_or_off(text), Ok(expected), "{text:?}");
        }
        assert_eq!(count_u32_or_off("4294967296"), Err(TOO_LARGE));
        for text in ["Off", "no", "-1", "off "] {
            assert_eq!(count_or_off(text), Err("is not a whole number"), "{text:?}");
        }
    }

    #[test]
    fn bytes_are_plain_or_in_powers_of_1024() {
        let table = [
            ("0", 0),
            ("65536", 65_536),
            ("64K", 65_536),
            ("64k", 65_536),
            ("64KiB", 65_536),
            ("16M", 16 << 20),
            ("16mib", 16 << 20),
            ("1G", 1 << 30),
            ("1GiB", 1 << 30),
        ];
        for (text, expected) in table {
            assert_eq!(bytes(text), Ok(expected), "{text:?}");
        }
    }

    #[test]
    fn an_optional_byte_count_is_none_if_it_is_0_or_off() {
        for text in ["0", "0K", "off"] {
            assert_eq!(bytes_or_off(text), Ok(None), "{text:?}");
        }
        assert_eq!(bytes_or_off("4K"), Ok(Some(4096)));
        assert_eq!(bytes_or_off("4294967295"), Ok(Some(u32::MAX)));
        assert_eq!(bytes_or_off("4G"), Err(TOO_LARGE));
        for text in ["Off", "", "none", "-1"] {
            assert_eq!(bytes_or_off(text), Err(NOT_BYTES), "{text:?}");
        }
    }

    #[test]
    fn invalid_byte_counts_are_rejected() {
        // KB is rejected because it is ambiguous: 1000 or 1024 bytes.
        for text in [
            "", "K", "-1", "+1", "1.5M", "1KB", "1T", "1 K", "1KK", "0x10", "x", "é",
        ] {
            assert_eq!(bytes(text), Err(NOT_BYTES), "{text:?}");
        }
        for text in [
            "18446744073709551616",
            "17179869184G",
            "99999999999999999999K",
        ] {
            assert_eq!(bytes(text), Err(TOO_LARGE), "{text:?}");
        }
    }

    #[test]
    fn a_replay_is_a_number_of_messages_or_bytes_with_a_unit() {
        assert_eq!(replay("20"), Ok(Replay::Messages(20)));
        assert_eq!(replay("65536"), Ok(Replay::Messages(65_536)));
        assert_eq!(replay("64K"), Ok(Replay::Bytes(65_536)));
        assert_eq!(replay("1mib"), Ok(Replay::Bytes(1 << 20)));
        for text in ["0", "0K", "000"] {
            assert_eq!(replay(text), Err(NO_REPLAY), "{text:?}");
        }
        for text in ["", "-1", "1.5K", "20 messages", "64KB", "off", "K"] {
            assert_eq!(replay(text), Err(NOT_REPLAY), "{text:?}");
        }
        for text in ["18446744073709551616", "17179869184G"] {
            assert_eq!(replay(text), Err(TOO_LARGE), "{text:?}");
        }
    }

    #[test]
    fn durations_are_seconds_or_name_their_unit() {
        let table = [
            ("0", 0),
            ("30", 30_000),
            ("0.5", 500),
            (".5", 500),
            ("5.", 5000),
            ("007.0s", 7000),
            ("0.0019999999999999999999ms", 0),
            ("1.25s", 1250),
            ("500ms", 500),
            ("3ms", 3),
            ("2m", 120_000),
            ("1.1h", 3_960_000),
        ];
        for (text, millis) in table {
            assert_eq!(
                duration(text).map(|time| time.as_millis()),
                Ok(millis),
                "{text:?}"
            );
        }
        let parts = [
            ("0.000000001", 1),
            ("1.9999ms", 1_999_900),
            (".00001h", 36_000_000),
        ];
        for (text, nanos) in parts {
            assert_eq!(duration(text), Ok(Duration::from_nanos(nanos)), "{text:?}");
        }
    }

    #[test]
    fn invalid_durations_are_rejected() {
        let texts = [
            "", ".", "s", ".s", "-1", "+1", "1.2.3", "1..2", "1e3", "inf", "NaN", "1d", "1M",
            "5 s", "é",
        ];
        for text in texts {
            assert_eq!(duration(text), Err(NOT_DURATION), "{text:?}");
        }
        for text in ["18446744073709551616", "9999999999999999999h"] {
            assert_eq!(duration(text), Err(TOO_LARGE), "{text:?}");
        }
    }
}
