//! Consumer groups: membership, fetching, committing, seeking.

use std::sync::Arc;
use std::time::Duration;

use log::{Cleanup, LogConfig};
use types::limits::{MAX_RECEIVE_MESSAGES, MAX_RECEIVE_WAIT};
use types::{Now, Offset, Text, check_name};

use super::Session;
use super::admin::{difference, to_the_end};
use super::replay::{READ_BYTES, Wait};
use crate::access::Action;
use crate::definitions::{GroupConfig, GroupStart};
use crate::errors::{DeclareError, ReplayError};
use crate::group::{Committer, Generation};
use crate::groups::GroupOwner;
use crate::meta::MetaRecord;
use crate::shared::log_of;
use crate::topics::Topic;
use crate::validate::validate_group;
use crate::views::{Declared, GroupInfo, GroupMember, GroupPartition, ReadFrom, Record};

impl Session {
    /// Makes a group on a topic that keeps a log. As [`declare_topic`](Self::declare_topic).
    ///
    /// # Errors
    /// See [`DeclareError`].
    pub async fn declare_group(
        &self,
        name: &str,
        config: GroupConfig,
        update: bool,
    ) -> Result<(Declared, GroupInfo), DeclareError> {
        check_name(name)?;
        self.may(Action::Configure, "group", name)?;
        self.may(Action::Read, "topic", &config.topic)?;
        validate_group(&config)?;
        let (session, name) = (self.clone(), name.to_owned());
        to_the_end(async move { session.declare_group_now(&name, config, update).await }).await
    }

    async fn declare_group_now(
        &self,
        name: &str,
        config: GroupConfig,
        update: bool,
    ) -> Result<(Declared, GroupInfo), DeclareError> {
        let mut change = self.begin_change().await?;
        let topic = self.space.topic(&config.topic).ok_or_else(|| Self::not_found("topic", &config.topic))?;
        let namespace = self.space.id.0;
        if let Some(group) = self.space.group(name) {
            let have = group.config();
            if *have == config {
                return Ok((Declared::Unchanged, self.group_info(&group)));
            }
            let entity = format!("group {name:?}");
            if !update || have.topic != config.topic {
                return Err(DeclareError::Conflict { entity, difference: difference(&*have, &config) });
            }
            let (id, name) = (group.id.0, name.to_owned());
            change.record(MetaRecord::PutGroup { namespace, id, name, config: config.clone() });
            let _held = change.commit(self.shared()).await?;
            group.redefine(config);
            self.shared().changed();
            return Ok((Declared::Updated, self.group_info(&group)));
        }
        let partitions = u32::try_from(topic.partitions().len()).unwrap_or(u32::MAX);
        if partitions == 0 {
            let why = format!("topic {:?} keeps no log; give it a retention", config.topic);
            return Err(DeclareError::Invalid { field: "topic".to_owned(), why });
        }
        if topic.definition().config.volatile {
            let why =
                format!("topic {:?} is volatile, and a group on it would outlive it; use one that lasts", config.topic);
            return Err(DeclareError::Invalid { field: "topic".to_owned(), why });
        }
        let id = change.meta.new_id();
        let owned = change.create_log(log_of(id, 0), group_log_config(&self.space.name, name));
        change.record(MetaRecord::PutGroup { namespace, id: id.0, name: name.to_owned(), config: config.clone() });
        let _held = change.commit(self.shared()).await?;
        let group = Arc::new(GroupOwner::new(id, name, owned, config, partitions));
        self.space.entities.write().groups.insert(Arc::clone(&group.name), Arc::clone(&group));
        self.shared().changed();
        Ok((Declared::Created, self.group_info(&group)))
    }

    /// Deletes a group and its offsets.
    ///
    /// # Errors
    /// See [`DeclareError`].
    pub async fn delete_group(&self, name: &str) -> Result<(), DeclareError> {
        self.may(Action::Configure, "group", name)?;
        let (session, name) = (self.clone(), name.to_owned());
        to_the_end(async move { session.delete_group_now(&name).await }).await
    }

    async fn delete_group_now(&self, name: &str) -> Result<(), DeclareError> {
        let mut change = self.begin_change().await?;
        let group = self.space.group(name).ok_or_else(|| Self::not_found("group", name))?;
        change.record(MetaRecord::DeleteGroup { id: group.id.0 });
        change.remove_log(group.owned());
        let _held = change.commit(self.shared()).await?;
        self.space.entities.write().groups.remove(name);
        group.delete();
        self.shared().changed();
        Ok(())
    }

