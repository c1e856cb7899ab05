use std::collections::HashMap;

use types::Monotonic;

use super::*;
use crate::seeds::for_seeds;

const WINDOW: Duration = Duration::from_secs(160);

/// Both clocks, `ms` after the start.
fn at(ms: u64) -> Now {
    Now { wall: Timestamp(1_000_000), mono: Monotonic(0) }.after(Duration::from_millis(ms))
}

fn hash(number: u64) -> DedupHash {
    DedupHash::of(&number.to_le_bytes())
}

/// Takes an id as an owner does whose writes always succeed.
fn take(window: &mut DedupWindow, now: Now, id: u64, offset: u64) -> Result<Dedup, DedupFull> {
    let answer = window.reserve(now, hash(id))?;
    if answer == Dedup::New {
        window.confirm(hash(id), Offset(offset));
    }
    Ok(answer)
}

#[test]
fn an_id_is_taken_once_a_window() {
    let mut window = DedupWindow::new(at(0), WINDOW, 100);
    assert_eq!(take(&mut window, at(5), 1, 7), Ok(Dedup::New));
    assert_eq!(take(&mut window, at(160_004), 1, 8), Ok(Dedup::Duplicate { offset: Offset(7) }));
    assert_eq!(take(&mut window, at(160_005), 1, 8), Ok(Dedup::New));
    assert_eq!(take(&mut window, at(160_006), 1, 9), Ok(Dedup::Duplicate { offset: Offset(8) }));
}

#[test]
fn an_id_under_way_is_pending_until_confirmed_or_cancelled() {
    let mut window = DedupWindow::new(at(0), WINDOW, 100);
    assert_eq!(window.reserve(at(0), hash(1)), Ok(Dedup::New));
    assert_eq!(window.reserve(at(0), hash(1)), Ok(Dedup::Pending));
    assert_eq!(window.reserve(at(500_000), hash(1)), Ok(Dedup::Pending), "however long it takes");
    window.cancel(hash(1));
    assert_eq!(window.entry(hash(1), Offset(3)), None);
    assert_eq!(window.reserve(at(0), hash(1)), Ok(Dedup::New));
    let entry = window.entry(hash(1), Offset(3)).unwrap();
    window.confirm(hash(1), Offset(3));
    assert_eq!(window.reserve(at(1), hash(1)), Ok(Dedup::Duplicate { offset: Offset(3) }));
    window.confirm(hash(2), Offset(9));
    assert_eq!(window.reserve(at(1), hash(2)), Ok(Dedup::New), "an id that was not reserved is not remembered");
    let mut replayed = DedupWindow::new(at(2), WINDOW, 100);
    replayed.observe(at(2), entry);
    assert_eq!(replayed.reserve(at(2), hash(1)), Ok(Dedup::Duplicate { offset: Offset(3) }));
}

#[test]
fn an_id_that_stands_twice_counts_as_the_later_says() {
    let mut window = DedupWindow::new(at(0), WINDOW, 100);
    assert_eq!(window.reserve(at(0), hash(1)), Ok(Dedup::New));
    take(&mut window, at(150_000), 2, 2).unwrap();
    // Written late: it is over at 160 s, but shares its slice with an id of 150 s.
    window.confirm(hash(1), Offset(1));
    assert_eq!(take(&mut window, at(161_000), 1, 3), Ok(Dedup::New));
    take(&mut window, at(175_000), 4, 4).unwrap();
    assert_eq!(take(&mut window, at(176_000), 1, 5), Ok(Dedup::Duplicate { offset: Offset(3) }));
}

#[test]
fn a_full_window_refuses_and_never_forgets_early() {
    let mut window = DedupWindow::new(at(0), WINDOW, 10);
    for id in 0..10 {
        take(&mut window, at(id * 1000), id, id).unwrap();
    }
    assert_eq!(take(&mut window, at(10_000), 99, 99), Err(DedupFull { capacity: 10 }));
    for id in 0..10 {
        assert_eq!(take(&mut window, at(10_000), id, 99), Ok(Dedup::Duplicate { offset: Offset(id) }));
    }
    // The first is over, though the slice that it stands in is not.
    assert_eq!(take(&mut window, at(160_000), 99, 99), Ok(Dedup::New));
    assert_eq!(take(&mut window, at(160_000), 1, 99), Ok(Dedup::Duplicate { offset: Offset(1) }));
    assert_eq!(take(&mut window, at(160_000), 98, 98), Err(DedupFull { capacity: 10 }));
}

