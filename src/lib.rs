//! A WebSocket server on one thread and one `mio` poll loop.

mod config;
pub mod proto;

pub use config::{Config, ConfigError, LagPolicy, descriptors_max};
pub use proto::{HttpResponse, Message, Request, Upgrade};
