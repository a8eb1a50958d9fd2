//! Invalid arguments: each error names the flag and the value.

use super::*;

#[test]
fn an_unknown_flag_is_named() {
    for word in ["--unknown", "--Origin", "---l", "-x"] {
        assert_eq!(error(&[word]), format!("unknown flag {word:?}"));
    }
    assert_eq!(
        error(&["echo", "--unknown=1"]),
        "unknown flag \"--unknown\""
    );
    let meant = "unknown flag \"--high-water\" (did you mean --high-water-bytes?)";
    assert_eq!(error(&["--high-water", "1M"]), meant);
}

#[test]
fn a_missing_value_error_names_the_flag() {
    let rows = ServerFlag::all().map(ServerFlag::spec);
    let flags = rows.filter(|row| row.takes_value).map(|row| row.long);
    for flag in flags.chain(["-l", "-r"]) {
        assert_eq!(error(&[flag]), format!("{flag} needs a value"));
    }
}

#[test]
fn a_value_for_a_flag_that_takes_none_is_an_error() {
    for flag in ["--no-page", "--reuse-port", "--help", "--version"] {
        let word = format!("{flag}=yes");
        assert_eq!(
            error(&[&word]),
            format!("{flag} takes no value, but has \"yes\"")
        );
    }
    assert_eq!(error(&["-h=x"]), "-h takes no value, but has \"x\"");
    assert_eq!(
        error(&["--no-page="]),
        "--no-page takes no value, but has \"\""
    );
}

#[test]
fn a_limit_or_no_page_given_twice_is_an_error() {
    for limit in &LIMITS {
        let (once, expected) = (example(limit), format!("{} is given twice", limit.flag));
        assert_eq!(error(&[&once, &once]), expected);
    }
    let expected = "--no-page is given twice";
    assert_eq!(error(&["--no-page", "--no-page"]), expected);
}

fn example(limit: &Limit) -> String {
    match limit.flag {
        "--lag" => "--lag=skip".to_owned(),
        flag => format!("{flag}=1"),
    }
}

#[test]
fn a_subprotocol_that_is_no_token_is_an_error() {
    for name in ["", "a b", "a,b", "gr\u{fc}n", "a/b"] {
        let expected =
            format!("--subprotocol {name:?} is not a token: letters, digits and some punctuation");
        assert_eq!(error(&["--subprotocol", name]), expected);
    }
}

#[test]
fn an_invalid_value_error_names_the_flag_and_the_value() {
    for limit in &LIMITS {
        for value in [
            "",
            "-1",
            "x",
            "1x",
            "99999999999999999999999",
            "1e3",
            "a\nb\x1b[2J",
        ] {
            let error = error(&[limit.flag, value]);
            let start = format!("{} {value:?} is ", limit.flag);
            assert!(error.starts_with(&start), "{error}");
        }
    }
    let table: [(&[&str], &str); 23] = [
        (&["--host", "http://x"], "--host \"http://x\" is not a host"),
        (
            &["--host=a", "--host=*"],
            "--host \"*\" cannot be used with another value, because * allows all",
        ),
        (
            &["--origin=*", "--origin=none"],
            "--origin \"none\" cannot be used with another value, because * allows all",
        ),
        (&["-l", "x"], "-l \"x\" has no port"),
        (&["--listen", ":1"], "--listen \":1\" has no host"),
        (&["-l", "--no-page"], "-l \"--no-page\" has no port"),
        (&["-r", "/x"], "-r \"/x\" is not PATH=HANDLER"),
        (
            &["--route=/=x"],
            "--route \"/=x\" has an unknown handler \"x\"",
        ),
        (&["--origin", "x/"], "--origin \"x/\" is not an origin"),
        (
            &["--lag", "Skip"],
            "--lag \"Skip\" is neither disconnect nor skip",
        ),
        (
            &["--replay", "64KB"],
            "--replay \"64KB\" is neither a number of messages, such as 20, nor of bytes, such as 64K",
        ),
        (&["--replay", "0"], "--replay \"0\" retains no message"),
        (
            &["echo", "--replay", "20"],
            "--replay needs a broadcast; add -r PATH=broadcast or remove --replay",
        ),
        (
            &["--replay", "20", "-r", "/=echo"],
            "--replay needs a broadcast; add -r PATH=broadcast or remove --replay",
        ),
        (
            &["echo", "--lag", "skip"],
            "--lag needs a broadcast; add -r PATH=broadcast or remove --lag",
        ),
        (
            &["-r", "/=reply:x", "--lag-bytes-max", "1M"],
            "--lag-bytes-max needs a broadcast; add -r PATH=broadcast or remove --lag-bytes-max",
        ),
        (
            &["--replay-bytes-max", "1M"],
            "--replay-bytes-max needs --replay; add --replay N or remove --replay-bytes-max",
        ),
        (
            &["--trusted-proxy", "localhost"],
            "--trusted-proxy \"localhost\" is not an address, such as 10.0.0.0/8",
        ),
        (
            &["--trusted-proxy", "10.0.0.0/33"],
            "--trusted-proxy \"10.0.0.0/33\" has no prefix length from 0 to 32",
        ),
        (
            &["--trusted-proxy", "10.0.0.1/8"],
            "--trusted-proxy \"10.0.0.1/8\" has bits after its prefix",
        ),
        (
            &["--trusted-proxy=::1", "--forwarded-header", "x-real-ip"],
            "--forwarded-header \"x-real-ip\" is neither x-forwarded-for nor forwarded",
        ),
        (
            &["--forwarded-header", "forwarded"],
            "--forwarded-header needs a trusted proxy; add --trusted-proxy NETWORK or remove",
        ),
        (
            &["--handshake-timeout", "off"],
            "--handshake-timeout \"off\" is not a duration",
        ),
    ];
    for (args, expected) in table {
        let error = error(args);
        assert!(error.starts_with(expected), "{args:?}: {error}");
    }
}

