//! What certificates say and prove.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| gatehouse_identity::fuzzing::check_certificate(data));
