use std::collections::HashMap;

use types::{Monotonic, Now, Offset, Timestamp};

use super::*;
use crate::seeds::for_seeds;

const NOW: Now = Now { wall: Timestamp(1_000_000), mono: Monotonic(0) };

fn batch(epoch: u32, first_sequence: u32, messages: u32) -> ProducerBatch {
    ProducerBatch { epoch, first_sequence, messages }
}

fn producer(number: i64) -> ProducerId {
    ProducerId::Number(number)
}

/// Publishes as an owner does whose writes always succeed.
fn publish(
    windows: &mut ProducerWindows,
    id: i64,
    batch: ProducerBatch,
    offset: u64,
) -> Result<Sequence, SequenceError> {
    let answer = windows.begin(NOW, &producer(id), batch)?;
    if answer == Sequence::New {
        windows.confirm(NOW, &producer(id), batch, Offset(offset));
    }
    Ok(answer)
}

#[test]
fn the_last_five_batches_are_recognised() {
    let mut windows = ProducerWindows::new(NOW);
    for n in 0..6 {
        assert_eq!(publish(&mut windows, 1, batch(0, n * 10, 10), u64::from(n) * 100), Ok(Sequence::New));
    }
    for n in 1..6 {
        let duplicate = Sequence::Duplicate { offset: Offset(u64::from(n) * 100) };
        assert_eq!(publish(&mut windows, 1, batch(0, n * 10, 10), 999), Ok(duplicate));
    }
    let out = |found| Err(SequenceError::OutOfSequence { expected: 60, found });
    assert_eq!(publish(&mut windows, 1, batch(0, 0, 10), 999), out(0));
    assert_eq!(publish(&mut windows, 1, batch(0, 61, 1), 999), out(61));
    assert_eq!(publish(&mut windows, 1, batch(0, 50, 9), 999), out(50), "not the same batch");
    assert_eq!(publish(&mut windows, 2, batch(0, 77, 1), 1), Ok(Sequence::New), "an unknown producer begins anywhere");
}

#[test]
fn a_newer_epoch_fences_the_older_and_begins_at_zero() {
    let mut windows = ProducerWindows::new(NOW);
    publish(&mut windows, 1, batch(3, 5, 1), 1).unwrap();
    assert_eq!(
        publish(&mut windows, 1, batch(4, 6, 1), 2),
        Err(SequenceError::OutOfSequence { expected: 0, found: 6 })
    );
    assert_eq!(publish(&mut windows, 1, batch(4, 0, 1), 2), Ok(Sequence::New));
    assert_eq!(publish(&mut windows, 1, batch(3, 5, 1), 3), Err(SequenceError::Fenced { present: 4, found: 3 }));
}

#[test]
fn sequence_numbers_begin_again_after_the_largest() {
    let mut windows = ProducerWindows::new(NOW);
    let last = (1 << 31) - 2;
    assert_eq!(publish(&mut windows, 1, batch(0, last, 2), 1), Ok(Sequence::New));
    assert_eq!(publish(&mut windows, 1, batch(0, 0, 3), 3), Ok(Sequence::New));
    assert_eq!(publish(&mut windows, 1, batch(0, last, 2), 9), Ok(Sequence::Duplicate { offset: Offset(1) }));
    assert_eq!(publish(&mut windows, 2, batch(0, last, 5), 1), Ok(Sequence::New), "a batch may cross the end");
    assert_eq!(publish(&mut windows, 2, batch(0, 3, 1), 6), Ok(Sequence::New));
    assert_eq!(publish(&mut windows, 1, batch(0, 3, 0), 9), Err(SequenceError::Malformed));
    assert_eq!(publish(&mut windows, 1, batch(0, 1 << 31, 1), 9), Err(SequenceError::Malformed));
}

#[test]
fn batches_under_way_are_pending_and_a_cancelled_one_takes_those_after_it_along() {
    let mut windows = ProducerWindows::new(NOW);
    let id = producer(1);
    publish(&mut windows, 1, batch(0, 0, 1), 0).unwrap();
    for first in 1..4 {
        assert_eq!(windows.begin(NOW, &id, batch(0, first, 1)), Ok(Sequence::New));
    }
    assert_eq!(windows.begin(NOW, &id, batch(0, 2, 1)), Ok(Sequence::Pending));
    windows.confirm(NOW, &id, batch(0, 1, 1), Offset(1));
    windows.cancel(&id, batch(0, 2, 1));
    windows.cancel(&id, batch(0, 3, 1));
    assert_eq!(windows.begin(NOW, &id, batch(0, 3, 1)), Err(SequenceError::OutOfSequence { expected: 2, found: 3 }));
    assert_eq!(publish(&mut windows, 1, batch(0, 2, 1), 2), Ok(Sequence::New), "it is sent again");
    windows.begin(NOW, &producer(2), batch(0, 5, 1)).unwrap();
    windows.cancel(&producer(2), batch(0, 5, 1));
    assert_eq!(windows.len(), 1, "nothing is known of a producer that never succeeded");
}

#[test]
fn a_cancelled_batch_of_a_new_epoch_still_fences_the_old_one() {
    let mut windows = ProducerWindows::new(NOW);
    publish(&mut windows, 1, batch(3, 5, 1), 1).unwrap();
    windows.begin(NOW, &producer(1), batch(4, 0, 1)).unwrap();
    windows.cancel(&producer(1), batch(4, 0, 1));
    assert_eq!(publish(&mut windows, 1, batch(3, 6, 1), 2), Err(SequenceError::Fenced { present: 4, found: 3 }));
    assert_eq!(publish(&mut windows, 1, batch(4, 0, 1), 2), Ok(Sequence::New));
    for first in 1..=MAX_PRODUCER_PENDING as u32 {
        windows.begin(NOW, &producer(1), batch(4, first, 1)).unwrap();
    }
    let more = batch(4, MAX_PRODUCER_PENDING as u32 + 1, 1);
    assert_eq!(windows.begin(NOW, &producer(1), more), Err(SequenceError::TooManyPending));
}

