//! Sockets, tasks, shutdown, back-pressure, and the one loop that drives a machine.
//!
//! Owns: [`Connection`] (a [`Machine`](gatehouse_types::Machine) over a socket), [`Tasks`],
//! [`serve`], the clock ([`now`]).
//! Does not own: protocols, TLS, names.

mod clock;
mod connection;
mod listener;
mod sources;
mod tasks;

pub use self::clock::now;
pub use self::connection::{BoxedIo, Connection, ConnectionError, Io, Step, Traffic};
pub use self::listener::{bind, connect, serve, serve_within};
pub use self::sources::{ServeLimits, Source};
pub use self::tasks::{StillRunning, Tasks};
