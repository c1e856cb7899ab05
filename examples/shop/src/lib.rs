//! An online shop of six services, each a process with a database of its own: the example of the service SDK.
//!
//! | service | what it does |
//! |---|---|
//! | order | takes orders over HTTP and runs the checkout saga: reserve stock, take payment, confirm |
//! | payment | quotes prices over gRPC; takes payments and refunds them |
//! | inventory | answers stock checks over REST; reserves stock and releases it |
//! | notification | writes one confirmation for each confirmed order |
//! | loyalty | gives points for confirmed orders |
//! | analytics | replays the stream of orders into a sales report |
//!
//! Begin with [`contracts`], then [`services`]. The binary `shop` starts them all, sends orders, and breaks what it started to see whether the
//! [`books`] still balance.

pub mod books;
pub mod catalogue;
pub mod commands;
pub mod contracts;
pub mod db;
pub mod faults;
pub mod http;
pub mod output;
pub mod resilient;
pub mod services;
pub mod settings;
pub mod supervise;
pub mod traces;
