//! What is known of a queue from outside while the server is killed again and again, and what must hold because of it.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::http::Http;

/// Attempts after which the queue whose messages fail gives one up.
pub(crate) const MAX_ATTEMPTS: u64 = 3;
const KEYS: u64 = 3;
/// Publishers wait while so many messages wait, or most would never be seen.
const MAX_WAITING: usize = 2000;

/// A message: its publisher, and its number there.
pub(crate) type Id = (u64, u64);

pub(crate) fn key_of((publisher, n): Id) -> String {
    format!("{publisher}-{}", n % KEYS)
}

/// What a consumer does with a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Ack,
    Nack,
    Reject,
}

/// What is said of the failed attempt of a message, in its history.
pub(crate) fn error_of((publisher, n): Id, attempt: u64) -> String {
    format!("attempt {attempt} of {publisher}/{n}")
}

pub(crate) struct Ledger {
    pub(crate) queue: &'static str,
    /// Whether messages fail here.
    pub(crate) fails: bool,
    /// The server was killed.
    pub(crate) is_over: bool,
    keys: BTreeMap<String, Key>,
    /// The last number of each key that was delivered since the start.
    last_of_round: BTreeMap<String, u64>,
    tries: BTreeMap<Id, Tries>,
    /// Given up, and told so.
    given_up: BTreeSet<Id>,
    /// Found among the dead letters.
    dead: BTreeSet<Id>,
    /// Where to read on in the queue of dead letters.
    dead_next: u64,
    pub(crate) confirmed: u64,
    pub(crate) acked: u64,
    pub(crate) again: u64,
}

#[derive(Default)]
struct Key {
    /// Confirmed, and not seen yet.
    waiting: BTreeSet<u64>,
    /// Delivered.
    seen: BTreeSet<u64>,
    /// Acknowledged, and the acknowledgement confirmed.
    acked: BTreeSet<u64>,
}

/// Failed attempts of a message.
#[derive(Clone, Copy, Default)]
struct Tries {
    /// Sent to the server, whether it answered or not.
    sent: u64,
    /// Confirmed by the server.
    confirmed: u64,
    /// The attempt of the last delivery.
    last: u64,
}

impl Ledger {
    pub(crate) fn new(queue: &'static str, fails: bool) -> Self {
        Self {
            queue,
            fails,
            is_over: false,
            keys: BTreeMap::new(),
            last_of_round: BTreeMap::new(),
            tries: BTreeMap::new(),
            given_up: BTreeSet::new(),
            dead: BTreeSet::new(),
            dead_next: 0,
            confirmed: 0,
            acked: 0,
            again: 0,
        }
    }

    pub(crate) fn begin_round(&mut self) {
        self.last_of_round.clear();
        self.is_over = false;
    }

    /// Whether more may be published now.
    pub(crate) fn has_room(&self) -> bool {
        self.keys.values().map(|key| key.waiting.len()).sum::<usize>() < MAX_WAITING
    }

    pub(crate) fn confirm(&mut self, publisher: u64, first: u64, count: u64) {
        self.confirmed += count;
        for n in first..first + count {
            let key = self.keys.entry(key_of((publisher, n))).or_default();
            if !key.seen.contains(&n) {
                key.waiting.insert(n);
            }
        }
    }

    /// Looks at a delivery, and says what becomes of it. The caller sends that to the server.
    pub(crate) fn deliver(&mut self, id: Id, attempt: u64, redelivered: bool) -> Fate {
        let (publisher, n) = id;
        let name = key_of(id);
        let key = self.keys.entry(name.clone()).or_default();
        assert!(!key.acked.contains(&n), "{publisher}/{n} was acknowledged and came back");
        assert!(!self.given_up.contains(&id), "{publisher}/{n} was given up and came back");
        assert!(!self.dead.contains(&id), "{publisher}/{n} is a dead letter and came back");
        let passed = key.waiting.range(..n).next();
        assert!(passed.is_none(), "{publisher}/{n} came before {passed:?} of the same key");
        let tries = self.tries.entry(id).or_default();
        let last = self.last_of_round.insert(name, n);
        let in_order = last.is_none_or(|last| last < n || (last == n && tries.sent > 0));
        assert!(in_order, "{publisher}/{n} came after {last:?} of the same key, in one run");
        key.waiting.remove(&n);
        if !key.seen.insert(n) {
            self.again += 1;
            assert!(redelivered, "{publisher}/{n} comes again without saying so");
        }
        // A kill takes back the one delivery in flight at most: every failure that was confirmed counts, and every one before the attempt
        // that was handed out last, confirmed or not.
        let possible = (tries.confirmed + 1).max(tries.last)..=tries.sent + 1;
        assert!(possible.contains(&attempt), "{publisher}/{n} says attempt {attempt}, but {possible:?} are possible");
        tries.last = attempt;
        let fate = self.fate(id, attempt);
        if fate != Fate::Ack {
            self.tries.entry(id).or_default().sent = attempt;
        }
        fate
    }

