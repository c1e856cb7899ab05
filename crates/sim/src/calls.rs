//! Beginning calls: what is asked at random, what it should lead to, and the call itself. Publishes have a file of their own.

use std::time::Duration;

use broker::definitions::NamespaceConfig;
use broker::queue::Settle;
use broker::views::{BrowsedState, ReadFrom};
use broker::{Receive, Redrive, SettleError, UserChange};
use types::{Clock, Offset};

use crate::check::look;
use crate::definitions::{Change, OTHER, OTHERS, bare, dead_letter_queue, is_other};
use crate::fixtures::QUEUES;
use crate::model::Held;
use crate::operation::{CopyId, Operation, Receiving, Reply, Settling};
use crate::simulation::Simulation;

impl Simulation {
    pub(crate) fn receive(&mut self) {
        let names: Vec<String> = self.model.definitions.queues.keys().cloned().collect();
        let Some(name) = self.rng.choice(&names).cloned() else { return };
        let auto_ack = self.rng.u8(..) < 8;
        let max = self.rng.usize(1..5);
        self.receive_from(&name, max, auto_ack);
    }

    pub(crate) fn receive_from(&mut self, name: &str, max: usize, auto_ack: bool) {
        let queue = self.model.definitions.queue_id(name).expect("a queue");
        let now = self.clock.now();
        let receiving = Receiving {
            queue,
            name: name.to_owned(),
            max,
            auto_ack,
            taken_at: now.mono.0,
            wall: now.wall.0,
            marks: !self.model.troubled && !self.disk.crashed(),
            has_failed: self.life().poisoned().is_some(),
            standing: None,
        };
        let before = (!self.disk.crashed()).then(|| look(self.life(), name, queue));
        let text = format!("receive {max} from {name}{}", if auto_ack { ", acknowledged" } else { "" });
        let id = self.begin(Operation::Receive(receiving), text);
        self.looks.extend(before.map(|before| (id, before)));
        let receive = Receive { max, max_bytes: u64::MAX, wait: Duration::ZERO, lease: None, auto_ack };
        let (session, name) = (self.life().session_of(name), bare(name).to_owned());
        self.start(id, async move { Reply::Received(session.receive(&name, receive).await) });
    }

    pub(crate) fn pick(&mut self) -> Option<Held> {
        let at = (!self.model.held.is_empty()).then(|| self.rng.usize(0..self.model.held.len()))?;
        Some(self.model.held.swap_remove(at))
    }

    pub(crate) fn settling(&self, held: &Held, how: Settle) -> Settling {
        let queue = self.model.definitions.queues.iter().find(|(_, (id, _))| *id == held.queue);
        let is_last = queue.is_some_and(|(name, (_, config))| dead_letter_queue(name, config).is_none());
        let ends = how == Settle::Ack || (is_last && matches!(how, Settle::Reject { .. }));
        let Held { receipt, copy, until, attempt, standing, .. } = *held;
        Settling { receipt, copy, how, ends, until, attempt, standing }
    }

    pub(crate) fn settle(&mut self) {
        let mut all = Vec::new();
        for _ in 0..self.rng.usize(1..4) {
            let Some(held) = self.pick() else { break };
            let error = |text: &str| Some(text.into());
            let how = match self.rng.u8(0..20) {
                0..11 => Settle::Ack,
                11..14 => Settle::Nack { after: None, error: error("no"), counts: true },
                14 => Settle::Nack { after: Some(Duration::ZERO), error: error("no"), counts: true },
                15 => Settle::Nack { after: Some(Duration::from_secs(3)), error: error("no"), counts: true },
                16 => Settle::Nack { after: None, error: error("fatal"), counts: true },
                17..19 => Settle::Reject { error: error("bad") },
                _ => Settle::Release,
            };
            all.push(self.settling(&held, how));
        }
        self.settle_all(all);
    }

    /// Acknowledges everything that is held.
    pub(crate) fn acknowledge_all(&mut self) {
        let held = std::mem::take(&mut self.model.held);
        let all = held.iter().map(|held| self.settling(held, Settle::Ack)).collect();
        self.settle_all(all);
    }

    pub(crate) fn settle_all(&mut self, all: Vec<Settling>) {
        // A receipt is worth something in its own namespace only.
        let is_others = |one: &Settling| self.model.definitions.queue_name(one.receipt.queue).is_some_and(is_other);
        let (others, own) = all.into_iter().partition(is_others);
        self.settle_in(OTHER, others);
        self.settle_in("default", own);
    }

