//! Tests with sockets: fake brokers, and a real one (`redis-server` or `valkey-server`).

mod driver;
mod faults;
mod real;
