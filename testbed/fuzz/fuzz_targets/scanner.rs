//! Our reader of XML and another one.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| gatehouse_xmpp::fuzzing::check_scanner(data));
