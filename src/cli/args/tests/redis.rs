//! The flags of the broker.

use super::*;

#[cfg(not(feature = "redis"))]
#[test]
fn without_redis_each_flag_and_variable_names_the_cargo_feature() {
    let expected = " needs Redis; rebuild the binary with the cargo feature \"redis\"";
    for flag in ["--redis", "--redis-prefix", "--broker-grace"] {
        assert_eq!(error(&[flag, "x"]), format!("{flag}{expected}"));
    }
    let error = variables::error_with(&[("WSLOOP_REDIS", "x")], &[]);
    assert_eq!(error, format!("WSLOOP_REDIS{expected}"));
}

#[cfg(feature = "redis")]
mod with_redis {
    use super::*;
    use std::time::Duration;

    const URL: &str = "redis://alice:topsecret@host:6380";

    #[test]
    fn the_flags_of_the_broker_set_its_options() {
        assert!(serve(&["broadcast"]).redis.is_none());
        let redis = serve(&["broadcast", "--redis", URL]).redis.unwrap();
        assert_eq!(redis.settings.to_string(), "redis://host:6380");
        assert_eq!(redis.password_file, None);
        assert_eq!(redis.options.grace, Duration::from_secs(5));
        let redis = serve(&[
            "broadcast",
            "--redis=unix:/run/redis.sock",
            "--redis-prefix=shop:",
            "--redis-password-file=p",
            "--broker-grace=500ms",
            "--broker-outbox=1M",
            "--broker-message-bytes-max=64K",
        ]);
        let redis = redis.redis.unwrap();
        assert_eq!(redis.settings.to_string(), "unix:/run/redis.sock");
        assert_eq!(redis.password_file.as_deref(), Some("p"));
        assert_eq!(redis.options.grace, Duration::from_millis(500));
        assert_eq!(redis.options.outbox_bytes_max, 1 << 20);
        assert_eq!(redis.options.message_bytes_max, 64 << 10);
    }

    #[test]
    fn an_invalid_url_is_an_error_that_does_not_show_it() {
        for url in [
            "redis://alice:topsecret@",
            "rediss://:topsecret@host",
            "topsecret",
        ] {
            let error = error(&["broadcast", "--redis", url]);
            assert!(error.starts_with("--redis "), "{error}");
            assert!(!error.contains("topsecret"), "{error}");
        }
        let error = variables::error_with(&[("WSLOOP_REDIS", "topsecret")], &["broadcast"]);
        assert!(error.starts_with("WSLOOP_REDIS "), "{error}");
        assert!(!error.contains("topsecret"), "{error}");
    }

    #[test]
    fn a_line_break_at_the_end_of_the_url_is_ignored() {
        let url = format!("{URL}\r\n");
        let serve = variables::serve_with(&[("WSLOOP_REDIS", &url)], &["broadcast"]);
        let redis = serve.redis.unwrap();
        assert_eq!(redis.settings.to_string(), "redis://host:6380");
    }

    #[test]
    fn a_prefix_above_the_maximum_is_an_error() {
        let prefix = "p".repeat(1024);
        serve(&["broadcast", "--redis", URL, "--redis-prefix", &prefix]);
        let error = error(&[
            "broadcast",
            "--redis",
            URL,
            "--redis-prefix",
            &(prefix + "p"),
        ]);
        assert!(error.ends_with("is longer than 1024 bytes"), "{error}");
    }

    #[test]
    fn sizes_that_do_not_fit_together_are_an_error_that_names_the_flags() {
        let error = error(&["broadcast", "--redis", URL, "--broker-outbox=1M"]);
        assert_eq!(
            error,
            "--broker-outbox is 1048576, which is less than 2097152: 64 KiB, or twice --broker-message-bytes-max"
        );
    }

    #[test]
    fn flags_without_effect_are_errors_and_variables_are_warnings() {
        assert_eq!(
            error(&["echo", "--redis", URL]),
            "--redis needs a broadcast; add -r PATH=broadcast or remove --redis"
        );
        assert_eq!(
            error(&["broadcast", "--broker-grace", "1"]),
            "--broker-grace needs --redis; add --redis URL or remove --broker-grace"
        );
        let serve = variables::serve_with(&[("WSLOOP_REDIS", URL)], &["echo"]);
        assert_eq!(
            serve.ignored_variables,
            ["WSLOOP_REDIS needs a broadcast; add -r PATH=broadcast or remove WSLOOP_REDIS"]
        );
        assert!(serve.redis.is_none(), "an ignored variable has an effect");
    }
}
