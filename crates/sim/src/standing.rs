//! Standing consumers: they come, ask for more, stop waiting, and go with what they have not settled.

use std::sync::Arc;
use std::time::Duration;

use broker::queue::{ConsumerRules, Credit};
use broker::{Consumer, ConsumerOptions};
use tokio::sync::{Mutex, Notify};
use types::{Clock, EntityId};

use crate::definitions::bare;
use crate::operation::{OpId, Operation, Receiving, Reply};
use crate::simulation::Simulation;

/// Standing consumers at a time.
const MOST_STANDING: usize = 3;

/// Where there is most to be had.
const BUSY: [&str; 4] = ["plain", "keyed", "levels", "ring"];

/// A standing consumer.
pub(crate) struct Standing {
    number: u32,
    id: EntityId,
    queue: String,
    auto_ack: bool,
    /// Gone once it has left.
    consumer: Arc<Mutex<Option<Consumer>>>,
    /// It asks for more, or waits for it, until it is told to stop.
    waits: Option<(OpId, Arc<Notify>)>,
}

impl Simulation {
    /// Something that a standing consumer does.
    pub(crate) fn stand(&mut self) {
        match self.rng.u8(0..10) {
            0..3 => self.attach(),
            3..8 => self.ask(),
            8 => self.stop_one(),
            _ => self.detach_one(),
        }
    }

    fn attach(&mut self) {
        let mut names: Vec<String> = self.model.definitions.queues.keys().cloned().collect();
        if self.rng.u8(0..8) > 0 {
            names.retain(|name| BUSY.contains(&name.as_str()));
        }
        let Some(queue) = self.rng.choice(&names).cloned() else { return };
        if self.life().standing.len() >= MOST_STANDING {
            return;
        }
        let auto_ack = self.rng.u8(..) < 24;
        let lease = self.rng.bool().then(|| Duration::from_secs(self.rng.u64(4..12)));
        let rules = ConsumerRules { exclusive: false, priority: 0, lease, auto_ack };
        let Some(id) = self.model.definitions.queue_id(&queue) else { return };
        let number = self.model.next_standing;
        self.model.next_standing += 1;
        let options = ConsumerOptions { name: format!("c{number}"), rules };
        let consumer = self.life().session_of(&queue).consume(bare(&queue), options).expect("nobody has it for itself");
        self.note(format!(
            "consumer {number} of {queue} comes{}",
            if auto_ack { ", acknowledges at once" } else { "" }
        ));
        let consumer = Arc::new(Mutex::new(Some(consumer)));
        self.model.standing.insert(number);
        let standing = Standing { number, id, queue, auto_ack, consumer, waits: None };
        self.life.as_mut().expect("the broker runs").standing.push(standing);
    }

    /// A consumer that does not wait asks for more.
    fn ask(&mut self) {
        let free: Vec<usize> = self.standing_where(|standing| standing.waits.is_none());
        let Some(at) = self.rng.choice(&free).copied() else { return };
        let max = self.rng.usize(1..5);
        let Standing { number, id: queue, queue: name, auto_ack, consumer, .. } = &self.life().standing[at];
        let (number, queue, name, auto_ack) = (*number, *queue, name.clone(), *auto_ack);
        let consumer = Arc::clone(consumer);
        let now = self.clock.now();
        let receiving = Receiving {
            queue,
            name: name.clone(),
            max,
            auto_ack,
            taken_at: now.mono.0,
            wall: now.wall.0,
            marks: true,
            has_failed: false,
            standing: Some(number),
        };
        let id = self.begin(Operation::Receive(receiving), format!("consumer {number} asks for {max} from {name}"));
        let stop = Arc::new(Notify::new());
        self.life.as_mut().expect("the broker runs").standing[at].waits = Some((id, Arc::clone(&stop)));
        self.start(id, async move {
            let mut consumer = consumer.lock().await;
            let Some(consumer) = consumer.as_mut() else { return Reply::Received(Ok(Vec::new())) };
            tokio::select! {
                biased;
                () = stop.notified() => Reply::Received(Ok(Vec::new())),
                taken = consumer.next(Credit { messages: max, bytes: u64::MAX }) => Reply::Received(taken),
            }
        });
    }

    /// A consumer's call is dropped: whatever it was about to get goes back.
    fn stop_one(&mut self) {
        let waiting = self.standing_where(|standing| standing.waits.is_some());
        if let Some(at) = self.rng.choice(&waiting).copied() {
            self.stop(at);
        }
    }

    fn stop(&mut self, at: usize) {
        let Some((id, stop)) = &self.life().standing[at].waits else { return };
        stop.notify_one();
        self.note(format!("#{} is dropped", id.0));
    }

    /// Nobody waits any more.
    pub(crate) fn stop_all(&mut self) {
        for at in 0..self.life().standing.len() {
            self.stop(at);
        }
    }

    /// A consumer goes. What it holds goes back, untried.
    fn detach_one(&mut self) {
        let free = self.standing_where(|standing| standing.waits.is_none());
        if let Some(at) = self.rng.choice(&free).copied() {
            let standing = self.life.as_mut().expect("the broker runs").standing.swap_remove(at);
            self.note(format!("consumer {} of {} goes", standing.number, standing.queue));
            self.model.standing.remove(&standing.number);
            self.model.held.retain(|held| held.standing != Some(standing.number));
        }
    }

    /// All of them go.
    pub(crate) fn detach_all(&mut self) {
        self.stop_all();
        self.drain();
        for standing in std::mem::take(&mut self.life.as_mut().expect("the broker runs").standing) {
            self.model.standing.remove(&standing.number);
            self.model.held.retain(|held| held.standing != Some(standing.number));
        }
    }

    /// How many of the calls under way wait for something to come.
    pub(crate) fn waiting(&self) -> usize {
        self.life().standing.iter().filter(|standing| standing.waits.is_some()).count()
    }

    /// A call has ended.
    pub(crate) fn has_asked(&mut self, id: OpId) {
        let Some(life) = &mut self.life else { return };
        for standing in &mut life.standing {
            standing.waits.take_if(|(call, _)| *call == id);
        }
    }

    fn standing_where(&self, is_wanted: fn(&Standing) -> bool) -> Vec<usize> {
        let all = self.life().standing.iter().enumerate();
        all.filter(|(_, standing)| is_wanted(standing)).map(|(at, _)| at).collect()
    }
}
