//! Dialogs of SIP, from messages and from the store.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| gatehouse_sip::fuzzing::check_sip_dialog(data));
