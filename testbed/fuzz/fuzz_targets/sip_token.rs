//! Sealed tokens of port address translation.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| gatehouse_sip::fuzzing::check_token(data));