    /// One group.
    ///
    /// # Errors
    /// See [`ReplayError`].
    pub fn group(&self, name: &str) -> Result<GroupInfo, ReplayError> {
        let group = self.readable_group(name)?;
        Ok(self.group_info(&group))
    }

    /// All groups that the user may see, by name.
    ///
    /// # Errors
    /// See [`ReplayError`].
    pub fn groups(&self) -> Result<Vec<GroupInfo>, ReplayError> {
        let grants = self.grants()?;
        let groups: Vec<Arc<GroupOwner>> = self.space.entities.read().groups.values().cloned().collect();
        Ok(groups.iter().filter(|group| self.sees(&grants, &group.name)).map(|group| self.group_info(group)).collect())
    }

    /// Joins as a member, or gives a sign of life; gives the group's generation and the member's partitions.
    ///
    /// # Errors
    /// See [`ReplayError`].
    pub fn join_group(&self, group: &str, member: &str) -> Result<(u64, Vec<u32>), ReplayError> {
        check_name(member)
            .map_err(|error| ReplayError::Invalid { field: "member".to_owned(), why: error.to_string() })?;
        let group = self.readable_group(group)?;
        let topic = self.topic_of(&group)?;
        let now = self.now();
        let mut machine = group.machine.lock();
        machine.tick(now.mono);
        machine.set_partitions(partition_count(&topic));
        if machine.heartbeat(now.mono, member).is_err() {
            machine.join(now.mono, Text::from(member), group.session()).map_err(membership)?;
        }
        let (generation, partitions) = machine.assignment(member).map_err(membership)?;
        Ok((generation.0, partitions.to_vec()))
    }

    /// Leaves.
    ///
    /// # Errors
    /// [`ReplayError::Membership`] if it is no member.
    pub fn leave_group(&self, group: &str, member: &str) -> Result<(), ReplayError> {
        let group = self.readable_group(group)?;
        if group.machine.lock().leave(member) {
            return Ok(());
        }
        Err(membership(crate::group::UnknownMember))
    }

    /// Reads on from where the group stands on the member's partitions, without moving it. Waits for the first record. A sign of life, too.
    ///
    /// # Errors
    /// See [`ReplayError`].
    pub async fn fetch_group(
        &self,
        group: &str,
        member: &str,
        generation: u64,
        max: usize,
        wait: Duration,
    ) -> Result<Vec<Record>, ReplayError> {
        let group = self.readable_group(group)?;
        let topic = self.topic_of(&group)?;
        let max = max.clamp(1, MAX_RECEIVE_MESSAGES);
        let wait = Wait::new(wait.min(MAX_RECEIVE_WAIT));
        loop {
            let appended = topic.wait();
            tokio::pin!(appended);
            appended.as_mut().enable();
            let now = self.now();
            if group.is_deleted() {
                return Err(ReplayError::NotFound { entity: format!("group {:?}", &*group.name) });
            }
            group.machine.lock().set_partitions(partition_count(&topic));
            let mut partitions = member_partitions(&group, member, generation, now)?;
            group.turn(&mut partitions);
            let mut records = Vec::new();
            for partition in partitions {
                if records.len() < max {
                    let from = self.group_place(&group, &topic, partition)?;
                    let answer = self.read_partition(&topic, partition, from, max - records.len(), READ_BYTES)?;
                    records.extend(answer.records);
                }
            }
            let left = wait.left();
            if !records.is_empty() || left.is_zero() || self.shared().is_closed() {
                return Ok(records);
            }
            // A third of the session: the wait itself must not cost the membership.
            let _ = tokio::time::timeout(left.min(group.session() / 3), appended).await;
            self.may(Action::Read, "group", &group.name)?;
        }
    }

    /// Commits the next offsets to read. `member` with its generation, or `None` for a group without members.
    ///
    /// # Errors
    /// See [`ReplayError`].
    pub async fn commit_group(
        &self,
        group: &str,
        member: Option<(&str, u64)>,
        offsets: &[(u32, Offset)],
    ) -> Result<(), ReplayError> {
        let group = self.readable_group(group)?;
        let count = self.topic_of(&group).map(|topic| partition_count(&topic))?;
        let now = self.now();
        group
            .change(self.shared(), |machine| {
                machine.tick(now.mono);
                machine.set_partitions(count);
                let by = match member {
                    Some((member, generation)) => Committer::Member { member, generation: Generation(generation) },
                    None => Committer::Standalone,
                };
                let commit = |(partition, offset): &(u32, Offset)| {
                    machine.commit(by, now.wall, *partition, *offset, Text::default()).map_err(membership)
                };
                offsets.iter().map(commit).collect()
            })
            .await
    }

