//! The text of a message, out of any body.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| gatehouse_bridge::fuzzing::check_body(data));
