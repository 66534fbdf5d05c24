//! Both ends of the trunk and their owners.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| gatehouse_xmpp::fuzzing::check_trunk_end(data));
