//! Commands: their names, default routes and help texts.

use super::*;

#[test]
fn every_command_has_default_routes_and_no_listener() {
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
        (&["--lag=skip"], &three),
        (&["echo"], &echo),
        (&["broadcast"], &broadcast),
    ];
    for (args, expected) in table {
        let serve = serve(args);
        assert_eq!(routes(&serve), expected, "{args:?}");
        assert_eq!(serve.listen, [], "{args:?}");
        assert!(serve.origins.is_empty(), "{args:?}");
    }
    assert_eq!(config(&[]), Config::default());
}

#[test]
fn the_metrics_path_is_exact_and_differs_from_routes_and_page() {
    assert_eq!(serve(&[]).metrics, None);
    assert_eq!(serve(&["--metrics", "/m"]).metrics.as_deref(), Some("/m"));
    let alone = serve(&["-r", "/a=echo", "--metrics", "/", "--no-page"]);
    assert_eq!(alone.metrics.as_deref(), Some("/"));
    let table: [(&[&str], &str); 6] = [
        (
            &["-r", "/a=echo", "--metrics", "/"],
            r#"--metrics "/" is the path of the built-in page; choose another path or add --no-page"#,
        ),
        (
            &["--metrics", "m"],
            r#"--metrics "m" does not begin with /"#,
        ),
        (
            &["--metrics", "/*"],
            r#"--metrics "/*" is not an exact path: it contains *"#,
        ),
        (
            &["--metrics", "/a", "--metrics", "/b"],
            "--metrics is given twice",
        ),
        (
            &["--metrics", "/echo"],
            r#"--metrics "/echo" is also the path of a route; choose another path"#,
        ),
        (&["--metrics"], "--metrics needs a value"),
    ];
    for (args, expected) in table {
        assert_eq!(error(args), expected, "{args:?}");
    }
}

#[test]
fn the_log_is_text_or_json() {
    assert_eq!(serve(&[]).log_format, LogFormat::Text);
    assert_eq!(serve(&["--log-format=json"]).log_format, LogFormat::Json);
    let expected = r#"--log-format "xml" is neither text nor json"#;
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
fn an_extra_positional_argument_is_rejected() {
    let table: [&[&str]; 5] = [
        &["serve", "9000"],
        &["echo", "9000"],
        &["-l", "9000", "9000"],
        &["--no-page", "9000"],
        &["echo", "--", "9000"],
    ];
    for args in table {
        let error = error(args);
        assert!(
            error.starts_with("unexpected argument \"9000\""),
            "{args:?}: {error}"
        );
    }
    assert!(error(&["-l", "9000", "echo"]).contains("the command comes first"));
}

#[test]
fn help_is_for_the_command_and_ignores_later_arguments() {
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
    for (args, expected) in table {
        match parse_args(args) {
            Ok(Command::Help(text)) => assert_eq!(text, expected, "{args:?}"),
            other => panic!("{args:?}: {other:?}"),
        }
    }
}

#[test]
fn the_version_flag_works_with_and_without_a_command() {
    for args in [
        &["-V"][..],
        &["--version"],
        &["echo", "-V"],
        &["serve", "--version", "x"],
        &["bench", "-V"],
        &["connect", "127.0.0.1", "-V", "-x"],
    ] {
        assert!(matches!(parse_args(args), Ok(Command::Version)), "{args:?}");
    }
}
