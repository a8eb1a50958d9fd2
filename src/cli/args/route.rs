//! Routes: PATH=HANDLER. The path ends at the first `=`, so that a text may hold anything.
//!
//! Only the shape of a path is judged here; the `Router` matches.

/// What answers on a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    /// Each message goes back to its sender; `prefix`, often empty, stands before a text.
    Echo { prefix: String },
    /// Each message goes to everyone on the same path, the sender included.
    Broadcast,
    /// Each message is answered with `text`.
    Reply { text: String },
}

impl Route {
    pub(super) fn echo() -> Self {
        Self::Echo {
            prefix: String::new(),
        }
    }
}

/// # Errors
/// The end of a sentence that begins with the flag and `text`.
pub(super) fn parse(text: &str) -> Result<(String, Route), String> {
    let Some((path, handler)) = text.split_once('=') else {
        return Err("is not PATH=HANDLER, such as /chat=broadcast".to_owned());
    };
    check_path(path).map_err(|reason| format!("has the path {path:?}, {reason}"))?;
    Ok((path.to_owned(), parse_handler(handler)?))
}

/// # Errors
/// The end of a sentence about the path.
pub(super) fn check_path(path: &str) -> Result<(), &'static str> {
    if !path.starts_with('/') {
        return Err("which does not begin with /");
    }
    if path.contains(['?', '#']) {
        return Err("which has a ? or #; queries and fragments are not part of a path");
    }
    if path.strip_suffix("/*").unwrap_or(path).contains('*') {
        return Err("which has a * that is not its whole last segment, as in /chat/*");
    }
    // RFC 3986 section 2: everything else arrives percent-encoded, and would never match.
    if !path.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("which has a character that must be percent-encoded");
    }
    Ok(())
}

fn parse_handler(handler: &str) -> Result<Route, String> {
    match handler.split_once(':') {
        None if handler == "echo" => Ok(Route::echo()),
        None if handler == "broadcast" => Ok(Route::Broadcast),
        None if handler == "reply" => Err("has no text to reply with: reply:TEXT".to_owned()),
        Some(("echo", prefix)) => Ok(Route::Echo {
            prefix: prefix.to_owned(),
        }),
        Some(("reply", text)) => Ok(Route::Reply {
            text: text.to_owned(),
        }),
        Some(("broadcast", _)) => {
            Err("has a broadcast with a text, which it does not take".to_owned())
        }
        None | Some(_) => Err(format!("has an unknown handler {handler:?}; {HANDLERS}")),
    }
}

const HANDLERS: &str = "there are echo, echo:PREFIX, broadcast and reply:TEXT";

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
    fn a_malformed_route_is_refused_with_its_reason() {
        let table = [
            ("", "is not PATH=HANDLER"),
            ("/chat", "is not PATH=HANDLER"),
            ("=echo", "\"\", which does not begin with /"),
            ("chat=echo", "\"chat\", which does not begin with /"),
            ("*=echo", "\"*\", which does not begin with /"),
            ("/a?b=echo", "\"/a?b\", which has a ? or #"),
            ("/a#b=echo", "\"/a#b\", which has a ? or #"),
            ("/a*=echo", "\"/a*\", which has a *"),
            ("/*/a=echo", "\"/*/a\", which has a *"),
            ("/*/*=echo", "\"/*/*\", which has a *"),
            ("/**=echo", "\"/**\", which has a *"),
            ("/a b=echo", "\"/a b\", which has a character"),
            ("/ä=echo", "\"/ä\", which has a character"),
            ("/a\n=echo", "\"/a\\n\", which has a character"),
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
