//! Tests with a real server: `redis-server` or `valkey-server` from PATH.

mod driver;
mod faults;
mod real;
