//! Valid flags: each sets its field.

use super::*;

#[test]
fn listeners_stay_in_order() {
    let table: [&[&str]; 4] = [
        &["-l", "9000", "--listen", "[::1]:0", "-l", "[::1]:0"],
        &["serve", "-l9000", "-l=[::1]:0", "--listen=[::1]:0"],
        &["echo", "-l", "9000", "-l", "[::1]:0", "-l", "[::1]:0"],
        &["broadcast", "-l", "9000", "-l", "[::1]:0", "-l", "[::1]:0"],
    ];
    for args in table {
        let serve = serve(args);
        let sockets: Vec<_> = serve
            .listen
            .iter()
            .map(|one| match &one.at {
                ListenAddress::Tcp(address) => address.resolve().unwrap().to_string(),
                ListenAddress::Unix(path) => panic!("{path}"),
            })
            .collect();
        assert_eq!(
            sockets,
            ["127.0.0.1:9000", "[::1]:0", "[::1]:0"],
            "{args:?}"
        );
    }
}

#[test]
fn routes_stay_in_order_and_replace_the_default_ones() {
    let args = [
        "serve",
        "-r",
        "/chat=broadcast",
        "--route=/*=reply:{\"a\":1}",
        "-r",
        "/=echo:>",
    ];
    let reply = Route::Reply {
        text: "{\"a\":1}".to_owned(),
    };
    let echo = Route::Echo {
        prefix: ">".to_owned(),
    };
    let expected = [("/chat", &Route::Broadcast), ("/*", &reply), ("/", &echo)];
    assert_eq!(routes(&serve(&args)), expected);
    assert_eq!(routes(&serve(&args[1..])), expected);
}

#[test]
fn a_replay_is_for_all_broadcasts() {
    assert_eq!(serve(&[]).replay, None);
    let table: [(&[&str], Replay); 4] = [
        (&["--replay", "20"], Replay::Messages(20)),
        (&["broadcast", "--replay=64K"], Replay::Bytes(65_536)),
        (
            &["-r", "/a=echo", "-r", "/b=broadcast", "--replay", "1M"],
            Replay::Bytes(1 << 20),
        ),
        (
            &["--replay", "1", "-r", "/b=broadcast"],
            Replay::Messages(1),
        ),
    ];
    for (args, expected) in table {
        assert_eq!(serve(args).replay, Some(expected), "{args:?}");
    }
}

#[test]
fn origins_are_stored_in_lower_case() {
    let args = [
        "echo",
        "--origin",
        "https://Example.org",
        "--origin=null",
        "--origin=none",
    ];
    let listed = |text: &str| Origin::Listed(text.to_owned());
    let expected = [listed("https://example.org"), listed("null"), Origin::None];
    assert_eq!(serve(&args).origins, expected);
    assert_eq!(serve(&["--origin=*"]).origins, [Origin::Any]);
}

#[test]
fn hosts_stay_in_order() {
    let args = ["echo", "--host", "Example.org", "--host=[::1]:80"];
    let listed = |text: &str| Host::Listed(text.to_owned());
    let expected = [listed("Example.org"), listed("[::1]:80")];
    assert_eq!(serve(&args).hosts, expected);
    assert_eq!(serve(&["--host=*"]).hosts, [Host::Any]);
}

#[test]
fn trusted_proxies_are_networks() {
    let args = [
        "-lunix:x",
        "--trusted-proxy",
        "10.0.0.0/8",
        "--trusted-proxy=unix",
    ];
    let expected = ["10.0.0.0/8", "unix"].map(|text| text.parse().unwrap());
    assert_eq!(config(&args).trusted_proxies, expected);
    assert_eq!(
        config(&args).forwarded_header,
        ForwardedHeader::XForwardedFor
    );
    for (name, header) in [
        ("forwarded", ForwardedHeader::Forwarded),
        ("x-forwarded-for", ForwardedHeader::XForwardedFor),
    ] {
        let args = ["--trusted-proxy=::1", "--forwarded-header", name];
        assert_eq!(config(&args).forwarded_header, header);
    }
}

#[test]
fn the_page_is_served_unless_no_page_is_given() {
    let table: [(&[&str], bool); 5] = [
        (&[], true),
        (&["echo"], true),
        (&["--no-page"], false),
        (&["serve", "-r", "/=echo", "--no-page"], false),
        (&["broadcast", "--no-page", "-l", "9000"], false),
    ];
    for (args, expected) in table {
        assert_eq!(serve(args).page, expected, "{args:?}");
    }
}

