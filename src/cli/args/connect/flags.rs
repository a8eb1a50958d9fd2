//! The flags of `wsloop connect`.

use super::super::flag::{Flag, time, time_or_zero};
use super::super::units;
use super::{Connect, Stay};
use wsloop::proto::{ClientOpening, RequestError};

pub(in super::super) static FLAGS: [Flag<Connect>; 13] = [
    Flag::<Connect>::with_value(Some("-H"), "--header", |connect, text| {
        let (name, value) = text.split_once(':').ok_or("is not NAME:VALUE")?;
        let (name, value) = (name.trim_end(), value.trim());
        if name.eq_ignore_ascii_case("Host") {
            if connect.host.is_some() {
                return Err("is a second Host".to_owned());
            }
            ClientOpening::new(value, "/", [0; 16]).map_err(reason)?;
            connect.host = Some(value.to_owned());
            return Ok(());
        }
        probe().with_header(name, value).map_err(reason)?;
        connect.headers.push((name.to_owned(), value.to_owned()));
        Ok(())
    })
    .repeatable(),
    Flag::<Connect>::with_value(Some("-s"), "--subprotocol", |connect, text| {
        let offered = connect.subprotocols.iter().map(String::as_str);
        let opening = offered
            .chain([text])
            .try_fold(probe(), ClientOpening::with_subprotocol);
        opening.map(drop).map_err(reason)?;
        connect.subprotocols.push(text.to_owned());
        Ok(())
    })
    .repeatable(),
    Flag::with_value(Some("-o"), "--origin", |connect, text| {
        probe().with_header("Origin", text).map_err(reason)?;
        connect.headers.push(("Origin".to_owned(), text.to_owned()));
        Ok(())
    }),
    Flag::<Connect>::with_value(Some("-x"), "--execute", |connect, text| {
        connect.execute.push(text.to_owned());
        Ok(())
    })
    .repeatable(),
    Flag::with_value(Some("-w"), "--wait", |connect, text| {
        connect.stay = Stay::For(time_or_zero(text)?);
        Ok(())
    }),
    Flag::switch(Some("-n"), "--no-close", |connect| {
        connect.stay = Stay::Forever
    }),
    Flag::with_value(None, "--ping", |connect, text| {
        connect.ping = Some(time(text)?);
        Ok(())
    }),
    Flag::switch(None, "--binary", |connect| connect.is_binary = true),
    Flag::switch(None, "--plain", |connect| connect.is_plain = true),
    Flag::switch(Some("-v"), "--verbose", |connect| connect.is_verbose = true),
    Flag::with_value(None, "--message-bytes-max", |connect, text| {
        connect.message_bytes_max = units::bytes(text)?;
        if connect.message_bytes_max == 0 || connect.message_bytes_max > MESSAGE_BYTES_MAX {
            return Err("is not from 1 to 1G".to_owned());
        }
        Ok(())
    }),
    Flag::with_value(None, "--connect-timeout", |connect, text| {
        connect.connect_timeout = time(text)?;
        Ok(())
    }),
    Flag::with_value(None, "--close-timeout", |connect, text| {
        connect.close_timeout = time(text)?;
        Ok(())
    }),
];

/// Returns a request with which a header or a subprotocol is validated.
fn probe() -> ClientOpening {
    ClientOpening::new("localhost", "/", [0; 16]).expect("the host and the path are valid")
}

/// Returns the reason for a usage error.
fn reason(error: RequestError) -> String {
    format!("is invalid: {error}")
}

/// Maximum of `--message-bytes-max`.
const MESSAGE_BYTES_MAX: usize = 1 << 30;
