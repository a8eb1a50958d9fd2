//! Routes: PATH=HANDLER. The path ends at the first `=`, so that the text of a handler can contain any character.
//!
//! Checks the syntax of paths. The library's `Router` matches them with requests.

/// The handler of the WebSockets on a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    /// Sends each message back to its sender, with `prefix`, which can be empty, before a text message.
    Echo { prefix: String },
    /// Sends each message to all clients on the same path, the sender included.
    Broadcast,
    /// Answers each message with `text`.
    Reply { text: String },
}

impl Route {
    pub(super) fn echo() -> Self {
        Self::Echo {
            prefix: String::new(),
        }
    }
}

/// Parses a route into its path and its handler.
///
/// # Errors
/// The reason for a [`UsageError::invalid_value`](super::UsageError).
pub(super) fn parse(text: &str) -> Result<(String, Route), String> {
    let Some((path, handler)) = text.split_once('=') else {
        return Err("is not PATH=HANDLER, such as /chat=broadcast".to_owned());
    };
    check_path(path).map_err(|reason| format!("has the path {path:?}, which {reason}"))?;
    let route = parse_handler(handler)?;
    // The shortest path that ends in /* matches ends in the slash.
    let bytes = path.strip_suffix('*').unwrap_or(path).len();
    if route == Route::Broadcast && bytes > BROADCAST_PATH_BYTES_MAX {
        return Err(format!(
            "has a path of {bytes} bytes; a broadcast answers paths of more than {BROADCAST_PATH_BYTES_MAX} with HTTP 414"
        ));
    }
    Ok((path.to_owned(), route))
}

/// Checks the syntax of a path.
///
/// # Errors
/// The reason, as the predicate of a sentence about the path.
pub(super) fn check_path(path: &str) -> Result<(), &'static str> {
    if !path.starts_with('/') {
        return Err("does not begin with /");
    }
    if path.contains(['?', '#']) {
        return Err("contains ? or #; queries and fragments are not part of a path");
    }
    if path.strip_suffix("/*").unwrap_or(path).contains('*') {
        return Err("contains * elsewhere than as its whole last segment, as in /chat/*");
    }
    // RFC 3986 section 2: all other characters arrive percent-encoded and would never match.
    if !path.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("contains a character that must be percent-encoded");
    }
    Ok(())
}

fn parse_handler(handler: &str) -> Result<Route, String> {
    match handler.split_once(':') {
        None if handler == "echo" => Ok(Route::echo()),
        None if handler == "broadcast" => Ok(Route::Broadcast),
        None if handler == "reply" => {
            Err("has a reply without a text; expected reply:TEXT".to_owned())
        }
        Some(("echo", prefix)) => Ok(Route::Echo {
            prefix: prefix.to_owned(),
        }),
        Some(("reply", text)) => Ok(Route::Reply {
            text: text.to_owned(),
        }),
        Some(("broadcast", _)) => Err("has a broadcast with a text; expected broadcast".to_owned()),
        None | Some(_) => Err(format!("has an unknown handler {handler:?}; {EXPECTED}")),
    }
}

/// Maximum length of a path that [`wsloop::handlers::Broadcast`] accepts.
const BROADCAST_PATH_BYTES_MAX: usize = 512;

const EXPECTED: &str = "expected echo, echo:PREFIX, broadcast or reply:TEXT";

#[cfg(test)]
mod tests {
    use super::*;

    fn echo(prefix: &str) -> Route {
        Route::Echo {
            prefix: prefix.to_owned(),
        }
    }

    fn reply(text: &str) -> Route {
        Route::Reply {
            text: text.to_owned(),
        }
    }

    #[test]
    fn a_route_is_a_path_and_a_handler() {
        let table = [
            ("/=echo", "/", echo("")),
            ("/*=echo:", "/*", echo("")),
            ("/*=echo:You sent: ", "/*", echo("You sent: ")),
            ("/a/b=echo:=:=\n", "/a/b", echo("=:=\n")),
            ("/chat=broadcast", "/chat", Route::Broadcast),
            ("/a/*=broadcast", "/a/*", Route::Broadcast),
            (
                "/*=reply:{\"a\":1,\"b\":2}",
                "/*",
                reply("{\"a\":1,\"b\":2}"),
            ),
            ("/x=reply:", "/x", reply("")),
            ("/x=reply:ä=b", "/x", reply("ä=b")),
            ("/%C3%A4=broadcast", "/%C3%A4", Route::Broadcast),
        ];
        for (text, path, route) in table {
            assert_eq!(parse(text), Ok((path.to_owned(), route)), "{text:?}");
        }
    }

    #[test]
    fn a_broadcast_that_no_client_could_reach_is_refused() {
        let longest = format!("/{}", "x".repeat(511));
        for (path, handler, is_refused) in [
            (longest.clone(), "broadcast", false),
            (format!("{longest}x"), "broadcast", true),
            (format!("{longest}x"), "echo", false),
            (
                format!("{}/*", &longest[1..].replacen('x', "/", 1)),
                "broadcast",
                false,
            ),
            (format!("{longest}/*"), "broadcast", true),
        ] {
            let result = parse(&format!("{path}={handler}"));
            assert_eq!(result.is_err(), is_refused, "{path}={handler}");
            if let Err(reason) = result {
                assert!(reason.starts_with("has a path of 513 bytes"), "{reason}");
            }
        }
    }

    #[test]
    fn a_malformed_route_is_refused_with_its_reason() {
        let table = [
            ("", "is not PATH=HANDLER"),
            ("/chat", "is not PATH=HANDLER"),
            ("=echo", "\"\", which does not begin with /"),
            ("chat=echo", "\"chat\", which does not begin with /"),
            ("*=echo", "\"*\", which does not begin with /"),
            ("/a?b=echo", "\"/a?b\", which contains ? or #"),
            ("/a#b=echo", "\"/a#b\", which contains ? or #"),
            ("/a*=echo", "\"/a*\", which contains *"),
            ("/*/a=echo", "\"/*/a\", which contains *"),
            ("/*/*=echo", "\"/*/*\", which contains *"),
            ("/**=echo", "\"/**\", which contains *"),
            ("/a b=echo", "\"/a b\", which contains a character"),
            ("/ä=echo", "\"/ä\", which contains a character"),
            ("/a\n=echo", "\"/a\\n\", which contains a character"),
            ("/=", "unknown handler \"\""),
            ("/=chat", "unknown handler \"chat\""),
            ("/=Echo", "unknown handler \"Echo\""),
            ("/=echo =x", "unknown handler \"echo =x\""),
            ("/=chat:x", "unknown handler \"chat:x\""),
            ("/=reply", "reply:TEXT"),
            ("/=broadcast:x", "broadcast with a text"),
        ];
        for (text, expected) in table {
            let reason = parse(text).unwrap_err();
            assert!(reason.contains(expected), "{text:?}: {reason}");
        }
    }
}
