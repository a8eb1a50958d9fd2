//! Tests of TLS without sockets.

mod record;
