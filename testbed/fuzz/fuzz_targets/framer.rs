//! Bytes to frames and back.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| gatehouse_xmpp::fuzzing::check_framer(data));
