//! Flags that have no effect beside the other arguments, such as `--unix-mode` without a Unix socket: a usage error on
//! the command line. A variable without effect is collected for a warning and is no error, because several servers may
//! share an environment.

use super::{FORWARDED_HEADER, Listen, REPLAY, Route, ServeArgs, UsageError, limits, variables};
use wsloop::Network;

/// What flags need to have an effect.
struct Rule {
    flags: &'static [&'static str],
    /// ` unix` if only this value of the flag needs it.
    value: &'static str,
    needs: &'static str,
    /// An argument that meets the rule.
    example: &'static str,
}

/// Checks that each flag has an effect. Adds each variable that has none to `ignored_variables`.
///
/// # Errors
/// The first flag on the command line that has no effect.
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

/// Returns for each of [`RULES`] whether the arguments meet it.
fn met(serve: &ServeArgs) -> [bool; RULES.len()] {
    let ServeArgs {
        listen,
        sockets,
        routes,
        config,
        may_inherit,
        ..
    } = serve;
    let has_unix = listen.iter().any(Listen::is_unix);
    // Without -l for WebSockets, the server listens on a TCP port. The port of a listener for metrics is not shared.
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
        // A proxied connection can be without an address, as those of Unix sockets are.
        !trusts_unix || has_unix || has_proxied || *may_inherit,
        !config.trusted_proxies.is_empty(),
        may_have_tcp || trusts_unix || has_proxied,
        routes.iter().any(|(_, route)| *route == Route::Broadcast),
        serve.replay.is_some(),
    ]
}

static RULES: [Rule; 10] = [
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
