//! The grammar of `Sec-WebSocket-Extensions` (RFC 6455 section 9.1). We negotiate no extension, so what is offered is
//! not kept; but section 4.2.1 has a server refuse "any violations of the ABNF grammar".

use super::fields::{is_token, is_token_byte};

/// `token *( ";" extension-param )`, without spaces around it. Those inside are the "implied *LWS" of RFC 2616.
///
/// Splitting it at every ";", and the list that it stands in at every ",", is right: none is quoted in what is
/// well formed, as "the value after quoted-string unescaping MUST conform to the 'token' ABNF".
pub(super) fn is_extension(element: &[u8]) -> bool {
    let mut parts = element.split(|&byte| byte == b';').map(<[u8]>::trim_ascii);
    parts.next().is_some_and(is_token) && parts.all(is_parameter)
}

/// `token [ "=" ( token | quoted-string ) ]`
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

/// RFC 7230 section 3.2.6: in a quoted-string a backslash stands for the byte after it.
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
