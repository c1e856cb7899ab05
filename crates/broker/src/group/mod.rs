//! A group's state machine: who reads which partitions of a topic's log, and how far the group has come.
//!
//! Members hold a lease on their presence and lose it when they are not heard from. Every change of membership deals the
//! partitions out anew and raises the generation; a commit names its generation, so that a member that lost a partition without
//! knowing cannot move the offset of the one that has it now. A group without members may be committed to by anyone: consumers that
//! choose their partitions themselves need no membership.

mod assign;
mod record;

use std::collections::BTreeMap;
use std::time::Duration;

use types::limits::{MAX_COMMIT_METADATA_BYTES, MAX_GROUP_MEMBERS};
use types::{Epoch, Monotonic, Offset, Text, Timestamp};

use crate::codec::DecodeError;
pub use record::{Committed, GroupRecord};

/// The number of a dealing out of partitions. It grows with every change, and over restarts too: the epoch of the group's
/// log is its upper half.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Generation(pub u64);

/// Why a member was not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JoinError {
    /// See [`MAX_GROUP_MEMBERS`].
    #[error("a group has at most {MAX_GROUP_MEMBERS} members")]
    Full,
}

/// There is no such member: it never joined, left, or was not heard from for longer than its lease. It may join again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the group has no such member; it may join again")]
pub struct UnknownMember;

/// Why a commit or seek was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CommitError {
    /// See [`UnknownMember`].
    #[error(transparent)]
    UnknownMember(#[from] UnknownMember),
    /// The partitions were dealt out anew since.
    #[error("the commit is of an old generation; the present one is {}", present.0)]
    OldGeneration {
        /// The present one.
        present: Generation,
    },
    /// Another member has the partition.
    #[error("partition {partition} is not assigned to this member")]
    NotAssigned {
        /// Which.
        partition: u32,
    },
    /// Commits without a member would race with those of the members.
    #[error("the group has members, so only they may commit")]
    HasMembers,
    /// The topic has fewer partitions.
    #[error("the topic has no partition {partition}")]
    UnknownPartition {
        /// Which.
        partition: u32,
    },
    /// See [`MAX_COMMIT_METADATA_BYTES`].
    #[error("the text beside an offset has at most {MAX_COMMIT_METADATA_BYTES} bytes")]
    MetadataTooLong,
}

/// Who commits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Committer<'a> {
    /// A consumer that is no member; only while there are none.
    Standalone,
    /// A member, as of a generation.
    Member {
        /// Who.
        member: &'a str,
        /// As of which generation.
        generation: Generation,
    },
}

/// What happened, for metrics, advisories and consumers that wait.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GroupEvent {
    /// A member came, or came again.
    Joined {
        /// Who.
        member: Text,
    },
    /// A member went.
    Left {
        /// Who.
        member: Text,
        /// Whether its lease ran out.
        expired: bool,
    },
    /// Partitions were dealt out anew: members ask for their [`assignment`](Group::assignment).
    Assigned {
        /// As of which generation.
        generation: Generation,
    },
    /// An offset was committed.
    Committed {
        /// Of which partition.
        partition: u32,
        /// How far.
        offset: Offset,
    },
    /// The place was set, or forgotten: whoever reads the partition goes there.
    Sought {
        /// Of which partition.
        partition: u32,
        /// Where to; `None` if it was forgotten.
        offset: Option<Offset>,
    },
}

#[derive(Clone, Debug)]
struct Presence {
    lease: Duration,
    until: Monotonic,
}

/// The machine.
#[derive(Clone, Debug)]
pub struct Group {
    partitions: u32,
    generation: Generation,
    members: BTreeMap<Text, Presence>,
    owned: BTreeMap<Text, Vec<u32>>,
    offsets: BTreeMap<u32, Committed>,
    events: Vec<GroupEvent>,
}

impl Group {
    /// A group without members and offsets. `epoch` is that of the group's log; offsets come back by [`apply`](Self::apply).
    #[must_use]
    pub fn new(epoch: Epoch, partitions: u32) -> Self {
        Self {
            partitions,
            generation: Generation(u64::from(epoch.0) << 32),
            members: BTreeMap::new(),
            owned: BTreeMap::new(),
            offsets: BTreeMap::new(),
            events: Vec::new(),
        }
    }

