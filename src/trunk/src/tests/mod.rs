//! Whole trunks over loopback TCP with TLS, each in a world of its own.

mod cut;
mod domains;
mod failover;
mod flow;
mod in_process;
mod poison;
mod probe;
mod refused;
mod sip;
mod world;