    /// Moves a group: one partition or all of them.
    ///
    /// # Errors
    /// See [`ReplayError`].
    pub async fn seek_group(
        &self,
        group: &str,
        partition: Option<u32>,
        to: ReadFrom,
    ) -> Result<Vec<GroupPartition>, ReplayError> {
        let group = self.readable_group(group)?;
        let topic = self.topic_of(&group)?;
        let count = partition_count(&topic);
        let partitions = match partition {
            Some(partition) => partition..partition.saturating_add(1),
            None => 0..count,
        };
        let mut places = Vec::new();
        for partition in partitions {
            places.push((partition, self.resolve(&topic, partition, to)?));
        }
        let now = self.now();
        group
            .change(self.shared(), |machine| {
                machine.set_partitions(count);
                let seek =
                    |(partition, offset): (u32, Offset)| machine.seek(now.wall, partition, offset).map_err(membership);
                places.into_iter().map(seek).collect::<Result<Vec<_>, ReplayError>>()
            })
            .await?;
        Ok(self.group_info(&group).partitions)
    }

    fn readable_group(&self, name: &str) -> Result<Arc<GroupOwner>, ReplayError> {
        self.may(Action::Read, "group", name)?;
        self.space.group(name).ok_or_else(|| ReplayError::NotFound { entity: format!("group {name:?}") })
    }

    fn topic_of(&self, group: &GroupOwner) -> Result<Arc<Topic>, ReplayError> {
        self.readable_topic(&group.config().topic)
    }

    /// Where a group reads on. An offset beyond the end is of a log that was in memory and began anew: as if there were none.
    fn group_place(&self, group: &GroupOwner, topic: &Topic, partition: u32) -> Result<Offset, ReplayError> {
        let end = self.resolve(topic, partition, ReadFrom::Latest)?;
        let committed = group.committed(partition).filter(|offset| *offset <= end || !is_volatile(topic));
        match (committed, group.config().start) {
            (Some(offset), _) => Ok(offset),
            (None, GroupStart::Earliest) => self.resolve(topic, partition, ReadFrom::Earliest),
            (None, GroupStart::Latest) => self.resolve(topic, partition, ReadFrom::Latest),
        }
    }

    fn group_info(&self, group: &GroupOwner) -> GroupInfo {
        let config = group.config();
        let logs = self.space.topic(&config.topic).map(|topic| topic.partitions());
        let machine = group.machine.lock();
        let partition = |(number, owned): (u32, &crate::transaction::Owned)| {
            let state = self.shared().log.state(owned.log).unwrap_or_default();
            GroupPartition {
                partition: number,
                committed: machine.committed(number).map(|committed| committed.offset),
                end: state.end,
                lag: machine.lag(number, state.start, state.end),
            }
        };
        let member = |name: &Text| GroupMember {
            member: name.to_string(),
            partitions: machine.assignment(name).map(|(_, partitions)| partitions.to_vec()).unwrap_or_default(),
        };
        GroupInfo {
            id: group.id,
            name: group.name.to_string(),
            config: (*config).clone(),
            generation: machine.generation().0,
            members: machine.members().map(member).collect(),
            partitions: logs.iter().flat_map(|logs| (0u32..).zip(logs.iter())).map(partition).collect(),
            damage: group.damage(self.shared()),
        }
    }
}

fn partition_count(topic: &Topic) -> u32 {
    u32::try_from(topic.partitions().len()).unwrap_or(u32::MAX)
}

fn is_volatile(topic: &Topic) -> bool {
    super::is_volatile(&topic.definition().config)
}

pub(crate) fn group_log_config(space: &str, name: &str) -> LogConfig {
    let label = format!("group {space}/{name}");
    LogConfig { label, cleanup: Cleanup::default(), key_index: false, volatile: false, apart: false }
}

/// The member's partitions, if its generation is the present one. A sign of life.
fn member_partitions(group: &GroupOwner, member: &str, generation: u64, now: Now) -> Result<Vec<u32>, ReplayError> {
    let mut machine = group.machine.lock();
    machine.tick(now.mono);
    let present = machine.heartbeat(now.mono, member).map_err(membership)?;
    if present.0 != generation {
        let why = format!("the group's generation is {}, not {generation}; join again", present.0);
        return Err(ReplayError::Membership(why));
    }
    Ok(machine.assignment(member).map_err(membership)?.1.to_vec())
}

fn membership(error: impl std::fmt::Display) -> ReplayError {
    ReplayError::Membership(error.to_string())
}
