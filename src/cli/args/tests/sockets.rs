//! Unix sockets and the flags that set socket options.

use super::*;

#[test]
fn unix_sockets_and_tcp_addresses_can_be_mixed() {
    let args = ["-l", "unix:/run/ws", "-l", "0", "--listen=unix:b", "-l0"];
    let expected = ["unix:/run/ws", "0", "unix:b", "0"].map(|text| Listen::parse(text).unwrap());
    assert_eq!(serve(&args).listen, expected);
    let twice = error(&["-l", "unix:a", "-l", "9000", "-l", "unix:a"]);
    assert_eq!(twice, "-l \"unix:a\" is given twice");
    let long = format!("-l=unix:/{}", "x".repeat(200));
    assert!(error(&[&long]).contains("has a path of 201 bytes"));
}

#[test]
fn every_socket_flag_sets_its_field_and_nothing_else() {
    type Change = fn(&mut SocketOptions);
    let table: [(&[&str], Change); 9] = [
        (&[], |_| {}),
        (&["--unix-mode", "660", "-l=unix:x"], |options| {
            options.unix_mode = Some(0o660)
        }),
        (&["--reuse-port"], |options| options.is_port_shared = true),
        (&["--reuse-port", "-l=unix:x", "-l=9000"], |options| {
            options.is_port_shared = true
        }),
        (&["--tcp-keepalive", "2m"], |options| {
            options.tcp_keepalive = Some(Duration::from_secs(120))
        }),
        (&["--tcp-keepalive=off"], |_| {}),
        (&["--tcp-keepalive=off", "-l=unix:x"], |_| {}),
        (&["--tcp-user-timeout=1.5"], |options| {
            options.tcp_user_timeout = Some(Duration::from_millis(1500))
        }),
        (&["--tcp-user-timeout=0"], |_| {}),
    ];
    for (args, change) in table {
        let mut expected = SocketOptions::default();
        change(&mut expected);
        let serve = serve(args);
        assert_eq!(serve.sockets, expected, "{args:?}");
        assert_eq!(serve.config, Config::default(), "{args:?}");
    }
}

#[test]
fn invalid_socket_options_are_rejected() {
    let table: [(&[&str], &str); 16] = [
        (
            &["--unix-mode", "888"],
            "--unix-mode \"888\" is not an octal mode from 0 to 777, such as 660",
        ),
        (
            &["--unix-mode", "660"],
            "--unix-mode needs a Unix socket; add -l unix:PATH or remove --unix-mode",
        ),
        (
            &["--unix-mode", "660", "-l", "80"],
            "--unix-mode needs a Unix socket; add -l unix:PATH or remove --unix-mode",
        ),
        (
            &["--reuse-port", "-l", "unix:x"],
            "--reuse-port needs a TCP port; add -l PORT or remove --reuse-port",
        ),
        (
            &["--tcp-keepalive", "9", "-l", "unix:x"],
            "--tcp-keepalive needs a TCP port; add -l PORT or remove --tcp-keepalive",
        ),
        (
            &["-l", "proxy:unix:x", "--tcp-user-timeout", "9"],
            "--tcp-user-timeout needs a TCP port; add -l PORT or remove --tcp-user-timeout",
        ),
        (
            &["-l", "unix:x", "--kernel-unsent-bytes-max=1K"],
            "--kernel-unsent-bytes-max needs a TCP port; add -l PORT or remove --kernel-unsent-bytes-max",
        ),
        (
            &["--trusted-proxy=::1", "--trusted-proxy=unix", "-l80"],
            "--trusted-proxy unix needs a Unix socket; add -l unix:PATH or remove --trusted-proxy unix",
        ),
        (
            &["--trusted-proxy=unix"],
            "--trusted-proxy unix needs a Unix socket; add -l unix:PATH or remove --trusted-proxy unix",
        ),
        (
            &["-lunix:x", "--connections-per-address-max=9"],
            "--connections-per-address-max needs clients with addresses; add -l PORT or remove --connections-per-address-max",
        ),
        (
            &[
                "-lunix:x",
                "--handshakes-per-address-max=9",
                "--trusted-proxy=::1",
            ],
            "--handshakes-per-address-max needs clients with addresses; add -l PORT or remove --handshakes-per-address-max",
        ),
        (
            &["--reuse-port", "--reuse-port"],
            "--reuse-port is given twice",
        ),
        (
            &["--tcp-keepalive", "0.5"],
            "--tcp-keepalive \"0.5\" is not whole seconds from 1s to 9h, or off",
        ),
        (
            &["--tcp-keepalive", "x"],
            "--tcp-keepalive \"x\" is not a duration, such as 30, 0.5, 500ms, 2m or 1h",
        ),
        (
            &["--tcp-user-timeout", "25h"],
            "--tcp-user-timeout \"25h\" is not from 1ms to 24h",
        ),
        (
            &["--tcp-user-timeout=1", "--tcp-user-timeout=1"],
            "--tcp-user-timeout is given twice",
        ),
    ];
    for (args, expected) in table {
        assert_eq!(error(args), expected, "{args:?}");
    }
}

#[test]
fn metrics_have_a_listener_of_their_own_beside_the_others() {
    let listen = serve(&["-l", "80", "-l=metrics:9700"]).listen;
    let expected = ["80", "metrics:9700"].map(|text| Listen::parse(text).unwrap());
    assert_eq!(listen, expected);
    // The default address is shared.
    assert!(
        serve(&["-l=metrics:unix:x", "--reuse-port"])
            .sockets
            .is_port_shared
    );
    // On that listener, the path of the metrics can be that of a route or of the page.
    for path in ["/m", "/"] {
        let args = ["serve", "-r=/m=echo", "-l=metrics:9700", "--metrics", path];
        assert_eq!(serve(&args).metrics.as_deref(), Some(path));
    }
    for (args, expected) in [
        (
            &["-l=metrics:9700", "-l=9700"][..],
            "-l \"9700\" is given twice",
        ),
        (
            &["-l=metrics:", "-l=9700"],
            "-l \"metrics:\" has no port; expected PORT, HOST:PORT or [::1]:PORT",
        ),
        (
            &["-l=metrics:9700", "-l=unix:x", "--reuse-port"],
            "--reuse-port needs a TCP port; add -l PORT or remove --reuse-port",
        ),
    ] {
        assert_eq!(error(args), expected);
    }
}
