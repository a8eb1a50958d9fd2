//! A WebSocket server on one thread and one `mio` poll loop.

mod config;

pub use config::{Config, ConfigError, LagPolicy, descriptors_max};
