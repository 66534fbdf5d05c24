//! The receiving end of a server stream and its owner.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| gatehouse_xmpp::fuzzing::check_s2s_receiver(data));
