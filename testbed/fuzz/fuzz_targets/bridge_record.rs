//! Stored subscriptions.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| gatehouse_bridge::fuzzing::check_record(data));