    /// The present generation.
    #[must_use]
    pub fn generation(&self) -> Generation {
        self.generation
    }

    /// The members, in the order of their names.
    pub fn members(&self) -> impl ExactSizeIterator<Item = &Text> {
        self.members.keys()
    }

    /// The topic has so many partitions now. Offsets of partitions that went stay, in case they come back.
    pub fn set_partitions(&mut self, partitions: u32) {
        if partitions != self.partitions {
            self.partitions = partitions;
            self.deal();
        }
    }

    /// Lets a member in, or in again: a second one of the same name takes the place of the first, whose commits are refused from then on.
    /// It stays while it is heard from within every `lease`.
    ///
    /// # Errors
    /// See [`JoinError`].
    pub fn join(&mut self, now: Monotonic, member: Text, lease: Duration) -> Result<Generation, JoinError> {
        if self.members.len() >= MAX_GROUP_MEMBERS && !self.members.contains_key(&member) {
            return Err(JoinError::Full);
        }
        self.members.insert(member.clone(), Presence { lease, until: now.after(lease) });
        self.owned.entry(member.clone()).or_default();
        self.events.push(GroupEvent::Joined { member });
        self.deal();
        Ok(self.generation)
    }

    /// Renews a member's lease, and says the present generation: if it is another than the member's, it asks for its assignment.
    ///
    /// # Errors
    /// [`UnknownMember`].
    pub fn heartbeat(&mut self, now: Monotonic, member: &str) -> Result<Generation, UnknownMember> {
        let presence = self.members.get_mut(member).ok_or(UnknownMember)?;
        presence.until = now.after(presence.lease);
        Ok(self.generation)
    }

    /// Lets a member go; whether there was one.
    pub fn leave(&mut self, member: &str) -> bool {
        let there = self.remove(member, false);
        if there {
            self.deal();
        }
        there
    }

    /// Lets the members go whose leases ran out; whether there were any.
    pub fn tick(&mut self, now: Monotonic) -> bool {
        let late = self.members.iter().filter(|(_, presence)| presence.until <= now);
        let late: Vec<Text> = late.map(|(member, _)| member.clone()).collect();
        for member in &late {
            self.remove(member, true);
        }
        if !late.is_empty() {
            self.deal();
        }
        !late.is_empty()
    }

    /// When [`tick`](Self::tick) has something to do next; `None` if never.
    #[must_use]
    pub fn next_tick(&self, now: Monotonic) -> Option<Duration> {
        self.members.values().map(|presence| presence.until.since(now)).min()
    }

    fn remove(&mut self, member: &str, expired: bool) -> bool {
        self.owned.remove(member);
        match self.members.remove_entry(member) {
            Some((member, _)) => {
                self.events.push(GroupEvent::Left { member, expired });
                true
            }
            None => false,
        }
    }

    fn deal(&mut self) {
        assign::assign(self.partitions, &mut self.owned);
        self.raise();
    }

    fn raise(&mut self) {
        self.generation.0 += 1;
        self.events.push(GroupEvent::Assigned { generation: self.generation });
    }

    /// The partitions of a member, ascending, as of the present generation; maybe none, if there are more members than partitions.
    ///
    /// # Errors
    /// [`UnknownMember`].
    pub fn assignment(&self, member: &str) -> Result<(Generation, &[u32]), UnknownMember> {
        let partitions = self.owned.get(member).ok_or(UnknownMember)?;
        Ok((self.generation, partitions))
    }

    /// Who reads a partition.
    #[must_use]
    pub fn owner(&self, partition: u32) -> Option<&Text> {
        self.owned.iter().find(|(_, owned)| owned.binary_search(&partition).is_ok()).map(|(member, _)| member)
    }

