#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| fuzz::write_ahead_log::check(input));
