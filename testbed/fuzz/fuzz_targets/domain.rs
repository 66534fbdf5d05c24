//! Domain names.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| gatehouse_types::fuzzing::check_domain(data));