    fn fate(&self, (_, n): Id, attempt: u64) -> Fate {
        match () {
            () if !self.fails => Fate::Ack,
            () if n % 7 == 2 => Fate::Reject,
            () if n % 5 == 3 => Fate::Nack,
            () if n % 3 == 1 && attempt == 1 => Fate::Nack,
            () => Fate::Ack,
        }
    }

    /// The server confirmed what [`deliver`](Self::deliver) asked for.
    pub(crate) fn settled(&mut self, id: Id, attempt: u64, fate: Fate) {
        if fate == Fate::Ack {
            self.acked += 1;
            self.keys.entry(key_of(id)).or_default().acked.insert(id.1);
            return;
        }
        self.tries.entry(id).or_default().confirmed = attempt;
        if fate == Fate::Reject || attempt >= MAX_ATTEMPTS {
            self.given_up.insert(id);
        }
    }

    pub(crate) fn was_seen(&self, id: Id) -> bool {
        self.keys.get(&key_of(id)).is_some_and(|key| key.seen.contains(&id.1))
    }

    /// Dead letters found so far.
    pub(crate) fn dead(&self) -> usize {
        self.dead.len()
    }

    /// Reads on in the queue of dead letters: each one once, with its history, and all that are known to have been given up.
    pub(crate) fn check_dead(&mut self, http: &mut Http) {
        if !self.fails {
            return;
        }
        loop {
            let path = format!("/v1/default/queues/{}.dead/messages?from={}&max=1000", self.queue, self.dead_next);
            let page = http.get(&path);
            self.dead_next = page["next"].as_u64().unwrap();
            let found = page["messages"].as_array().unwrap();
            if found.is_empty() {
                break;
            }
            for one in found {
                self.dead_letter(&one["message"]);
            }
        }
        let missing: Vec<&Id> = self.given_up.difference(&self.dead).collect();
        assert!(missing.is_empty(), "given up, and not among the dead letters: {missing:?}");
    }

    fn dead_letter(&mut self, message: &Value) {
        let id = id_of(&message["body"]);
        let (publisher, n) = id;
        assert!(self.dead.insert(id), "{publisher}/{n} is a dead letter twice");
        let key = self.keys.entry(key_of(id)).or_default();
        assert!(!key.acked.contains(&n), "{publisher}/{n} was acknowledged and is a dead letter");
        assert!(key.seen.contains(&n), "{publisher}/{n} is a dead letter that no consumer had");
        let history = &message["headers"];
        let attempts = history["ph-dead-letter-attempts"].as_u64().unwrap();
        let tries = self.tries[&id];
        let possible = tries.confirmed.max(tries.last)..=tries.sent;
        assert!(possible.contains(&attempts), "{publisher}/{n}: {history}, but {possible:?} attempts are possible");
        assert_eq!(history["ph-dead-letter-queue"].as_str(), Some(self.queue), "{history}");
        assert_eq!(history["ph-dead-letter-error"].as_str(), Some(error_of(id, attempts).as_str()), "{history}");
        let reason = match self.fate(id, attempts) {
            Fate::Reject => "rejected",
            Fate::Nack if attempts == MAX_ATTEMPTS => "max-attempts",
            fate => panic!("{publisher}/{n} was not to be given up at attempt {attempts}: {fate:?}, {history}"),
        };
        assert_eq!(history["ph-dead-letter-reason"].as_str(), Some(reason), "{history}");
        for time in ["first-failed", "last-failed", "time"] {
            let time = &history[format!("ph-dead-letter-{time}")];
            assert!(!time.is_null(), "{history}");
        }
    }

    /// Once the queue is empty: everything confirmed came, and what came was acknowledged or is a dead letter.
    pub(crate) fn check_empty(&self) {
        for (key, state) in &self.keys {
            assert!(state.waiting.is_empty(), "confirmed and lost, of key {key}: {:?}", state.waiting);
        }
        for (id, tries) in &self.tries {
            let given_up = self.fails && self.fate(*id, MAX_ATTEMPTS) != Fate::Ack;
            assert_eq!(self.dead.contains(id), given_up, "{id:?}, after {} attempts", tries.last);
        }
    }
}

/// The message that a body names.
pub(crate) fn id_of(body: &Value) -> Id {
    (body[0].as_u64().unwrap(), body[1].as_u64().unwrap())
}
