//! A bound on what reading may take from the allocator.

/// Runs `work` over `input_bytes` of input, which may hold at most `base_bytes` and `times` the input at once.
///
/// # Panics
/// If it held more.
pub(crate) fn bounded<T>(input_bytes: usize, base_bytes: usize, times: usize, work: impl FnOnce() -> T) -> T {
    let mut out = None;
    let held = allocation_counter::measure(|| out = Some(work())).bytes_max;
    let bound = (base_bytes + times * input_bytes) as u64;
    assert!(held <= bound, "reading {input_bytes} bytes held {held} bytes at once, {bound} are allowed");
    out.expect("`measure` runs what it is given")
}
