//! `wsloop bench`: defaults, flags, and flags that contradict each other.

use super::super::bench::flags::FLAGS;
use super::*;

const URL: &str = "ws://127.0.0.1:9/";

/// Parses `bench URL` followed by `args`.
fn bench(args: &[&str]) -> Bench {
    bench_of(&[&["bench", URL], args].concat())
}

fn error_after_url(args: &[&str]) -> String {
    error(&[&["bench", URL], args].concat())
}

fn default() -> Bench {
    Bench {
        url: Url::parse(URL).unwrap(),
        headers: Vec::new(),
        subprotocols: Vec::new(),
        tls: ClientTls::default(),
        is_tls_resumed: false,
        connections: 100,
        connect_rate: None,
        duration: MS * 10_000,
        warmup: MS * 1000,
        timeout: MS * 10_000,
        size: 20,
        is_binary: false,
        load: Load::InFlight(1),
        skip_greeting: None,
        verify: false,
        show_percentiles: false,
        json: false,
        chart: None,
        pid: None,
    }
}

const MS: Duration = Duration::from_millis(1);

#[test]
fn only_the_url_is_required() {
    assert_eq!(bench(&[]), default());
}

#[test]
fn every_flag_sets_its_field_and_nothing_else() {
    type Change = fn(&mut Bench);
    let table: [(&[&str], Change); 23] = [
        (&["-c", "7"], |bench| bench.connections = 7),
        (&["--connections=7"], |bench| bench.connections = 7),
        (&["-d", "0.5"], |bench| bench.duration = MS * 500),
        (&["--duration", "2m"], |bench| bench.duration = MS * 120_000),
        (&["-s", "64K"], |bench| bench.size = 65_536),
        (&["--size", "0"], |bench| bench.size = 0),
        (&["-p", "32"], |bench| bench.load = Load::InFlight(32)),
        (&["--in-flight=2"], |bench| bench.load = Load::InFlight(2)),
        (&["--rate", "1000"], |bench| bench.load = Load::Rate(1000)),
        (&["--connect-rate", "9"], |bench| {
            bench.connect_rate = Some(9);
        }),
        (&["--warmup", "0"], |bench| bench.warmup = Duration::ZERO),
        (&["--timeout", "200ms"], |bench| bench.timeout = MS * 200),
        (&["--text", "--mode", "echo"], |_| ()),
        (
            &["-H", "Authorization: Bearer x", "--header=X-A:"],
            |bench| {
                bench.headers = vec![
                    ("Authorization".to_owned(), "Bearer x".to_owned()),
                    ("X-A".to_owned(), String::new()),
                ];
            },
        ),
        (&["--subprotocol", "a", "--subprotocol=b"], |bench| {
            bench.subprotocols = vec!["a".to_owned(), "b".to_owned()];
        }),
        (&["-o", "https://a.example"], |bench| {
            bench.headers = vec![("Origin".to_owned(), "https://a.example".to_owned())];
        }),
        (&["--skip-greeting", "0"], |bench| {
            bench.skip_greeting = Some(0)
        }),
        (&["--chart", "a b.svg"], |bench| {
            bench.chart = Some("a b.svg".to_owned());
        }),
        (&["--binary"], |bench| bench.is_binary = true),
        (&["--latency"], |bench| bench.show_percentiles = true),
        (&["--verify"], |bench| bench.verify = true),
        (&["--json"], |bench| bench.json = true),
        (&["--pid", "12"], |bench| bench.pid = Some(12)),
    ];
    for (args, change) in table {
        let mut expected = default();
        change(&mut expected);
        assert_eq!(bench(args), expected, "{args:?}");
    }
}

#[test]
fn a_host_header_replaces_that_of_the_url() {
    let args: [(&[&str], &str); 2] = [
        (&[], "127.0.0.1:9"),
        (&["-H", "hOst: a.example"], "a.example"),
    ];
    for (args, host) in args {
        let mut request = Vec::new();
        let opening = bench(args).opening([0; 16]).unwrap();
        opening.encode_request(&mut request);
        let request = String::from_utf8(request).unwrap().to_ascii_lowercase();
        assert!(
            request.contains(&format!("\r\nhost: {host}\r\n")),
            "{request}"
        );
        assert_eq!(request.matches("host:").count(), 1, "{request}");
    }
}

#[test]
fn a_broadcast_has_senders_and_bursts() {
    let table: [(&[&str], usize, u64); 3] = [
        (&["--mode", "broadcast"], 100, 1),
        (&["-c5", "--burst=3", "--mode=broadcast"], 5, 3),
        (&["--mode=broadcast", "--senders", "10"], 10, 1),
    ];
    for (args, senders, burst) in table {
        let load = Load::Broadcast { senders, burst };
        assert_eq!(bench(args).load, load, "{args:?}");
    }
}

#[test]
fn the_threads_flag_is_rejected_with_the_reason() {
    for args in [&["-t", "4"], &["--threads", "4"]] {
        let error = error_after_url(args);
        assert!(error.contains("one thread"), "{error}");
    }
}

