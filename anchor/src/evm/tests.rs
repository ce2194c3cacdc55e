//! Against a real node, started for each test and stopped with it. Without the node's program, which
//! `cargo xtask tools` installs, the tests say so and pass; in CI they fail.

mod contract;
mod faults;
mod foreign;
mod golden;
mod history;
mod lies;
mod node;
mod proxy;
mod suite;