    /// Checks a commit and gives the record that makes it. Nothing changes until the record is applied. The owner applies records in
    /// the order in which it writes them.
    ///
    /// # Errors
    /// See [`CommitError`].
    pub fn commit(
        &self,
        by: Committer<'_>,
        at: Timestamp,
        partition: u32,
        offset: Offset,
        metadata: Text,
    ) -> Result<GroupRecord, CommitError> {
        self.check_partition(partition)?;
        match by {
            Committer::Standalone if !self.members.is_empty() => return Err(CommitError::HasMembers),
            Committer::Standalone => {}
            Committer::Member { member, generation } => {
                let (present, owned) = self.assignment(member)?;
                if generation != present {
                    return Err(CommitError::OldGeneration { present });
                }
                if owned.binary_search(&partition).is_err() {
                    return Err(CommitError::NotAssigned { partition });
                }
            }
        }
        if metadata.bytes().len() > MAX_COMMIT_METADATA_BYTES {
            return Err(CommitError::MetadataTooLong);
        }
        Ok(GroupRecord::Commit { partition, committed: Committed { offset, metadata, at } })
    }

    /// Checks a change of place and gives the record that makes it. Allowed at any time. If there are members it raises the
    /// generation, now and once applied, so that none commits what it read before, neither while the record is being written
    /// nor after.
    ///
    /// # Errors
    /// [`CommitError::UnknownPartition`].
    pub fn seek(&mut self, at: Timestamp, partition: u32, offset: Offset) -> Result<GroupRecord, CommitError> {
        self.check_partition(partition)?;
        self.fence();
        Ok(GroupRecord::Seek { partition, committed: Committed { offset, metadata: Text::default(), at } })
    }

    /// Gives the record that takes a partition's committed offset away; as [`seek`](Self::seek). The partition need not be there any more.
    pub fn forget(&mut self, partition: u32) -> GroupRecord {
        self.fence();
        GroupRecord::Forget { partition }
    }

    fn fence(&mut self) {
        if !self.members.is_empty() {
            self.raise();
        }
    }

    fn check_partition(&self, partition: u32) -> Result<(), CommitError> {
        if partition < self.partitions { Ok(()) } else { Err(CommitError::UnknownPartition { partition }) }
    }

    /// Makes a change that is durable: one of this machine's own, or one that is replayed.
    pub fn apply(&mut self, record: GroupRecord) {
        match record {
            GroupRecord::Commit { partition, committed } => {
                self.events.push(GroupEvent::Committed { partition, offset: committed.offset });
                self.offsets.insert(partition, committed);
            }
            GroupRecord::Seek { partition, committed } => {
                self.sought(partition, Some(committed.offset));
                self.offsets.insert(partition, committed);
            }
            GroupRecord::Forget { partition } => {
                self.sought(partition, None);
                self.offsets.remove(&partition);
            }
            GroupRecord::Snapshot { offsets } => self.offsets = offsets.into_iter().collect(),
        }
    }

    fn sought(&mut self, partition: u32, offset: Option<Offset>) {
        self.events.push(GroupEvent::Sought { partition, offset });
        self.fence();
    }

    /// Reads a record of the state log and applies it.
    ///
    /// # Errors
    /// See [`DecodeError`]; nothing changed then.
    pub fn replay(&mut self, bytes: &[u8]) -> Result<(), DecodeError> {
        self.apply(GroupRecord::decode(bytes)?);
        Ok(())
    }

    /// The record that makes all that came before it superfluous.
    #[must_use]
    pub fn snapshot(&self) -> GroupRecord {
        let offsets = self.offsets.iter().map(|(partition, committed)| (*partition, committed.clone())).collect();
        GroupRecord::Snapshot { offsets }
    }

    /// How far the group has come in a partition, if it has begun.
    #[must_use]
    pub fn committed(&self, partition: u32) -> Option<&Committed> {
        self.offsets.get(&partition)
    }

    /// All committed offsets, by partition.
    pub fn offsets(&self) -> impl Iterator<Item = (u32, &Committed)> {
        self.offsets.iter().map(|(partition, committed)| (*partition, committed))
    }

    /// How many offsets of a partition are still to be read, given where its log starts and ends. A sparse log may hold fewer records.
    #[must_use]
    pub fn lag(&self, partition: u32, start: Offset, end: Offset) -> u64 {
        end.since(self.committed(partition).map_or(start, |committed| committed.offset.max(start)))
    }

    /// Takes the events since the last call.
    pub fn take_events(&mut self, out: &mut Vec<GroupEvent>) {
        out.append(&mut self.events);
    }
}

#[cfg(test)]
mod tests;