#[test]
fn producers_are_forgotten_after_a_time_and_beyond_a_number() {
    let mut windows = ProducerWindows::new(NOW);
    publish(&mut windows, 1, batch(0, 0, 1), 0).unwrap();
    let jumped = Now { wall: NOW.wall.after(PRODUCER_EXPIRY * 9), mono: NOW.mono };
    windows.expire(jumped);
    let later = NOW.after(PRODUCER_EXPIRY);
    let just_before = NOW.after(PRODUCER_EXPIRY - std::time::Duration::from_millis(1));
    assert_eq!(windows.begin(just_before, &producer(2), batch(0, 0, 1)), Ok(Sequence::New));
    assert_eq!(windows.len(), 2);
    windows.expire(later);
    assert_eq!(windows.len(), 1, "the first is forgotten");
    windows.expire(later.after(PRODUCER_EXPIRY * 2));
    assert_eq!(windows.len(), 1, "a producer with a batch under way is not");

    let mut windows = ProducerWindows::new(NOW);
    for id in 0..MAX_PRODUCERS as i64 {
        publish(&mut windows, id, batch(0, 0, 1), 0).unwrap();
    }
    publish(&mut windows, 0, batch(0, 1, 1), 1).unwrap();
    publish(&mut windows, -1, batch(0, 0, 1), 2).unwrap();
    assert_eq!(windows.len(), MAX_PRODUCERS);
    let known = |windows: &mut ProducerWindows, id| publish(windows, id, batch(0, 0, 1), 9) != Ok(Sequence::New);
    assert!(known(&mut windows, 0) && !known(&mut windows, 1), "the one unused for longest went");

    let mut busy = ProducerWindows::new(NOW);
    for id in 0..MAX_PRODUCERS as i64 {
        busy.begin(NOW, &producer(id), batch(0, 0, 1)).unwrap();
    }
    assert_eq!(busy.begin(NOW, &producer(-1), batch(0, 0, 1)), Err(SequenceError::TooManyProducers));
}

#[test]
fn a_log_of_numbered_batches_never_holds_one_twice_and_replay_knows_the_same() {
    for_seeds(300, |rng| {
        let mut windows = ProducerWindows::new(NOW);
        // The log: offset, producer, batch. `next` is what each producer would send next; `sent` what it may send again.
        let mut log: Vec<(u64, i64, ProducerBatch)> = Vec::new();
        let mut sent: HashMap<i64, Vec<ProducerBatch>> = HashMap::new();
        let mut end = 0;
        for _ in 0..rng.usize(1..80) {
            let id = rng.i64(0..4);
            let history = sent.entry(id).or_default();
            let next = history.last().map_or(0, |last| last.first_sequence + last.messages);
            let again = !history.is_empty() && rng.bool();
            let one = if again {
                history[rng.usize(history.len().saturating_sub(5)..history.len())]
            } else {
                batch(0, next, rng.u32(1..4))
            };
            let there = log.iter().find(|(_, by, have)| (*by, *have) == (id, one)).map(|(offset, ..)| *offset);
            match windows.begin(NOW, &producer(id), one).unwrap() {
                Sequence::Duplicate { offset } => assert_eq!(Some(offset.0), there),
                Sequence::New if rng.u8(0..5) == 0 => {
                    assert_eq!(there, None);
                    windows.cancel(&producer(id), one);
                }
                Sequence::New => {
                    assert_eq!(there, None, "written twice");
                    windows.confirm(NOW, &producer(id), one, Offset(end));
                    log.push((end, id, one));
                    history.push(one);
                    end += u64::from(one.messages);
                }
                Sequence::Pending => panic!("nothing is under way"),
            }
        }
        let mut replayed = ProducerWindows::new(NOW);
        let cut = rng.usize(0..=log.len());
        for (at, (offset, id, one)) in log.iter().enumerate() {
            if at == cut {
                replayed = ProducerWindows::decode(NOW, &replayed.encode()).unwrap();
            }
            replayed.observe(NOW.wall, &producer(*id), *one, Offset(*offset));
        }
        assert_eq!(replayed.len(), windows.len());
        for (id, window) in &windows.windows {
            let other = &replayed.windows[id];
            assert_eq!((window.next, window.epoch, &window.batches), (other.next, other.epoch, &other.batches));
        }
    });
}

#[test]
fn snapshots_are_read_back_and_damage_is_refused() {
    let mut windows = ProducerWindows::new(NOW);
    publish(&mut windows, -5, batch(2, 7, 3), 40).unwrap();
    let name = ProducerId::Name("shop".into());
    windows.begin(NOW, &name, batch(0, 0, 1)).unwrap();
    windows.confirm(NOW, &name, batch(0, 0, 1), Offset(43));
    let bytes = windows.encode();
    let again = ProducerWindows::decode(NOW, &bytes).unwrap();
    assert_eq!(again.encode(), bytes);
    for len in 0..bytes.len() {
        assert!(ProducerWindows::decode(NOW, &bytes[..len]).is_err());
    }
    for_seeds(1000, |rng| {
        let mut bytes = bytes.clone();
        let at = rng.usize(0..bytes.len());
        bytes[at] = rng.u8(..);
        drop(ProducerWindows::decode(NOW, &bytes));
    });
}