#[test]
fn a_jump_of_the_wall_clock_neither_forgets_nor_keeps() {
    let jumped = |ms: u64, by: i64| {
        let now = at(ms);
        Now { wall: Timestamp(now.wall.0 + by), mono: now.mono }
    };
    for by in [1_000_000_000, -1_000_000_000] {
        let mut window = DedupWindow::new(at(0), WINDOW, 10);
        take(&mut window, at(0), 1, 1).unwrap();
        assert_eq!(take(&mut window, jumped(1, by), 1, 2), Ok(Dedup::Duplicate { offset: Offset(1) }));
        assert_eq!(take(&mut window, jumped(160_000, by), 1, 2), Ok(Dedup::New));
    }
}

#[test]
fn sealed_ids_take_32_bytes() {
    assert_eq!(std::mem::size_of::<Packed>(), 32);
}

#[test]
fn a_window_agrees_with_a_map_and_replay_remembers_the_same() {
    for_seeds(300, |rng| {
        let capacity = rng.usize(5..60);
        let mut window = DedupWindow::new(at(0), WINDOW, capacity);
        let mut model: HashMap<u64, (u64, u64)> = HashMap::new();
        let mut pending: Vec<u64> = Vec::new();
        let mut log: Vec<Vec<u8>> = Vec::new();
        let mut ms = 0;
        for offset in 0..rng.u64(1..200) {
            ms += rng.u64(0..8_000);
            let live = |seen: u64| ms - seen < 160_000;
            let id = rng.u64(0..80);
            let known = model.get(&id).filter(|(seen, _)| live(*seen));
            let count = model.values().filter(|(seen, _)| live(*seen)).count() + pending.len();
            match window.reserve(at(ms), hash(id)) {
                Ok(Dedup::Pending) => assert!(pending.contains(&id)),
                Ok(Dedup::Duplicate { offset }) => assert_eq!(Some(offset.0), known.map(|(_, offset)| *offset)),
                Ok(Dedup::New) => {
                    assert!(known.is_none() && !pending.contains(&id), "taken twice");
                    assert!(count < capacity);
                    match rng.u8(0..4) {
                        0 => window.cancel(hash(id)),
                        1 => pending.push(id),
                        _ => {
                            log.push(encode_entries(&[window.entry(hash(id), Offset(offset)).unwrap()]));
                            window.confirm(hash(id), Offset(offset));
                            model.insert(id, (ms, offset));
                        }
                    }
                }
                Err(full) => {
                    assert_eq!(full.capacity, capacity);
                    assert!(known.is_none() && window.len() >= capacity);
                }
            }
            if rng.u8(0..3) == 0
                && let Some(id) = pending.pop()
            {
                window.cancel(hash(id));
            }
        }
        let snapshot = window.snapshot(at(ms), 7);
        for records in [log, snapshot] {
            let mut again = DedupWindow::new(at(ms), WINDOW, 1000);
            for entry in records.iter().flat_map(|bytes| decode_entries(bytes).unwrap()) {
                again.observe(at(ms), entry);
            }
            for id in 0..80 {
                let want = model.get(&id).filter(|(seen, _)| ms - seen < 160_000);
                let want = want.map_or(Dedup::New, |(_, offset)| Dedup::Duplicate { offset: Offset(*offset) });
                assert_eq!(again.reserve(at(ms), hash(id)), Ok(want));
            }
        }
    });
}

#[test]
fn damaged_records_are_refused() {
    let bytes = encode_entries(&[DedupEntry { hash: hash(1), at: Timestamp(-3), offset: Offset(300) }]);
    for len in 0..bytes.len() {
        assert!(decode_entries(&bytes[..len]).is_err());
    }
    assert_eq!(decode_entries(&[2]), Err(DecodeError::Kind(2)));
    assert_eq!(decode_entries(&[1, 0, 0]), Err(DecodeError::Trailing(1)));
}
