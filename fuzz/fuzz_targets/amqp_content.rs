#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| fuzz::amqp_content::check(input));
