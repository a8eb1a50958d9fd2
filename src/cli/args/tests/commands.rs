//! Commands: which there are, what each serves, its help.

use super::*;

#[test]
fn every_command_has_its_routes_and_leaves_open_where_to_listen() {
    type Routes<'a> = [(&'a str, &'a Route)];
    let three = [
        ("/echo", &Route::echo()),
        ("/broadcast", &Route::Broadcast),
        ("/", &Route::echo()),
    ];
    let echo = [("/*", &Route::echo())];
    let broadcast = [("/*", &Route::Broadcast)];
    let table: [(&[&str], &Routes<'_>); 5] = [
        (&[], &three),
        (&["serve"], &three),
        (&["--no-ping"], &three),
        (&["echo"], &echo),
        (&["broadcast"], &broadcast),
    ];
    for (words, expected) in table {
        let serve = serve(words);
        assert_eq!(routes(&serve), expected, "{words:?}");
        assert_eq!(serve.listen, [], "{words:?}");
        assert!(serve.origins.is_empty(), "{words:?}");
    }
    assert_eq!(config(&[]), Config::default());
}

#[test]
fn metrics_have_one_path_of_their_own() {
    assert_eq!(serve(&[]).metrics, None);
    assert_eq!(serve(&["--metrics", "/m"]).metrics.as_deref(), Some("/m"));
    let alone = serve(&["-r", "/a=echo", "--metrics", "/", "--no-page"]);
    assert_eq!(alone.metrics.as_deref(), Some("/"));
    let table: [(&[&str], &str); 6] = [
        (
            &["-r", "/a=echo", "--metrics", "/"],
            r#"--metrics "/" is the path of the page; with --no-page it can be"#,
        ),
        (
            &["--metrics", "m"],
            r#"--metrics "m" is a path which does not begin with /"#,
        ),
        (
            &["--metrics", "/*"],
            r#"--metrics "/*" must be one path, without *"#,
        ),
        (
            &["--metrics", "/a", "--metrics", "/b"],
            "--metrics is given twice",
        ),
        (
            &["--metrics", "/echo"],
            r#"--metrics "/echo" is the path of a route, too"#,
        ),
        (&["--metrics"], "--metrics needs a value"),
    ];
    for (words, expected) in table {
        assert_eq!(error(words), expected, "{words:?}");
    }
}

#[test]
fn the_log_is_text_or_json() {
    assert_eq!(serve(&[]).log_format, LogFormat::Text);
    assert_eq!(serve(&["--log-format=json"]).log_format, LogFormat::Json);
    let expected = r#"--log-format "xml" must be text or json"#;
    assert_eq!(error(&["--log-format", "xml"]), expected);
    let twice = ["--log-format=text", "--log-format=text"];
    assert_eq!(error(&twice), "--log-format is given twice");
}

#[test]
fn an_unknown_command_is_named() {
    for word in ["server", "9000", "", "-", "Echo", "Help"] {
        let error = error(&[word]);
        assert!(
            error.starts_with(&format!("unknown command {word:?}")),
            "{error}"
        );
    }
}

#[test]
fn a_word_that_is_no_flag_is_refused_after_the_first() {
    let table: [&[&str]; 5] = [
        &["serve", "9000"],
        &["echo", "9000"],
        &["-l", "9000", "9000"],
        &["--no-ping", "9000"],
        &["echo", "--", "9000"],
    ];
    for words in table {
        let error = error(words);
        assert!(
            error.starts_with("unexpected word \"9000\""),
            "{words:?}: {error}"
        );
    }
    assert!(error(&["-l", "9000", "echo"]).contains("a command stands first"));
}

#[test]
fn help_is_that_of_the_command_and_wins_over_what_follows() {
    let table: [(&[&str], &str); 15] = [
        (&["help"], help::WSLOOP),
        (&["help", "bench"], help::BENCH),
        (&["help", "help"], help::WSLOOP),
        (&["-h"], help::WSLOOP),
        (&["--help"], help::WSLOOP),
        (&["-l", "9000", "--help"], help::WSLOOP),
        (&["serve", "-h"], help::SERVE),
        (&["serve", "--help", "--unknown"], help::SERVE),
        (&["serve", "--low-water-bytes", "9G", "-h"], help::SERVE),
        (&["echo", "--help"], help::ECHO),
        (&["broadcast", "-h", "9000"], help::BROADCAST),
        (&["bench", "-h", "9000"], help::BENCH),
        (&["connect", "-h", "9000"], help::CONNECT),
        (&["connect", "-n", "--help", "-w", "1"], help::CONNECT),
        (&["bench", "ws://127.0.0.1/", "--help", "-x"], help::BENCH),
    ];
    for (words, expected) in table {
        match parse_words(words) {
            Ok(Command::Help(text)) => assert_eq!(text, expected, "{words:?}"),
            other => panic!("{words:?}: {other:?}"),
        }
    }
}

#[test]
fn the_version_is_asked_for_with_or_without_a_command() {
    for words in [
        &["-V"][..],
        &["--version"],
        &["echo", "-V"],
        &["serve", "--version", "x"],
        &["bench", "-V"],
        &["connect", "127.0.0.1", "-V", "-x"],
    ] {
        assert!(
            matches!(parse_words(words), Ok(Command::Version)),
            "{words:?}"
        );
    }
}