#[test]
fn an_error_names_the_invalid_argument() {
    let table: [(&[&str], &str); 30] = [
        (&[URL], "unexpected argument \"ws://127.0.0.1:9/\""),
        (&["-c", "0"], "-c \"0\" is not from 1 to 1000000"),
        (&["-c", "x"], "-c \"x\" is not a whole number"),
        (&["-c"], "-c needs a value"),
        (
            &["-c", "1", "--connections", "2"],
            "--connections is given twice",
        ),
        (&["-d", "0"], "-d \"0\" is not from 1ms to 24h"),
        (&["-d", "25h"], "-d \"25h\" is not from 1ms to 24h"),
        (&["-d", "1d"], "-d \"1d\" is not a duration"),
        (&["-s", "2G"], "-s \"2G\" is above 1G"),
        (&["-p", "0"], "-p \"0\" is not from 1 to"),
        (&["--rate", "0"], "--rate \"0\" is not from 1 to"),
        (
            &["--mode", "chat"],
            "--mode \"chat\" is neither echo nor broadcast",
        ),
        (&["--json=yes"], "--json takes no value, but has \"yes\""),
        (
            &["--text", "--binary"],
            "--text cannot be used with --binary",
        ),
        (
            &["--rate", "1", "-p", "2"],
            "--in-flight cannot be used with --rate",
        ),
        (
            &["-H", "Host: a", "-H", "host:b"],
            "-H \"host:b\" is a second Host",
        ),
        (&["-H", "Host: a b"], "-H \"Host: a b\" is invalid: "),
        (&["-H", "X"], "-H \"X\" is not NAME:VALUE"),
        (&["-H", "a b: c"], "-H \"a b: c\" is invalid: "),
        (
            &["--subprotocol", "a,b"],
            "--subprotocol \"a,b\" is invalid: ",
        ),
        (
            &["--subprotocol", "a", "--subprotocol", "a"],
            "--subprotocol \"a\" is invalid: ",
        ),
        (&["-o", "a", "-o", "b"], "--origin is given twice"),
        (
            &["-o", "a", "-H", "Origin: b"],
            "--origin cannot be used with --header Origin",
        ),
        (
            &["--skip-greeting", "x"],
            "--skip-greeting \"x\" is not a whole number",
        ),
        (&["--chart", ""], "--chart \"\" is not the name of a file"),
        (
            &["--senders", "1"],
            "--senders cannot be used with --mode echo",
        ),
        (&["--burst", "1"], "--burst cannot be used with --mode echo"),
        (
            &["--mode", "broadcast", "-p", "1"],
            "--in-flight cannot be used with --mode broadcast",
        ),
        (
            &["--mode", "broadcast", "--rate", "1"],
            "--rate cannot be used with --mode broadcast",
        ),
        (
            &["--mode", "broadcast", "-c", "5", "--senders", "6"],
            "--senders 6 is more than the 5 connections of --connections",
        ),
    ];
    for (args, expected) in table {
        let error = error_after_url(args);
        assert!(error.starts_with(expected), "{args:?}: {error}");
    }
    assert!(error(&["bench"]).starts_with("bench needs a URL"));
    assert_eq!(
        error_after_url(&["--late"]),
        "unknown flag \"--late\" (did you mean --latency?)"
    );
    assert_eq!(error_after_url(&["-l", "9"]), "unknown flag \"-l\"");
}

/// Returns the entry of a flag in the help text, on one line.
fn entry(flag: &str) -> String {
    let is_of = |line: &str| line.starts_with("  ") && line.contains(flag);
    let mut lines = help::BENCH.lines().skip_while(|line| !is_of(line));
    let first = lines
        .next()
        .unwrap_or_else(|| panic!("{flag} has no entry"));
    let more = lines.take_while(|line| line.starts_with("                "));
    let words = std::iter::once(first).chain(more);
    let words = words.flat_map(str::split_whitespace);
    words.collect::<Vec<_>>().join(" ")
}

#[test]
fn the_help_has_every_flag_and_its_default() {
    for flag in &FLAGS {
        let entry = entry(flag.long);
        if let Some(short) = flag.short {
            let both = format!("{short}, {}", flag.long);
            assert!(entry.contains(&both), "{entry}");
        }
        let Some((_, value)) = entry.split_once("default ") else {
            continue;
        };
        if !flag.takes_value() || value.starts_with("all ") {
            continue;
        }
        let value = value.split([' ', ';', ',', ':']).next().unwrap();
        let mut args = vec![flag.long, value];
        let mut without = default();
        if flag.long == "--burst" {
            args.extend(["--mode", "broadcast"]);
            without = bench(&["--mode", "broadcast"]);
        }
        assert_eq!(bench(&args), without, "{entry}");
    }
}

#[test]
fn every_flag_in_the_help_exists() {
    let words = help::BENCH.split(|c: char| c.is_whitespace() || ",;.:()".contains(c));
    for word in words.filter(|word| word.starts_with("--")) {
        let is_known = FLAGS.iter().any(|flag| flag.long == word);
        assert!(
            is_known || ["--help", "--version"].contains(&word),
            "{word}"
        );
    }
}
