//! Deterministic identity: which identifiers are one person, as a pure function of evidence.
//!
//! An *observation* names identifiers together. What it says about each pair joins the *evidence*
//! of that pair by minimum, maximum and union, so that evidence is a set: replays and arrival
//! order do not exist for it. A *hull* is everything that live evidence connects. Inside each hull
//! `resolve` takes the pairs from the strongest to the weakest and joins what the rules allow:
//! so many values of a namespace per profile, no pair that an operator parted. An identifier that
//! was seen with too many persons is shared and connects nobody.
//!
//! A profile is named by its *founder*, the member that was seen first. Every id that was ever
//! issued is therefore the key of a node, and always has one current profile.
//!
//! Not here: events, traits, storage, time. Rows that changed are handed out; the caller stores
//! them in the same batch as its cursor.
#![forbid(unsafe_code)]

mod arena;
mod attribution;
mod batch;
mod blocked;
mod cluster;
mod digest;
mod email;
mod error;
mod evidence;
mod explain;
mod forget;
mod graph;
mod hull;
mod journal;
mod key;
mod namer;
mod normalise;
mod persist;
mod prepare;
mod region;
mod resolve;
mod resolver;
mod rules;
mod sharing;
mod tell;

pub use attribution::{Rule, attribute};
pub use batch::{Batch, Decided, Introduced, Resolution};
pub use cluster::State;
pub use error::{Error, Result};
pub use evidence::Statement;
pub use journal::{Change, ChangeKind};
pub use key::{KEY_BYTES, Key};
pub use namer::Namer;
pub use normalise::Rejection;
pub use persist::Row;
pub use resolver::{Resolver, Statistics};
pub use rules::{Kind, NAMESPACES_MAX, Namespace, Rules};
