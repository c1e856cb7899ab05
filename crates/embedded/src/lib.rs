//! The real broker in this process, behind the same transport as one that runs elsewhere. It is the broker of a service that needs none beside it, and the
//! broker of tests: they meet the semantics that production has, start in milliseconds, and can hold the time in their hands.
//!
//! ```
//! use std::time::Duration;
//!
//! use embedded::Embedded;
//! use sdk::Envelope;
//! use sdk::transport::{Destination, Outgoing, QueueSpec, Topology};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let broker = Embedded::builder().manual_clock().start().await?;
//! let transport = broker.transport();
//! let topology = Topology { queues: vec![QueueSpec::new("work")], ..Topology::default() };
//! transport.declare(&topology).await?;
//!
//! let mut message = Envelope::new("work.new", "later");
//! message.not_before = Some(transport.now().after(Duration::from_secs(3600)));
//! let ends = transport.publish(vec![Outgoing { to: Destination::Queue("work".into()), message }]).await;
//! assert!(ends.iter().all(Result::is_ok));
//!
//! broker.advance(Duration::from_secs(3600)).await; // takes no time
//! # Ok(())
//! # }
//! ```

#![deny(missing_docs)]

mod embedded;
mod running;
mod service;
mod time;

pub use self::embedded::{Builder, Embedded, StartError};

/// The programs of the SDK's README, which run on this broker.
#[cfg(doctest)]
#[doc = include_str!("../../sdk/README.md")]
struct ReadmeOfTheSdk;
