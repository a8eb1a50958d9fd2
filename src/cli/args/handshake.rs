//! The flags of the opening handshake: additional headers, subprotocols and the Origin. Shared by `wsloop bench` and
//! `wsloop connect`.
//!
//! Each value is validated by adding it to a request, so that a request with the parsed values cannot fail.

use super::UsageError;
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

/// Checks that `--origin` is not given beside a header Origin. A request has at most one. `--header` alone can repeat it,
/// for tests of servers.
///
/// # Errors
/// Both are given.
pub(super) fn check_origin(headers: &[(String, String)], given: &[&str]) -> Result<(), UsageError> {
    let is_origin = |(name, _): &&(String, String)| name.eq_ignore_ascii_case("Origin");
    if given.contains(&"--origin") && headers.iter().filter(is_origin).count() > 1 {
        let reason = "--origin cannot be used with --header Origin, which sets the same header";
        return Err(UsageError(reason.to_owned()));
    }
    Ok(())
}

/// The host, the target and the credentials of an opening handshake.
pub(super) struct Destination<'a> {
    /// Value of the Host header, unless a header of the command line replaces it.
    pub(super) host: &'a str,
    /// The path and query.
    pub(super) target: &'a str,
    /// Value of the Authorization header, unless a header of the command line replaces it.
    pub(super) authorization: Option<&'a str>,
}

/// Returns the opening handshake with additional headers and subprotocols. It has `key`, 16 random bytes, as
/// `Sec-WebSocket-Key`.
///
/// # Errors
/// A header or a subprotocol is invalid. Parsed arguments are valid.
pub(super) fn opening(
    destination: &Destination<'_>,
    headers: &[(String, String)],
    subprotocols: &[String],
    key: [u8; 16],
) -> Result<ClientOpening, RequestError> {
    let given = headers.iter().find(|(name, _)| is_host(name));
    let host = given.map_or(destination.host, |(_, value)| value);
    let mut opening = ClientOpening::new(host, destination.target, key)?;
    let is_authorization =
        |(name, _): &(String, String)| name.eq_ignore_ascii_case("Authorization");
    if let Some(value) = destination.authorization
        && !headers.iter().any(is_authorization)
    {
        opening = opening.with_header("Authorization", value)?;
    }
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
