use std::collections::BTreeMap;
use std::time::Duration;

use types::{Epoch, Monotonic, Offset, Text, Timestamp};

use super::*;
use crate::codec::DecodeError;
use crate::seeds::for_seeds;

const LEASE: Duration = Duration::from_secs(10);

fn seconds(seconds: u64) -> Monotonic {
    Monotonic(seconds * 1_000_000_000)
}

fn committed(offset: u64, metadata: &str) -> Committed {
    Committed { offset: Offset(offset), metadata: metadata.into(), at: Timestamp(7) }
}

fn owners(group: &Group, partitions: u32) -> Vec<Option<Text>> {
    (0..partitions).map(|partition| group.owner(partition).cloned()).collect()
}

#[test]
fn a_commit_of_another_generation_or_partition_is_refused() {
    let mut group = Group::new(Epoch(3), 4);
    let first = group.join(seconds(0), "a".into(), LEASE).unwrap();
    let commit = |group: &Group, member: &str, generation, partition| {
        let by = Committer::Member { member, generation };
        group.commit(by, Timestamp(0), partition, Offset(5), Text::default())
    };
    let record = commit(&group, "a", first, 3).unwrap();
    group.apply(record);
    assert_eq!(group.committed(3).map(|committed| committed.offset), Some(Offset(5)));

    let second = group.join(seconds(0), "b".into(), LEASE).unwrap();
    assert!(second > first);
    assert_eq!(commit(&group, "a", first, 0), Err(CommitError::OldGeneration { present: second }));
    assert_eq!(group.assignment("a"), Ok((second, [0, 1].as_slice())));
    assert_eq!(commit(&group, "a", second, 3), Err(CommitError::NotAssigned { partition: 3 }));
    assert!(commit(&group, "b", second, 3).is_ok());
    assert_eq!(commit(&group, "c", second, 3), Err(UnknownMember.into()));
    assert_eq!(commit(&group, "b", second, 4), Err(CommitError::UnknownPartition { partition: 4 }));
    let long = Text::from("x".repeat(MAX_COMMIT_METADATA_BYTES + 1));
    let by = Committer::Member { member: "b", generation: second };
    assert_eq!(group.commit(by, Timestamp(0), 3, Offset(1), long), Err(CommitError::MetadataTooLong));

    let alone = |group: &Group| group.commit(Committer::Standalone, Timestamp(0), 0, Offset(1), Text::default());
    assert_eq!(alone(&group), Err(CommitError::HasMembers));
    assert!(group.leave("a") && group.leave("b") && !group.leave("b"));
    assert!(alone(&group).is_ok());
}

#[test]
fn a_seek_fences_what_was_read_before_it() {
    let mut group = Group::new(Epoch(0), 1);
    let generation = group.join(seconds(0), "a".into(), LEASE).unwrap();
    let refused = |group: &Group, generation| {
        let by = Committer::Member { member: "a", generation };
        let late = group.commit(by, Timestamp(0), 0, Offset(9), Text::default());
        assert!(matches!(late, Err(CommitError::OldGeneration { .. })));
    };
    let seek = group.seek(Timestamp(0), 0, Offset(2)).unwrap();
    refused(&group, generation);
    let meanwhile = group.generation();
    group.apply(seek);
    refused(&group, meanwhile);
    assert_eq!(group.committed(0), Some(&Committed { at: Timestamp(0), ..committed(2, "") }));
    assert_eq!(group.seek(Timestamp(0), 1, Offset(0)), Err(CommitError::UnknownPartition { partition: 1 }));
    let mut events = Vec::new();
    group.take_events(&mut events);
    assert!(events.contains(&GroupEvent::Sought { partition: 0, offset: Some(Offset(2)) }), "{events:?}");
}

#[test]
fn members_that_are_not_heard_from_go() {
    let mut group = Group::new(Epoch(0), 2);
    group.join(seconds(0), "a".into(), LEASE).unwrap();
    group.join(seconds(4), "b".into(), LEASE).unwrap();
    assert_eq!(group.next_tick(seconds(4)), Some(Duration::from_secs(6)));
    let before = group.heartbeat(seconds(8), "a").unwrap();
    assert!(!group.tick(seconds(13)));
    assert!(group.tick(seconds(14)), "b's lease ends at 14 s");
    assert_eq!(group.heartbeat(seconds(14), "b"), Err(UnknownMember));
    assert_eq!(group.assignment("a").unwrap().1, [0, 1]);
    assert!(group.generation() > before);
    let mut events = Vec::new();
    group.take_events(&mut events);
    assert!(events.contains(&GroupEvent::Left { member: "b".into(), expired: true }));
    assert_eq!(Group::new(Epoch(1), 2).next_tick(seconds(0)), None);
}

#[test]
fn generations_grow_over_restarts() {
    let mut before = Group::new(Epoch(4), 1);
    for _ in 0..100 {
        before.join(seconds(0), "a".into(), LEASE).unwrap();
    }
    assert!(Group::new(Epoch(5), 1).generation() > before.generation());
}