#[test]
fn every_limit_sets_its_field_and_nothing_else() {
    type Change = fn(&mut Config);
    let table: [(&[&str], Change); 31] = [
        (&["--message-bytes-max", "64K"], |config| {
            config.message_bytes_max = 65_536
        }),
        (&["--fragments-max", "7"], |config| config.fragments_max = 7),
        (&["--head-bytes-max=8K"], |config| {
            config.head_bytes_max = 8192
        }),
        (&["--headers-max", "124"], |config| config.headers_max = 124),
        (&["--handshake-timeout", "0.5"], |config| {
            config.handshake_timeout = MS * 500
        }),
        (&["--idle-timeout", "2h"], |config| {
            config.idle_timeout = Some(MS * 7_200_000)
        }),
        (&["--idle-timeout", "0"], |config| {
            config.idle_timeout = None
        }),
        (&["--idle-timeout", "0s"], |config| {
            config.idle_timeout = None
        }),
        (&["--idle-timeout=off"], |config| config.idle_timeout = None),
        (&["--ping-interval", "10s"], |config| {
            config.ping_interval = Some(MS * 10_000)
        }),
        (&["--ping-interval=off"], |config| {
            config.ping_interval = None
        }),
        (&["--close-timeout", "50ms"], |config| {
            config.close_timeout = MS * 50
        }),
        (&["--write-timeout", "1m"], |config| {
            config.write_timeout = MS * 60_000
        }),
        (&["--high-water-bytes", "512K"], |config| {
            config.high_water_bytes = 524_288
        }),
        (&["--low-water-bytes", "0"], |config| {
            config.low_water_bytes = 0
        }),
        (&["--backlog-bytes-max", "1G"], |config| {
            config.backlog_bytes_max = 1 << 30
        }),
        (&["--lag-bytes-max", "1"], |config| config.lag_bytes_max = 1),
        (&["--lag", "disconnect"], |config| {
            config.lag_policy = LagPolicy::Disconnect
        }),
        (&["--lag", "skip"], |config| {
            config.lag_policy = LagPolicy::Skip
        }),
        (&["--kernel-unsent-bytes-max", "4K"], |config| {
            config.kernel_unsent_bytes_max = Some(4096)
        }),
        (&["--kernel-unsent-bytes-max=off"], |config| {
            config.kernel_unsent_bytes_max = None
        }),
        (&["--replay-bytes-max", "0", "--replay=1"], |config| {
            config.replay_bytes_max = 0
        }),
        (&["--connections-max", "9"], |config| {
            config.connections_max = 9
        }),
        (&["--handshakes-max", "9"], |config| {
            config.handshakes_max = 9
        }),
        (&["--connections-per-address-max", "9"], |config| {
            config.connections_per_address_max = Some(9)
        }),
        (&["--connections-per-address-max=off"], |config| {
            config.connections_per_address_max = None
        }),
        (&["--handshakes-per-address-max", "9"], |config| {
            config.handshakes_per_address_max = Some(9)
        }),
        (&["--handshakes-per-address-max", "0"], |config| {
            config.handshakes_per_address_max = None
        }),
        (&["--stop-spread", "30s"], |config| {
            config.stop_spread = MS * 30_000
        }),
        (&["--shutdown-grace", "0"], |config| {
            config.shutdown_grace = Duration::ZERO
        }),
        (&["--shutdown-grace", "168h"], |config| {
            config.shutdown_grace = MS * 604_800_000
        }),
    ];
    for (args, change) in table {
        let mut expected = Config::default();
        change(&mut expected);
        assert_eq!(config(args), expected, "{args:?}");
    }
    for limit in &LIMITS {
        let is_there = table
            .iter()
            .any(|(args, _)| args[0].split('=').next() == Some(limit.flag));
        assert!(is_there, "{} has no row", limit.flag);
    }
}

/// The log names a limit by its flag, which is the name of its field with dashes.
#[test]
fn every_limit_that_ends_a_connection_has_a_flag() {
    use wsloop::Limit as L;
    let limits = [
        L::ConnectionsMax,
        L::HandshakesMax,
        L::ConnectionsPerAddressMax,
        L::HandshakesPerAddressMax,
        L::HandshakeTimeout,
        L::IdleTimeout,
        L::WriteTimeout,
        L::BacklogBytesMax,
        L::LagBytesMax,
    ];
    let names = limits.map(L::name);
    let others = [
        "message_bytes_max",
        "fragments_max",
        "head_bytes_max",
        "headers_max",
        "shutdown_grace",
    ];
    for name in names.into_iter().chain(others) {
        assert!(flag_of_limit(name).is_some(), "{name}");
    }
}

#[test]
fn limits_not_given_are_derived_from_those_given() {
    // Arguments; expected high-water mark, low-water mark, maximum message size and maximum backlog.
    let table: [(&[&str], [usize; 4]); 10] = [
        (&[], [1 << 20, 256 << 10, 16 << 20, 18 << 20]),
        (
            &["--high-water-bytes=2M"],
            [2 << 20, 256 << 10, 16 << 20, 19 << 20],
        ),
        (
            &["--message-bytes-max=32M"],
            [1 << 20, 256 << 10, 32 << 20, 34 << 20],
        ),
        (
            &["--message-bytes-max=1K"],
            [1 << 20, 256 << 10, 1024, 18 << 20],
        ),
        (
            &["--high-water-bytes=2M", "--message-bytes-max=1M"],
            [2 << 20, 256 << 10, 1 << 20, 4 << 20],
        ),
        (
            &["--high-water-bytes=2M", "--backlog-bytes-max=2M"],
            [2 << 20, 256 << 10, 16 << 20, 2 << 20],
        ),
        (
            &["--backlog-bytes-max=2M", "--message-bytes-max=32M"],
            [1 << 20, 256 << 10, 32 << 20, 2 << 20],
        ),
        (
            &["--high-water-bytes=256K"],
            [256 << 10, 64 << 10, 16 << 20, 18 << 20],
        ),
        (&["--high-water-bytes=1"], [1, 0, 16 << 20, 18 << 20]),
        (
            &["--high-water-bytes=64K", "--low-water-bytes=1K"],
            [64 << 10, 1024, 16 << 20, 18 << 20],
        ),
    ];
    for (args, expected) in table {
        let Config {
            high_water_bytes,
            low_water_bytes,
            message_bytes_max,
            backlog_bytes_max,
            ..
        } = config(args);
        let limits = [
            high_water_bytes,
            low_water_bytes,
            message_bytes_max,
            backlog_bytes_max,
        ];
        assert_eq!(limits, expected, "{args:?}");
    }
    let max = usize::MAX;
    let (high, message) = (
        format!("--high-water-bytes={max}"),
        format!("--message-bytes-max={max}"),
    );
    assert_eq!(config(&[&high, &message]).backlog_bytes_max, usize::MAX);
}

const MS: Duration = Duration::from_millis(1);
