//! [`QueueMachine`] for [`Queue`]: the same methods, as the contract lists them.

use std::time::Duration;

use types::{Now, Offset};

use super::{
    Arrival, AttachError, ConsumerId, ConsumerRules, Credit, Delivery, Departure, Lease, LeaseError, PageRequest,
    Purge, Queue, QueueDepth, QueueEvent, QueueMachine, QueueRules, Recovered, RetryRecord, Settle, Settled,
};

impl<P: Clone> QueueMachine<P> for Queue<P> {
    fn new(rules: QueueRules, seed: u64) -> Self {
        Self::new(rules, seed)
    }

    fn recover(rules: QueueRules, seed: u64, recovered: Recovered) -> Self {
        Self::recover(rules, seed, recovered)
    }

    fn set_rules(&mut self, now: Now, rules: QueueRules) {
        self.set_rules(now, rules);
    }

    fn reserve(&mut self, messages: u64, bytes: u64) -> bool {
        self.reserve(messages, bytes)
    }

    fn unreserve(&mut self, messages: u64, bytes: u64) {
        self.unreserve(messages, bytes);
    }

    fn enqueue(&mut self, now: Now, arrival: Arrival<P>) {
        self.enqueue(now, arrival);
    }

    fn attach(&mut self, consumer: ConsumerId, rules: ConsumerRules) -> Result<(), AttachError> {
        self.attach(consumer, rules)
    }

    fn detach(&mut self, now: Now, consumer: ConsumerId) {
        self.detach(now, consumer);
    }

    fn set_ready(&mut self, consumer: ConsumerId, ready: bool) {
        self.set_ready(consumer, ready);
    }

    fn deliver(&mut self, now: Now, consumer: ConsumerId, credit: Credit, out: &mut Vec<Delivery<P>>) {
        self.deliver(now, consumer, credit, out);
    }

    fn page_request(&mut self, now: Now) -> Option<PageRequest> {
        self.page_request(now)
    }

    fn page_in(&mut self, now: Now, request: PageRequest, records: Vec<Arrival<P>>, read_to: Offset) {
        self.page_in(now, request, records, read_to);
    }

    fn settle(&mut self, now: Now, lease: Lease, how: Settle) -> Result<Settled<P>, LeaseError> {
        self.settle(now, lease, how)
    }

    fn extend(&mut self, now: Now, lease: Lease, by: Duration) -> Result<(), LeaseError> {
        self.extend(now, lease, by)
    }

    fn leases_of(&self, consumer: ConsumerId) -> Vec<Lease> {
        self.leases_of(consumer)
    }

    fn departed(&mut self, offset: Offset) {
        self.departed(offset);
    }

    fn restore(&mut self, now: Now, offset: Offset) {
        self.restore(now, offset);
    }

    fn tick(&mut self, now: Now, retries: &mut Vec<RetryRecord>, departures: &mut Vec<Departure<P>>) -> bool {
        self.tick(now, retries, departures)
    }

    fn next_tick(&self, now: Now) -> Option<Duration> {
        self.next_tick(now)
    }

    fn has_ready(&self, now: Now, consumer: ConsumerId) -> bool {
        self.has_ready(now, consumer)
    }

    fn purge(&mut self, now: Now) -> Purge {
        self.purge(now)
    }

    fn depth(&self) -> QueueDepth {
        self.depth()
    }

    fn retries(&self) -> Vec<RetryRecord> {
        self.retries()
    }

    fn delivered_to(&self) -> Offset {
        self.delivered_to()
    }

    fn take_events(&mut self, out: &mut Vec<QueueEvent>) {
        self.take_events(out);
    }
}
