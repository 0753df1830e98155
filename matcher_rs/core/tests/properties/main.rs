//! The resolver against an obvious twin, and against itself in other orders and other batches.

#![allow(clippy::unwrap_used, missing_docs)]

mod faults;
mod forgetting;
mod invariants;
mod oracle;
mod world;