    fn settle_in(&mut self, namespace: &str, all: Vec<Settling>) {
        if all.is_empty() {
            return;
        }
        let each: Vec<String> = all.iter().map(|one| format!("{:?} {:?}", one.copy, one.how)).collect();
        let settlements = all.iter().map(|one| (one.receipt, one.how.clone())).collect();
        let acked: Vec<CopyId> = all.iter().filter(|one| one.ends).map(|one| one.copy).collect();
        let id = self.begin(Operation::Settle(all), format!("settle {}", each.join(", ")));
        for copy in acked {
            self.model.may_leave(copy, id);
        }
        let life = self.life();
        let session = life.broker.session(&life.principal, namespace).expect("it is there");
        self.start(id, async move { Reply::Settled(session.settle(settlements).await) });
    }

    pub(crate) fn extend(&mut self) {
        let by = Duration::from_secs(self.rng.u64(1..20));
        let now = self.clock.now().mono.0;
        let Some(at) = (!self.model.held.is_empty()).then(|| self.rng.usize(0..self.model.held.len())) else { return };
        let name = self.model.name_of(self.model.held[at].queue);
        let elsewhere = if is_other(&name) { "default" } else { OTHER };
        if self.model.definitions.namespaces.contains_key(elsewhere) {
            let life = self.life();
            let stranger = life.broker.session(&life.principal, elsewhere).expect("it is there");
            let result = stranger.extend(self.model.held[at].receipt, by);
            assert!(matches!(result, Err(SettleError::Lease(_))), "a receipt of {name} was taken in {elsewhere}");
        }
        let result = self.life().session_of(&name).extend(self.model.held[at].receipt, by);
        let held = &mut self.model.held[at];
        match &result {
            Ok(()) => held.until = now + u64::try_from(by.as_nanos()).expect("short"),
            Err(error) => assert!(held.until <= now, "the lease of {:?} has not run out, but {error}", held.copy),
        }
        let copy = held.copy;
        self.note(format!("extend {copy:?} by {by:?}: {}", result.is_ok()));
    }

    /// A receipt of an earlier life is worth nothing.
    pub(crate) fn use_stale(&mut self) {
        let Some(receipt) = self.model.stale.pop() else { return };
        let result = self.life().session.extend(receipt, Duration::from_secs(1));
        assert!(matches!(result, Err(SettleError::Lease(_))), "a receipt outlived its life: {result:?}");
        self.note("a receipt of an earlier life is refused".to_owned());
    }

    pub(crate) fn redrive(&mut self) {
        let names: Vec<String> = self
            .model
            .definitions
            .queues
            .keys()
            .filter(|name| name.ends_with(".dlq") || *name == "dead")
            .cloned()
            .collect();
        let Some(name) = self.rng.choice(&names).cloned() else { return };
        let to = (self.rng.u8(0..4) == 0).then(|| "plain".to_owned());
        let here = |to: &str| if is_other(&name) { format!("{OTHER}/{to}") } else { to.to_owned() };
        let from = self.model.definitions.queue_id(&name).expect("there");
        let rate = self.rng.bool().then_some(5.0);
        let redrive = Redrive { to: to.clone(), rate, max: None };
        let result = self.life().session_of(&name).redrive(bare(&name), redrive);
        self.note(format!("redrive {name} to {to:?} at {rate:?}: {}", result.is_ok()));
        if result.is_ok() {
            self.model.redriving = true;
            match to {
                Some(to) => drop(self.model.ways.insert((from, here(&to)))),
                None => self.model.ways.extend(QUEUES.iter().map(|to| (from, here(to)))),
            }
        }
    }

    /// Removes what waits in a queue. Nothing else is under way.
    pub(crate) fn purge(&mut self) {
        let names: Vec<String> = self.model.definitions.queues.keys().cloned().collect();
        let Some(name) = self.rng.choice(&names).cloned() else { return };
        let queue = self.model.definitions.queue_id(&name).expect("there");
        let mut copies = Vec::new();
        let all = look(self.life(), &name, queue);
        self.look_for(all.iter().map(|found| found.num).collect());
        for found in all {
            let copy = self.model.copy_at(found.num, queue, found.offset, &found.message);
            let copy = copy.unwrap_or_else(|| panic!("{} is in {name}, and should not be", found.num));
            let before = self.model.copies[&copy].clone();
            self.model.see(copy, queue, found.offset);
            self.model.note_story(copy, &found.message, &before);
            if found.state != BrowsedState::InFlight {
                copies.push(copy);
            }
        }
        let id = self.begin(Operation::Purge(copies.clone()), format!("purge {name} of {copies:?}"));
        for copy in copies {
            self.model.may_leave(copy, id);
        }
        let session = self.life().session_of(&name);
        self.start(id, async move { Reply::Purged(session.purge(bare(&name)).await) });
    }

