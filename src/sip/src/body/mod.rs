//! What messages carry.

pub mod composing;
pub mod pidf;
pub mod sdp;
mod xml;
