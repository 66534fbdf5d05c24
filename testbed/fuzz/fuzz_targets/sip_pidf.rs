//! Presence documents and typing notices.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| gatehouse_sip::fuzzing::check_sip_pidf(data));