    /// Commits offsets of the group, or moves it to the start.
    pub(crate) fn move_group(&mut self) {
        let Some((group, _)) = self.model.definitions.groups.get("readers").cloned() else { return };
        let busy = |operation: &Operation| matches!(operation, Operation::Commit(..));
        if self.model.open.values().any(busy) {
            return;
        }
        let session = self.life().session.clone();
        if self.rng.u8(0..4) == 0 {
            let places = vec![(0, Offset(0)), (1, Offset(0))];
            let id =
                self.begin(Operation::Commit("readers".to_owned(), places), "seek the group to the start".to_owned());
            self.start(id, async move {
                Reply::Moved(session.seek_group("readers", None, ReadFrom::Earliest).await.map(drop))
            });
            return;
        }
        let partition = self.rng.u32(0..2);
        let topic = self.model.definitions.topic_id("trail").expect("a group has its topic");
        let log = self.model.logs.get(&(topic, partition)).and_then(|log| log.keys().next_back());
        let end = log.map_or(0, |last| last.0 + 1);
        let places = vec![(partition, Offset(self.rng.u64(0..=end)))];
        let text = format!("commit group {group} at {places:?}");
        let id = self.begin(Operation::Commit("readers".to_owned(), places.clone()), text);
        self.start(id, async move { Reply::Moved(session.commit_group("readers", None, &places).await) });
    }

    /// Changes a definition. Nothing else is under way.
    pub(crate) fn define(&mut self, change: Change) {
        let id = self.begin(Operation::Define(change.clone()), format!("define {}", brief(&change)));
        let (broker, by) = (self.life().broker.clone(), self.life().principal.clone());
        let (session, change) = match change.others() {
            Some(change) => (self.life().session_of(OTHERS), change),
            None => (self.life().session.clone(), change),
        };
        self.start(id, async move {
            let result = match change {
                Change::Namespace => broker.put_namespace(&by, OTHER, NamespaceConfig::default()).await.map(drop),
                Change::DeleteNamespace => broker.delete_namespace(&by, OTHER).await,
                Change::Queue(name, config) => session.declare_queue(&name, *config, true).await.map(drop),
                Change::DeleteQueue(name) => session.delete_queue(&name, false, false).await.map(drop),
                Change::Topic(name, config) => session.declare_topic(&name, *config, true).await.map(drop),
                Change::DeleteTopic(name) => session.delete_topic(&name, false).await,
                Change::Bind(config) => session.bind(*config).await.map(drop),
                Change::Unbind(id) => session.unbind(id).await,
                Change::Group(name, config) => session.declare_group(&name, config, true).await.map(drop),
                Change::DeleteGroup(name) => session.delete_group(&name).await,
                Change::Policy(name, config) => session.put_policy(&name, *config).await.map(drop),
                Change::DeletePolicy(name) => session.delete_policy(&name).await,
                Change::User(name, tags, permissions) => {
                    let permissions = vec![("default".to_owned(), Some(permissions))];
                    let change = UserChange { tags: Some(tags), permissions, ..UserChange::default() };
                    broker.put_user(&by, &name, change).await.map(drop)
                }
                Change::DeleteUser(name) => broker.delete_user(&by, &name).await,
            };
            Reply::Defined(result)
        });
    }

    /// Does what time brings, once.
    pub(crate) fn tick(&mut self) {
        if self.model.open.values().any(|operation| matches!(operation, Operation::Tick)) {
            return;
        }
        let broker = self.life().broker.clone();
        let id = self.begin(Operation::Tick, "tick".to_owned());
        self.start(id, async move { Reply::Ticked(broker.tick().await) });
    }

    /// The dead-letter queue of each queue that is there.
    pub(crate) fn dead_letter_queues(&self) -> Vec<String> {
        let queues = self.model.definitions.queues.iter();
        queues.filter_map(|(name, (_, config))| dead_letter_queue(name, config)).collect()
    }
}

fn brief(change: &Change) -> String {
    match change {
        Change::Queue(name, config) => format!("queue {name}, lease {:?}", config.lease_ms),
        Change::Topic(name, _) => format!("topic {name}"),
        Change::Bind(config) => format!("binding {} to {:?}, {:?}", config.topic, config.target, config.filter),
        Change::Group(name, _) => format!("group {name}"),
        Change::Policy(name, config) => format!("policy {name} of {}", config.pattern),
        change => format!("{change:?}"),
    }
}
