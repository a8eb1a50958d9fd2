//! The grammar of `Sec-WebSocket-Extensions` (RFC 6455 section 9.1). No extension is negotiated, so offers are not
//! stored. They are checked, because a server must stop processing a request that does not match the description of
//! section 4.2.1, "including but not limited to any violations of the ABNF grammar".

use super::fields::{is_token, is_token_byte};

/// Returns whether `element`, which has no spaces around it, is `token *( ";" extension-param )`. Spaces inside it are
/// the "implied *LWS" of RFC 2616.
///
/// The element is split at every ";", and the list of elements at every ",", because a well-formed extension contains
/// neither in a quoted-string: "the value after quoted-string unescaping MUST conform to the 'token' ABNF".
pub(super) fn is_extension(element: &[u8]) -> bool {
    let mut parts = element.split(|&byte| byte == b';').map(<[u8]>::trim_ascii);
    parts.next().is_some_and(is_token) && parts.all(is_parameter)
}

/// Returns whether `text` is `token [ "=" ( token | quoted-string ) ]`.
fn is_parameter(text: &[u8]) -> bool {
    let Some(equals) = text.iter().position(|&byte| byte == b'=') else {
        return is_token(text);
    };
    let (name, value) = (&text[..equals], &text[equals + 1..]);
    is_token(name.trim_ascii_end()) && is_value(value.trim_ascii_start())
}

fn is_value(text: &[u8]) -> bool {
    match text {
        [b'"', quoted @ .., b'"'] => is_quoted_token(quoted),
        _ => is_token(text),
    }
}

/// Returns whether the content of a quoted-string is a token after unescaping. RFC 7230 section 3.2.6: a backslash
/// stands for the byte after it.
fn is_quoted_token(quoted: &[u8]) -> bool {
    let mut left = quoted;
    while let [b'\\', byte, rest @ ..] | [byte, rest @ ..] = left {
        if !is_token_byte(*byte) {
            return false;
        }
        left = rest;
    }
    !quoted.is_empty()
}
