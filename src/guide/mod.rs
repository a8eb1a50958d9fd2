//! How to embed and how to operate a server, in chapters. Every example in them is a test that runs.
//!
//! | chapter | the question |
//! |---|---|
//! | [`first_hour`] | how is a server embedded, from `[dependencies]` to a build for a small machine? |
//! | [`architecture`] | which module does what, and where is a feature added? |
//! | [`turn`] | what happens in one pass of the loop, and in which order? |
//! | [`message`] | from the receive buffer to a socket: what is borrowed, what is copied, and when? |
//! | [`memory`] | how much memory does a connection cost, and when is it released? |
//! | [`limits`] | which fields of [`Config`](crate::Config) should be set, and to what? |
//! | [`slow`] | what happens to a client that does not read? |
//! | [`threads`] | how do other threads use the server? |
//! | [`embedding`] | how does a server share a thread with another event loop? |
//! | [`testing`] | how is a handler tested? |
//! | [`operating`] | how is the binary run: log, metrics, sockets, restarts? |
//! | [`processes`] | how do several processes or machines share their broadcasts, and what happens when the broker is away? |
//! | [`tls`] | how is a server encrypted: certificates, reloads, client certificates? |
//! | [`deployment`] | how is it a service: systemd, several workers, a container? |
//! | [`proxies`] | how is it run behind nginx, HAProxy, Caddy or Apache? |
//! | [`programs`] | which whole programs are there to start from? |

#[doc = include_str!("architecture.md")]
pub mod architecture {}
#[doc = include_str!("deployment.md")]
#[doc = "# `systemd/wsloop.socket`\n\n```ini"]
#[doc = include_str!("recipes/systemd/wsloop.socket")]
#[doc = "```\n\n# `systemd/wsloop.service`\n\n```ini"]
#[doc = include_str!("recipes/systemd/wsloop.service")]
#[doc = "```\n\n# `systemd/wsloop@.service`\n\n```ini"]
#[doc = include_str!("recipes/systemd/wsloop@.service")]
#[doc = "```\n\n# `systemd/restart-workers`\n\n```sh"]
#[doc = include_str!("recipes/systemd/restart-workers")]
#[doc = "```\n\n# `Dockerfile`\n\n```dockerfile"]
#[doc = include_str!("recipes/Dockerfile")]
#[doc = "```"]
pub mod deployment {}
#[doc = include_str!("embedding.md")]
pub mod embedding {}
#[doc = include_str!("first_hour.md")]
pub mod first_hour {}
#[doc = include_str!("limits.md")]
pub mod limits {}
#[doc = include_str!("memory.md")]
pub mod memory {}
#[doc = include_str!("message.md")]
pub mod message {}
#[doc = include_str!("operating.md")]
pub mod operating {}
#[doc = include_str!("programs.md")]
pub mod programs {}
#[doc = include_str!("proxies.md")]
#[doc = "# nginx\n```nginx"]
#[doc = include_str!("recipes/nginx.conf")]
#[doc = "```"]
#[doc = "# HAProxy\n```text"]
#[doc = include_str!("recipes/haproxy.cfg")]
#[doc = "```"]
#[doc = "# HAProxy, forwarding bytes\n```text"]
#[doc = include_str!("recipes/haproxy-tcp.cfg")]
#[doc = "```"]
#[doc = "# Caddy\n```text"]
#[doc = include_str!("recipes/Caddyfile")]
#[doc = "```"]
#[doc = "# Apache\n```apache"]
#[doc = include_str!("recipes/apache.conf")]
#[doc = "```"]
pub mod proxies {}
#[cfg_attr(feature = "backplane", doc = include_str!("processes.md"))]
#[cfg_attr(
    not(feature = "backplane"),
    doc = "This chapter needs the feature `backplane`; its text is src/guide/processes.md."
)]
pub mod processes {}
#[doc = include_str!("slow.md")]
pub mod slow {}
#[doc = include_str!("testing.md")]
pub mod testing {}
#[doc = include_str!("threads.md")]
pub mod threads {}
#[cfg_attr(feature = "tls", doc = include_str!("tls.md"))]
#[cfg_attr(
    not(feature = "tls"),
    doc = "This chapter needs the feature `tls`; its text is src/guide/tls.md."
)]
pub mod tls {}
#[doc = include_str!("turn.md")]
pub mod turn {}
