//! What must hold whatever a peer says. Each fuzz target of testbed/fuzz is one call from here;
//! what fuzzing found is replayed by the tests at the end.
//!
//! The machines are played by a script, so that the calls of an owner are as free as the bytes of
//! a peer: see `script.rs`.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a property that does not hold must panic"
)]

mod c2s;
mod framer;
mod s2s;
mod sasl;
mod scanner;
mod script;
mod trunk;
mod watch;
mod world;

pub use self::c2s::check_c2s_server;
pub use self::framer::check_framer;
pub use self::s2s::{check_s2s_initiator, check_s2s_receiver};
pub use self::sasl::check_sasl;
pub use self::scanner::check_scanner;
pub use self::trunk::check_trunk_end;
pub use crate::s2s::check_dialback;

#[cfg(test)]
mod tests {
    use gatehouse_testkit::replay;

    use super::*;

    #[test]
    fn corpus_of_frames_still_holds() {
        replay("framer", check_framer);
    }

    #[test]
    fn two_readers_agree_on_the_corpus() {
        replay("framer", check_scanner);
        replay("scanner", check_scanner);
    }

    #[test]
    fn corpus_of_receivers_still_holds() {
        replay("s2s_receiver", check_s2s_receiver);
    }

    #[test]
    fn corpus_of_initiators_still_holds() {
        replay("s2s_initiator", check_s2s_initiator);
    }

    #[test]
    fn corpus_of_client_streams_still_holds() {
        replay("c2s_server", check_c2s_server);
    }

    #[test]
    fn corpus_of_trunks_still_holds() {
        replay("trunk_end", check_trunk_end);
    }

    #[test]
    fn corpus_of_dialback_elements_still_holds() {
        replay("dialback", check_dialback);
    }

    #[test]
    fn corpus_of_sasl_messages_still_holds() {
        replay("sasl", check_sasl);
    }
}
