//! The flags of the opening handshake: additional headers, subprotocols and the Origin. Shared by `wsloop bench` and
//! `wsloop connect`.
//!
//! Each value is validated by adding it to a request, so that a request with the parsed values cannot fail.

use wsloop::proto::{ClientOpening, RequestError};

/// Applies `--header NAME:VALUE`. A Host header replaces that of the URL.
///
/// # Errors
/// The reason for a usage error.
pub(super) fn header(headers: &mut Vec<(String, String)>, text: &str) -> Result<(), String> {
    let (name, value) = text.split_once(':').ok_or("is not NAME:VALUE")?;
    let (name, value) = (name.trim_end(), value.trim());
    if is_host(name) {
        if headers.iter().any(|(other, _)| is_host(other)) {
            return Err("is a second Host".to_owned());
        }
        ClientOpening::new(value, "/", [0; 16]).map_err(reason)?;
    } else {
        probe().with_header(name, value).map_err(reason)?;
    }
    headers.push((name.to_owned(), value.to_owned()));
    Ok(())
}

/// Applies `--subprotocol NAME`.
///
/// # Errors
/// The reason for a usage error.
pub(super) fn subprotocol(offered: &mut Vec<String>, text: &str) -> Result<(), String> {
    let names = offered.iter().map(String::as_str).chain([text]);
    let opening = names
        .into_iter()
        .try_fold(probe(), ClientOpening::with_subprotocol);
    opening.map(drop).map_err(reason)?;
    offered.push(text.to_owned());
    Ok(())
}

/// Applies `--origin ORIGIN`.
///
/// # Errors
/// The reason for a usage error.
pub(super) fn origin(headers: &mut Vec<(String, String)>, text: &str) -> Result<(), String> {
    probe().with_header("Origin", text).map_err(reason)?;
    headers.push(("Origin".to_owned(), text.to_owned()));
    Ok(())
}

/// Returns the opening handshake for a path and query on `host`, the value of the Host header unless `headers` has one.
/// It has `key`, 16 random bytes, as `Sec-WebSocket-Key`.
///
/// # Errors
/// A header or a subprotocol is invalid. Parsed arguments are valid.
pub(super) fn opening(
    host: &str,
    target: &str,
    headers: &[(String, String)],
    subprotocols: &[String],
    key: [u8; 16],
) -> Result<ClientOpening, RequestError> {
    let given = headers.iter().find(|(name, _)| is_host(name));
    let host = given.map_or(host, |(_, value)| value);
    let mut opening = ClientOpening::new(host, target, key)?;
    for (name, value) in headers.iter().filter(|(name, _)| !is_host(name)) {
        opening = opening.with_header(name, value)?;
    }
    for name in subprotocols {
        opening = opening.with_subprotocol(name)?;
    }
    Ok(opening)
}

fn is_host(name: &str) -> bool {
    name.eq_ignore_ascii_case("Host")
}

/// Returns a request with which a header or a subprotocol is validated.
fn probe() -> ClientOpening {
    ClientOpening::new("localhost", "/", [0; 16]).expect("the host and the path are valid")
}

/// Returns the reason for a usage error.
fn reason(error: RequestError) -> String {
    format!("is invalid: {error}")
}
