//! Flags that have no effect beside the other arguments, such as `--unix-mode` without a Unix socket: a usage error on
//! the command line. A variable without effect is collected for a warning and is no error, because several servers may
//! share an environment.

use super::{FORWARDED_HEADER, Listen, REPLAY, Route, ServeArgs, UsageError, limits, variables};
use wsloop::Network;

/// What some flags need to have an effect.
struct Rule {
    flags: &'static [&'static str],
    /// The value that needs it, if only one value of the flag does.
    value: &'static str,
    /// Whether the arguments contain what the flags need.
    is_met: bool,
    needs: &'static str,
    /// Arguments that meet the rule.
    example: &'static str,
}

/// Checks that each flag has an effect. Returns a description of each variable that has none.
///
/// # Errors
/// The first flag on the command line that has no effect.
pub(super) fn check(serve: &ServeArgs) -> Result<Vec<String>, UsageError> {
    let mut unused = Vec::new();
    for rule in rules(serve) {
        if rule.is_met {
            continue;
        }
        let Rule {
            flags,
            value,
            needs,
            example,
            ..
        } = rule;
        for flag in flags {
            let with_value = |name: &str| [name, value].join(" ").trim_end().to_owned();
            if serve.given.contains(flag) {
                let name = with_value(flag);
                return Err(UsageError(format!(
                    "{name} needs {needs}; add {example} or remove {name}"
                )));
            }
            if serve.by_variable.contains(flag) {
                let name = with_value(&variables::name_of(flag));
                unused.push(format!("{name}, which needs {needs}, such as {example}"));
            }
        }
    }
    Ok(unused)
}

fn rules(serve: &ServeArgs) -> [Rule; 10] {
    let ServeArgs {
        listen,
        sockets,
        routes,
        config,
        may_inherit,
        ..
    } = serve;
    let has_unix = listen.iter().any(Listen::is_unix);
    // Without -l, the server listens on a TCP port.
    let has_tcp = listen.is_empty() || !listen.iter().all(Listen::is_unix);
    let has_proxied = listen.iter().any(|one| one.is_proxied);
    let trusts_unix = config.trusted_proxies.contains(&Network::UNIX);
    let has_broadcast = routes.iter().any(|(_, route)| *route == Route::Broadcast);
    let rule = |flags, is_met, needs, example| Rule {
        flags,
        value: "",
        is_met,
        needs,
        example,
    };
    // These options are also set on inherited sockets.
    let tcp = |flags, is_off| {
        rule(
            flags,
            has_tcp || *may_inherit || is_off,
            TCP_PORT,
            "-l PORT",
        )
    };
    [
        rule(&["--unix-mode"], has_unix, "a Unix socket", "-l unix:PATH"),
        rule(&["--reuse-port"], has_tcp, TCP_PORT, "-l PORT"),
        tcp(&["--tcp-keepalive"], sockets.tcp_keepalive.is_none()),
        tcp(&["--tcp-user-timeout"], sockets.tcp_user_timeout.is_none()),
        tcp(
            &[limits::KERNEL_UNSENT],
            config.kernel_unsent_bytes_max.is_none(),
        ),
        Rule {
            value: "unix",
            ..rule(
                &["--trusted-proxy"],
                // A proxied connection can be without an address, as those of Unix sockets are.
                !trusts_unix || has_unix || has_proxied || *may_inherit,
                "a Unix socket",
                "-l unix:PATH",
            )
        },
        rule(
            &[FORWARDED_HEADER],
            !config.trusted_proxies.is_empty(),
            "a trusted proxy",
            "--trusted-proxy NETWORK",
        ),
        rule(
            &[
                limits::CONNECTIONS_PER_ADDRESS_MAX,
                limits::HANDSHAKES_PER_ADDRESS_MAX,
            ],
            has_tcp || trusts_unix || has_proxied || *may_inherit,
            "clients with addresses",
            "-l PORT",
        ),
        rule(
            &[REPLAY, limits::LAG, limits::LAG_BYTES_MAX],
            has_broadcast,
            "a broadcast",
            "-r PATH=broadcast",
        ),
        rule(
            &[limits::REPLAY_BYTES_MAX],
            serve.replay.is_some(),
            REPLAY,
            "--replay N",
        ),
    ]
}

const TCP_PORT: &str = "a TCP port";