#[test]
fn an_address_or_a_path_given_twice_is_an_error() {
    let twice = error(&["-l", "9000", "-l", "127.0.0.1:9000"]);
    assert_eq!(twice, "-l \"127.0.0.1:9000\" is given twice");
    let twice = error(&["-r", "/a=echo", "-r", "/b=echo", "-r", "/a=broadcast"]);
    assert_eq!(
        twice,
        "-r \"/a=broadcast\" has the path \"/a\", which already has a route"
    );
}

#[test]
fn echo_and_broadcast_take_no_routes() {
    for command in ["echo", "broadcast"] {
        let error = error(&[command, "-r", "/a=echo"]);
        assert!(error.starts_with("-r \"/a=echo\" "), "{error}");
        assert!(error.ends_with("use wsloop serve"), "{error}");
    }
}

#[test]
fn inconsistent_limits_are_reported_by_flag_name() {
    let table: [(&[&str], &str); 19] = [
        (
            &["--message-bytes-max", "0"],
            "--message-bytes-max must be at least 1",
        ),
        (
            &["--fragments-max", "0"],
            "--fragments-max must be at least 1",
        ),
        (
            &["--head-bytes-max", "255"],
            "--head-bytes-max must be at least 256",
        ),
        (
            &["--headers-max", "125"],
            "--headers-max must be from 1 to 124",
        ),
        (
            &["--low-water-bytes", "1M"],
            "--low-water-bytes must be below --high-water-bytes",
        ),
        (
            &["--high-water-bytes", "0"],
            "--low-water-bytes must be below --high-water-bytes",
        ),
        (
            &["--backlog-bytes-max", "1K"],
            "--backlog-bytes-max must be at least --high-water-bytes",
        ),
        (
            &["--lag-bytes-max", "0"],
            "--lag-bytes-max must be at least 1",
        ),
        (
            &["--kernel-unsent-bytes-max", "2G"],
            "--kernel-unsent-bytes-max must be from 1 to 2147483647",
        ),
        (
            &["--connections-max", "0"],
            "--connections-max must be at least 1",
        ),
        (
            &["--handshakes-max", "0"],
            "--handshakes-max must be at least 1",
        ),
        (
            &["--handshakes-per-address-max", "1000001"],
            "--handshakes-per-address-max must be from 1 to 1000000",
        ),
        (
            &["--handshake-timeout", "0"],
            "--handshake-timeout must be from 1 ms to 7 days",
        ),
        (
            &["--idle-timeout", "0.1ms"],
            "--idle-timeout must be from 1 ms to 7 days",
        ),
        (
            &["--idle-timeout", "169h"],
            "--idle-timeout must be from 1 ms to 7 days",
        ),
        (
            &["--close-timeout", "0"],
            "--close-timeout must be from 1 ms to 7 days",
        ),
        (
            &["--write-timeout", "0"],
            "--write-timeout must be from 1 ms to 7 days",
        ),
        (
            &["--stop-spread", "169h"],
            "--stop-spread must be at most 7 days",
        ),
        (
            &["--shutdown-grace", "169h"],
            "--shutdown-grace must be at most 7 days",
        ),
    ];
    for (args, expected) in table {
        assert_eq!(error(args), expected, "{args:?}");
    }
}

#[cfg(unix)]
#[test]
fn invalid_utf8_is_reported_with_replacement_characters() {
    use std::os::unix::ffi::OsStringExt;
    let table: [(&[&[u8]], &str); 5] = [
        (&[b"ech\xFF"], "\"ech\u{FFFD}\" is not valid UTF-8"),
        (
            &[b"-l", b"h\xFF:80"],
            "-l \"h\u{FFFD}:80\" is not valid UTF-8",
        ),
        (&[b"--lag=\xFF"], "--lag \"\u{FFFD}\" is not valid UTF-8"),
        (&[b"--l\xFFg"], "unknown flag \"--l\u{FFFD}g\""),
        (&[b"-\xFF"], "unknown flag \"-\u{FFFD}\""),
    ];
    for (args, expected) in table {
        let args = args.iter().map(|word| OsString::from_vec(word.to_vec()));
        let error = parse(args, []);
        assert_eq!(error.unwrap_err().to_string(), expected);
    }
}
