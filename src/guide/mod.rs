//! How to embed a server, in chapters. Every example in them is a test that runs.
//!
//! | chapter | the question |
//! |---|---|
//! | [`house`] | where is what, and who may know whom? |
//! | [`turn`] | what happens between two sleeps, and in which order? |
//! | [`message`] | from the receive buffer to a socket: what is borrowed, what is copied, and when? |
//! | [`memory`] | what does a connection cost? |
//! | [`limits`] | which fields of [`Config`](crate::Config) should I set, to what? |
//! | [`slow`] | what happens to a client that does not read? |
//! | [`threads`] | how do other threads talk to the loop? |
//! | [`embedding`] | how does a server share a thread with something else? |
//! | [`testing`] | how do I test a handler? |
//! | [`programs`] | is there a whole program to begin with? |

#[doc = include_str!("embedding.md")]
pub mod embedding {}
#[doc = include_str!("house.md")]
pub mod house {}
#[doc = include_str!("limits.md")]
pub mod limits {}
#[doc = include_str!("memory.md")]
pub mod memory {}
#[doc = include_str!("message.md")]
pub mod message {}
#[doc = include_str!("programs.md")]
pub mod programs {}
#[doc = include_str!("slow.md")]
pub mod slow {}
#[doc = include_str!("testing.md")]
pub mod testing {}
#[doc = include_str!("threads.md")]
pub mod threads {}
#[doc = include_str!("turn.md")]
pub mod turn {}