#[test]
fn a_full_group_lets_nobody_in_but_its_own() {
    let mut group = Group::new(Epoch(0), 1);
    for number in 0..MAX_GROUP_MEMBERS {
        group.members.insert(number.to_string().into(), Presence { lease: LEASE, until: seconds(10) });
    }
    assert_eq!(group.join(seconds(0), "new".into(), LEASE), Err(JoinError::Full));
    assert!(group.join(seconds(0), "7".into(), LEASE).is_ok());
}

#[test]
fn lag_counts_from_the_committed_offset_or_the_start() {
    let mut group = Group::new(Epoch(0), 2);
    assert_eq!(group.lag(0, Offset(10), Offset(15)), 5);
    group.apply(GroupRecord::Commit { partition: 0, committed: committed(12, "") });
    assert_eq!(group.lag(0, Offset(10), Offset(15)), 3);
    assert_eq!(group.lag(0, Offset(14), Offset(15)), 1, "the start moved past it");
    assert_eq!(group.lag(0, Offset(0), Offset(11)), 0);
}

#[test]
fn every_dealing_is_balanced_complete_and_moves_as_little_as_it_can() {
    for_seeds(300, |rng| {
        let mut partitions = rng.u32(1..30);
        let mut group = Group::new(Epoch(1), partitions);
        for _ in 0..rng.usize(1..60) {
            let before = owners(&group, partitions);
            let generation = group.generation();
            let was_member = |member: &str| before.iter().flatten().any(|owner| *owner == *member);
            let member = format!("m{}", rng.u8(0..12));
            match rng.u8(0..8) {
                0 => {
                    partitions = rng.u32(1..30);
                    group.set_partitions(partitions);
                }
                1..=4 => {
                    let known = group.assignment(&member).is_ok();
                    assert!(group.join(seconds(0), member.as_str().into(), LEASE).unwrap() > generation);
                    for (old, new) in before.iter().zip(owners(&group, partitions)) {
                        assert!(old.is_none() || *old == new || (!known && new == Some(member.as_str().into())));
                    }
                }
                _ => {
                    let had = group.leave(&member);
                    assert_eq!(group.generation() > generation, had);
                    for (old, new) in before.iter().zip(owners(&group, partitions)) {
                        assert!(*old == new || (was_member(&member) && *old == Some(member.as_str().into())));
                    }
                }
            }
            let members: Vec<Text> = group.members().cloned().collect();
            let sizes: Vec<usize> = members.iter().map(|member| group.assignment(member).unwrap().1.len()).collect();
            if let (Some(most), Some(least)) = (sizes.iter().max(), sizes.iter().min()) {
                assert!(most - least <= 1, "{sizes:?}");
                assert_eq!(sizes.iter().sum::<usize>(), partitions as usize);
                assert!(owners(&group, partitions).iter().all(Option::is_some));
            }
        }
    });
}

#[test]
fn replay_gives_the_same_offsets() {
    for_seeds(200, |rng| {
        let (mut group, mut log, mut model) = (Group::new(Epoch(1), 8), Vec::new(), BTreeMap::new());
        for _ in 0..rng.usize(0..60) {
            let partition = rng.u32(0..8);
            let place = committed(rng.u64(..), ["", "meta", "ä"][rng.usize(0..3)]);
            let record = match rng.u8(0..8) {
                0 => group.snapshot(),
                1 => {
                    model.remove(&partition);
                    group.forget(partition)
                }
                2 => {
                    model.insert(partition, place.clone());
                    GroupRecord::Seek { partition, committed: place }
                }
                _ => {
                    model.insert(partition, place.clone());
                    GroupRecord::Commit { partition, committed: place }
                }
            };
            log.push(record.encode());
            group.apply(record);
        }
        // A log may be cut at a snapshot: replay from the last one gives the same.
        let last_snapshot = log.iter().rposition(|bytes| bytes.first() == Some(&4)).unwrap_or(0);
        for from in [0, last_snapshot] {
            let mut again = Group::new(Epoch(2), 8);
            log.iter().skip(from).for_each(|bytes| again.replay(bytes).unwrap());
            assert!(again.offsets().eq(model.iter().map(|(partition, committed)| (*partition, committed))));
        }
    });
}

#[test]
fn damaged_records_are_refused() {
    // The example of docs/formats/group-records.md.
    let record = GroupRecord::Commit { partition: 2, committed: Committed { at: Timestamp(0), ..committed(300, "x") } };
    let bytes = record.encode();
    assert_eq!(bytes, [1, 2, 0xac, 2, 0, 1, b'x']);
    for len in 0..bytes.len() {
        assert_eq!(GroupRecord::decode(&bytes[..len]), Err(DecodeError::Truncated));
    }
    assert_eq!(GroupRecord::decode(&[bytes, vec![0]].concat()), Err(DecodeError::Trailing(1)));
    assert_eq!(GroupRecord::decode(&[9]), Err(DecodeError::Kind(9)));
    let endless = [4, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1];
    assert_eq!(GroupRecord::decode(&endless), Err(DecodeError::Truncated));
    for_seeds(2000, |rng| {
        let bytes: Vec<u8> = (0..rng.usize(0..20)).map(|_| rng.u8(..)).collect();
        if let Ok(record) = GroupRecord::decode(&bytes) {
            assert_eq!(GroupRecord::decode(&record.encode()), Ok(record));
        }
    });
}
