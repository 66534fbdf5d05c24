//! A client's stream and its owner.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| gatehouse_xmpp::fuzzing::check_c2s_server(data));
