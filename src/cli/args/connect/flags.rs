//! The flags of `wsloop connect`.

use super::super::flag::{Flag, time, time_or_zero};
use super::super::units;
use super::{Connect, Stay};
use wsloop::proto::{ClientOpening, RequestError};

pub(in super::super) static FLAGS: [Flag<Connect>; 11] = [
    Flag::<Connect>::value_of(Some("-H"), "--header", |connect, text| {
        let (name, value) = text.split_once(':').ok_or("is not NAME:VALUE")?;
        let (name, value) = (name.trim_end(), value.trim());
        check(|opening| opening.with_header(name, value))?;
        connect.headers.push((name.to_owned(), value.to_owned()));
        Ok(())
    })
    .repeatable(),
    Flag::<Connect>::value_of(Some("-s"), "--subprotocol", |connect, text| {
        check(|opening| {
            let mut offered = connect.subprotocols.iter();
            let opening = offered.try_fold(opening, |opening, name| opening.with_subprotocol(name));
            opening?.with_subprotocol(text)
        })?;
        connect.subprotocols.push(text.to_owned());
        Ok(())
    })
    .repeatable(),
    Flag::value_of(Some("-o"), "--origin", |connect, text| {
        check(|opening| opening.with_header("Origin", text))?;
        connect.headers.push(("Origin".to_owned(), text.to_owned()));
        Ok(())
    }),
    Flag::<Connect>::value_of(Some("-x"), "--execute", |connect, text| {
        connect.execute.push(text.to_owned());
        Ok(())
    })
    .repeatable(),
    Flag::value_of(Some("-w"), "--wait", |connect, text| {
        connect.stay = Stay::For(time_or_zero(text)?);
        Ok(())
    }),
    Flag::switch(Some("-n"), "--no-close", |connect| {
        connect.stay = Stay::Forever
    }),
    Flag::value_of(None, "--ping", |connect, text| {
        connect.ping = Some(time(text)?);
        Ok(())
    }),
    Flag::switch(None, "--binary", |connect| connect.is_binary = true),
    Flag::value_of(None, "--message-bytes-max", |connect, text| {
        connect.message_bytes_max = units::bytes(text)?;
        if connect.message_bytes_max == 0 || connect.message_bytes_max > MESSAGE_BYTES_MAX {
            return Err("is not from 1 to 1G".to_owned());
        }
        Ok(())
    }),
    Flag::value_of(None, "--connect-timeout", |connect, text| {
        connect.connect_timeout = time(text)?;
        Ok(())
    }),
    Flag::value_of(None, "--close-timeout", |connect, text| {
        connect.close_timeout = time(text)?;
        Ok(())
    }),
];

/// Whether a request may have this.
fn check(
    with: impl FnOnce(ClientOpening) -> Result<ClientOpening, RequestError>,
) -> Result<(), String> {
    let opening = ClientOpening::new("localhost", "/", [0; 16]).expect("this is a host and a path");
    match with(opening) {
        Ok(_) => Ok(()),
        Err(error) => Err(format!("is wrong: {error}")),
    }
}

const MESSAGE_BYTES_MAX: usize = 1 << 30;
