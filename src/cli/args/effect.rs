//! Detects settings that have no effect because of the other arguments, such as `--unix-mode` without a Unix socket. A
//! flag without effect is a usage error. An environment variable without effect is only collected for a warning, because
//! several servers may share an environment.

#[cfg(feature = "redis")]
use super::redis;
use super::{FORWARDED_HEADER, Listen, REPLAY, ServeArgs, UsageError, limits, variables};
use wsloop::Network;

/// A condition without which flags have no effect.
struct Rule {
    flags: &'static [&'static str],
    /// The value of the flags to which the rule is limited, after a space: ` unix`. Empty: the rule is for every value.
    value: &'static str,
    /// The condition, as the error message names it.
    needs: &'static str,
    /// An argument with which the condition is met.
    example: &'static str,
}

/// Checks that each flag has an effect. Adds a message about each environment variable without effect to
/// `ignored_variables`.
///
/// # Errors
/// A flag on the command line has no effect. The message names the first such flag in the order of [`RULES`].
pub(super) fn check(serve: &mut ServeArgs) -> Result<(), UsageError> {
    for (rule, is_met) in RULES.iter().zip(met(serve)) {
        if is_met {
            continue;
        }
        let Rule {
            flags,
            value,
            needs,
            example,
        } = rule;
        for flag in *flags {
            let is_given = serve.given.contains(flag);
            if !is_given && !serve.by_variable.contains(flag) {
                continue;
            }
            let name = variables::flag_or_variable(flag, &serve.by_variable);
            let text =
                format!("{name}{value} needs {needs}; add {example} or remove {name}{value}");
            if is_given {
                return Err(UsageError(text));
            }
            serve.ignored_variables.push(text);
        }
    }
    Ok(())
}

/// Returns for each of [`RULES`], in their order, whether the arguments meet its condition.
fn met(serve: &ServeArgs) -> [bool; RULES.len()] {
    let ServeArgs {
        listen,
        sockets,
        config,
        may_inherit,
        ..
    } = serve;
    let has_unix = listen.iter().any(Listen::is_unix);
    // Without an -l for WebSockets, the server listens on the default address, a TCP port. A listener for metrics does
    // not share its port.
    let mut serving = listen.iter().filter(|one| !one.is_metrics).peekable();
    let has_shared = serving.peek().is_none() || !serving.all(Listen::is_unix);
    let has_tcp = has_shared || !listen.iter().all(Listen::is_unix);
    // Socket options are also set on inherited sockets.
    let may_have_tcp = has_tcp || *may_inherit;
    let has_proxied = listen.iter().any(|one| one.is_proxied);
    let trusts_unix = config.trusted_proxies.contains(&Network::UNIX);
    [
        has_unix,
        has_shared,
        may_have_tcp || sockets.tcp_keepalive.is_none(),
        may_have_tcp || sockets.tcp_user_timeout.is_none(),
        may_have_tcp || config.kernel_unsent_bytes_max.is_none(),
        // Only peers at Unix sockets have no IP address and match `unix`.
        !trusts_unix || has_unix || *may_inherit,
        !config.trusted_proxies.is_empty(),
        // Without a TCP port, only a proxy can name the addresses of clients.
        may_have_tcp || trusts_unix || has_proxied,
        serve.has_broadcast(),
        serve.replay.is_some(),
        #[cfg(feature = "redis")]
        serve.has_broadcast(),
        #[cfg(feature = "redis")]
        serve.has_redis(),
    ]
}

static RULES: [Rule; if cfg!(feature = "redis") { 12 } else { 10 }] = [
    rule(&["--unix-mode"], "a Unix socket", "-l unix:PATH"),
    rule(&["--reuse-port"], TCP_PORT, "-l PORT"),
    rule(&["--tcp-keepalive"], TCP_PORT, "-l PORT"),
    rule(&["--tcp-user-timeout"], TCP_PORT, "-l PORT"),
    rule(&[limits::KERNEL_UNSENT], TCP_PORT, "-l PORT"),
    Rule {
        value: " unix",
        ..rule(&["--trusted-proxy"], "a Unix socket", "-l unix:PATH")
    },
    rule(
        &[FORWARDED_HEADER],
        "a trusted proxy",
        "--trusted-proxy NETWORK",
    ),
    rule(
        &[
            limits::CONNECTIONS_PER_ADDRESS_MAX,
            limits::HANDSHAKES_PER_ADDRESS_MAX,
        ],
        "clients with addresses",
        "-l PORT",
    ),
    rule(
        &[REPLAY, limits::LAG, limits::LAG_BYTES_MAX],
        "a broadcast",
        "-r PATH=broadcast",
    ),
    rule(&[limits::REPLAY_BYTES_MAX], REPLAY, "--replay N"),
    #[cfg(feature = "redis")]
    rule(&[redis::REDIS], "a broadcast", "-r PATH=broadcast"),
    #[cfg(feature = "redis")]
    rule(
        &[
            redis::PREFIX,
            redis::PASSWORD_FILE,
            redis::GRACE,
            redis::OUTBOX,
            redis::MESSAGE_BYTES_MAX,
        ],
        redis::REDIS,
        "--redis URL",
    ),
];

const fn rule(flags: &'static [&'static str], needs: &'static str, example: &'static str) -> Rule {
    Rule {
        flags,
        value: "",
        needs,
        example,
    }
}

const TCP_PORT: &str = "a TCP port";
