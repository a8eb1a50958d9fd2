//! The flags of `wsloop connect`.

use super::super::flag::{Flag, time, time_or_zero};
use super::super::{handshake, units};
use super::{Connect, Stay};

pub(in super::super) static FLAGS: [Flag<Connect>; 17] = [
    Flag::<Connect>::with_value(Some("-H"), "--header", |connect, text| {
        handshake::header(&mut connect.headers, text)
    })
    .repeatable(),
    Flag::<Connect>::with_value(Some("-s"), "--subprotocol", |connect, text| {
        handshake::subprotocol(&mut connect.subprotocols, text)
    })
    .repeatable(),
    Flag::with_value(Some("-o"), "--origin", |connect, text| {
        handshake::origin(&mut connect.headers, text)
    }),
    Flag::<Connect>::with_value(None, "--ca", |args, text| args.tls.set_ca(text)),
    Flag::<Connect>::with_value(None, "--cert", |args, text| args.tls.set_cert(text)),
    Flag::<Connect>::with_value(None, "--key", |args, text| args.tls.set_key(text)),
    Flag::<Connect>::switch(None, "--insecure", |args| args.tls.is_insecure = true),
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

/// Maximum of `--message-bytes-max`.
const MESSAGE_BYTES_MAX: usize = 1 << 30;
