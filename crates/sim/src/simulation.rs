//! A run: steps chosen at random, faults among them, and a check after each of the broker's lives.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use broker::UserChange;
use fastrand::Rng;
use log::Round;
use parking_lot::Mutex;
use testkit::{CrashStyle, FaultDisk, ManualClock};
use types::disk::Disk;
use types::{Clock, EntityId};

use crate::check::{After, Found};
use crate::definitions::{Definitions, bare};
use crate::engine::RESERVE_BYTES;
use crate::fixtures;
use crate::life::Life;
use crate::model::Model;
use crate::operation::{CopyId, Num, OpId, Operation, Reply};
use crate::replies::{Faults, number_in};
use crate::trace::Trace;

/// Calls under way at a time.
const MOST_CALLS: usize = 6;
/// Rounds without any effect after which a call that has not ended never will.
const PATIENCE: usize = 40;
/// Lines of the trace that a failure shows.
const TAIL: usize = 60;

/// What to run.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Decides everything that is random.
    pub seed: u64,
    /// Steps of the workload.
    pub steps: usize,
    /// The disk dies on this operation, and the run ends with what that leaves. Without it, faults come at random.
    pub crash_at: Option<u64>,
    /// Whether there are faults at all.
    pub faults: bool,
}

/// What a run came to.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Of all that happened. The same seed gives the same.
    pub hash: u64,
    /// All that happened, line by line.
    pub lines: Vec<String>,
    /// Changes that the first disk was asked for.
    pub operations: u64,
    /// Starts of the broker.
    pub lives: u64,
    /// Messages that were published.
    pub messages: u64,
}

/// A run found something wrong.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The run.
    pub plan: Plan,
    /// What is wrong.
    pub what: String,
    /// All that happened before, line by line.
    pub lines: Vec<String>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Plan { seed, steps, crash_at, .. } = self.plan;
        write!(f, "{}\nPOSTHOUSE_SEED={seed} POSTHOUSE_STEPS={steps}", self.what)?;
        if let Some(crash_at) = crash_at {
            write!(f, " (crash at operation {crash_at})")?;
        }
        writeln!(f, "\nthe end of its trace:")?;
        let from = self.lines.len().saturating_sub(TAIL);
        self.lines.iter().enumerate().skip(from).try_for_each(|(number, line)| writeln!(f, "{number:>5} {line}"))
    }
}

/// The parts of a run that outlive a failure of it.
#[derive(Default)]
pub(crate) struct Shared {
    trace: Mutex<Trace>,
    lives: Mutex<u64>,
}

/// A run under way.
pub(crate) struct Simulation {
    pub(crate) plan: Plan,
    pub(crate) rng: Rng,
    /// When rounds are written, and when faults come: apart, so that a workload stays the same under another schedule.
    pub(crate) fate: Rng,
    pub(crate) disk: FaultDisk,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) life: Option<Life>,
    pub(crate) model: Model,
    pub(crate) shared: Arc<Shared>,
    pub(crate) token: Option<String>,
    pub(crate) running: BTreeSet<OpId>,
    /// What queues held when a receive began.
    pub(crate) looks: BTreeMap<OpId, Vec<Found>>,
    /// Copies and records of the publish that is being made up.
    pub(crate) planned: Vec<(CopyId, EntityId)>,
    pub(crate) planned_logs: Vec<(EntityId, Num)>,
    pub(crate) faults: Faults,
    /// The disk is full at present.
    pub(crate) is_full: bool,
    /// Steps until a fault ends by itself.
    pub(crate) fault_left: usize,
    /// Ticks since the last start: until a few, a queue has not looked at all it holds.
    pub(crate) ticks: usize,
}

/// Runs a plan.
///
/// # Errors
/// What was found wrong.
pub fn run(plan: Plan) -> Result<Outcome, Box<Failure>> {
    let shared = Arc::new(Shared::default());
    let whole = AssertUnwindSafe(|| Simulation::new(plan, Arc::clone(&shared)).go());
    catch_unwind(whole)
        .map(|(operations, messages)| {
            let trace = shared.trace.lock();
            let lines = trace.lines().to_vec();
            Outcome { hash: trace.hash(), lines, operations, lives: *shared.lives.lock(), messages }
        })
        .map_err(|panic| {
            let text = panic.downcast_ref::<String>().cloned();
            let what = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            let what = what.unwrap_or_else(|| "it panicked".to_owned());
            Box::new(Failure { plan, what, lines: shared.trace.lock().lines().to_vec() })
        })
}

impl Simulation {
    pub(crate) fn new(plan: Plan, shared: Arc<Shared>) -> Self {
        Self {
            plan,
            rng: Rng::with_seed(plan.seed),
            fate: Rng::with_seed(plan.seed ^ 0x5eed_fa7e),
            disk: FaultDisk::new(),
            clock: Arc::new(ManualClock::new()),
            life: None,
            model: Model { latest_wall: ManualClock::START.0, ..Model::default() },
            shared,
            token: None,
            running: BTreeSet::new(),
            looks: BTreeMap::new(),
            planned: Vec::new(),
            planned_logs: Vec::new(),
            faults: Faults::default(),
            is_full: false,
            fault_left: 0,
            ticks: 0,
        }
    }

    pub(crate) fn life(&self) -> &Life {
        self.life.as_ref().expect("the broker runs")
    }

    pub(crate) fn note(&self, line: String) {
        self.shared.trace.lock().add(line);
    }

    /// The whole run; gives the disk operations of its first disk, and the messages.
    pub(crate) fn go(mut self) -> (u64, u64) {
        let first = self.disk.clone();
        self.begin_life(After::Kill);
        if self.plan.seed % 16 == 5 && self.plan.crash_at.is_none() {
            self.make_root();
        }
        if let Some(at) = self.plan.crash_at {
            self.disk.crash_after(at);
        }
        let share = if self.plan.steps < 100 { 0.6 } else { 0.95 };
        for change in fixtures::all(&mut self.rng, share) {
            if fixtures::makes_sense(&change, &self.model.definitions) && !self.disk.crashed() {
                self.define(change);
                self.drain();
            }
        }
        let mut ended = false;
        for _ in 0..self.plan.steps {
            if self.disk.crashed() && self.plan.crash_at.is_some() {
                self.end_each_way();
                ended = true;
                break;
            }
            self.step();
        }
        if !ended {
            self.finish();
        }
        (first.operations(), u64::from(self.model.next))
    }

    /// Starts the broker on the disk, and checks what it finds.
    pub(crate) fn begin_life(&mut self, after: After) {
        *self.shared.lives.lock() += 1;
        self.clock = Arc::new(ManualClock::starting_at(self.clock.now().wall));
        let life = Life::begin(&self.disk, Arc::clone(&self.clock), self.token.as_deref());
        let life = life.unwrap_or_else(|error| panic!("a start failed: {error}"));
        assert_eq!(life.broker.engine_state().faults, [], "a crash is no damage");
        (self.faults, self.fault_left, self.ticks, self.is_full) = (Faults::default(), 0, 0, false);
        if self.model.ids.is_empty() {
            self.model.definitions = Definitions::shown(&life.broker, &life.principal, &life.session);
        }
        self.model.check(&life, after);
        self.life = Some(life);
    }

    /// An administrator, so that users can be made. Nobody is anonymous from then on.
    fn make_root(&mut self) {
        let life = self.life();
        life.log.set_eager(true);
        life.wait(life.broker.create_first_admin("root", "a password".to_owned())).expect("the first administrator");
        // Still anonymous, but the anonymous may do nothing any more.
        let by = life.broker.authenticate(&broker::Credentials::Password {
            user: "root".to_owned(),
            password: "a password".to_owned(),
        });
        let by = by.expect("the password is right");
        let change = UserChange { tags: Some(vec!["made".to_owned()]), ..UserChange::default() };
        life.wait(life.broker.put_user(&by, "root", change)).expect("it changes itself");
        let token = life.wait(life.broker.create_token(&by, "root", "sim", None)).expect("a token");
        self.token = Some(token);
        self.life = None;
        self.disk = self.disk.crash_image(CrashStyle::Lost, 0);
        let life = Life::begin(&self.disk, Arc::clone(&self.clock), self.token.as_deref()).expect("starts");
        self.model.definitions = Definitions::shown(&life.broker, &life.principal, &life.session);
        assert_eq!(self.model.definitions.users.len(), 1, "the administrator is there");
        self.life = Some(life);
    }

    /// Notes that a call begins.
    pub(crate) fn begin(&mut self, operation: Operation, text: String) -> OpId {
        let id = OpId(self.model.tick());
        self.note(format!("#{} {text}", id.0));
        self.model.open.insert(id, operation);
        self.running.insert(id);
        id
    }

    pub(crate) fn start(&mut self, id: OpId, call: impl Future<Output = Reply> + Send + 'static) {
        self.life.as_mut().expect("the broker runs").start(id, call);
    }

    pub(crate) fn take_replies(&mut self) {
        let Some(life) = &mut self.life else { return };
        let replies = life.pump();
        self.model.now = self.clock.now().mono.0;
        self.faults.low |= self.disk.free_bytes().is_some_and(|free| free < RESERVE_BYTES / 2);
        self.faults.failed |= self.disk.crashed() || self.life().poisoned().is_some();
        self.model.troubled |= self.faults.failed || self.faults.full;
        for (id, reply) in replies {
            self.running.remove(&id);
            self.has_asked(id);
            let operation = self.model.open.get(&id).cloned();
            if let (Some(before), Reply::Received(Ok(delivered)), Some(Operation::Receive(receiving))) =
                (self.looks.remove(&id), &reply, &operation)
            {
                let given: Vec<_> = delivered.iter().map(|one| one.receipt.lease.offset).collect();
                self.check_turn(&before, receiving, &given);
            }
            if let Reply::Received(Ok(delivered)) = &reply {
                self.look_for(delivered.iter().map(|one| number_in(&one.message)).collect());
            }
            let defined = matches!((&operation, &reply), (Some(Operation::Define(_)), Reply::Defined(Ok(()))));
            let line = self.model.reply(id, reply, self.faults);
            self.note(line);
            if let (true, Some(Operation::Define(change))) = (defined, operation) {
                let life = self.life.as_ref().expect("the broker runs");
                let shown = Definitions::shown(&life.broker, &life.principal, &life.session);
                self.model.take_last_resorts(&shown);
                let expected = self.model.definitions.after(&change, &shown);
                let (new, lacking) = (shown.beyond(&expected), expected.beyond(&shown));
                assert!(
                    new.is_empty() && lacking.is_empty(),
                    "{change:?} made {new:?}, where {lacking:?} was asked for"
                );
                // What was there already is not written again.
                let is_written = shown != self.model.definitions;
                self.model.take_definitions(shown);
                if is_written {
                    self.model.synced(id.0);
                }
            }
        }
    }

    /// Finds out which copies of these messages are where they were: where there are several, it is not one of those that has moved.
    pub(crate) fn look_for(&mut self, nums: BTreeSet<Num>) {
        self.model.in_place.clear();
        let ids: Vec<CopyId> = nums.into_iter().flat_map(|num| self.model.copies_of(num)).collect();
        for id in ids {
            let copy = &self.model.copies[&id];
            let (Some(name), Some(offset)) = (self.model.definitions.queue_name(copy.at), copy.offset) else {
                continue;
            };
            // A disk that has died may not let it be read.
            let Ok((page, _)) = self.life().session_of(name).browse(bare(name), offset, 1) else { continue };
            if page.iter().any(|one| one.offset == offset && number_in(&one.message) == id.0) {
                self.model.in_place.insert(id);
            }
        }
    }

    /// Runs rounds until nothing is under way.
    pub(crate) fn drain(&mut self) {
        let mut idle = 0;
        loop {
            self.take_replies();
            let round = self.life().round();
            if self.running.is_empty() && round != Round::Done {
                // What goes on in the background is written too.
                return;
            }
            idle = if round == Round::Idle { idle + 1 } else { 0 };
            if idle == 2 {
                self.stop_all();
            }
            if idle > PATIENCE || (self.is_full && idle > 4) {
                assert!(self.is_full, "calls never end: {:?}", self.running);
                return;
            }
        }
    }

    /// Nothing is under way, nothing is wrong: everything can be checked.
    pub(crate) fn check_calm(&mut self) {
        for _ in 0..3 {
            self.tick();
            self.drain();
        }
        if self.running.is_empty() && !self.faults.failed {
            let life = self.life.take().expect("the broker runs");
            self.model.check(&life, After::Calm);
            self.life = Some(life);
            self.note("checked".to_owned());
        }
    }

    pub(crate) fn step(&mut self) {
        self.mend_or_restart();
        let is_busy = self.running.len() - self.waiting() >= MOST_CALLS;
        let alone = self
            .running
            .iter()
            .any(|id| matches!(self.model.open.get(id), Some(Operation::Define(_) | Operation::Purge(..))));
        match self.rng.u8(0..100) {
            _ if alone || is_busy => {}
            0..26 => self.publish(),
            26..34 => self.receive(),
            34..46 => self.stand(),
            46..62 => self.settle(),
            62..66 => self.pass_on(),
            66..70 => self.move_group(),
            70..80 => self.pass_time(),
            80 => self.alone(Self::purge),
            81..85 => self.alone(Self::define_any),
            85..87 => self.redrive(),
            87..89 => self.extend(),
            89 => self.use_stale(),
            90..92 => self.life().log.upkeep(),
            92..94 => self.stand(),
            94 => {
                let result = self.life().log.checkpoint();
                self.note(format!("checkpoint: {}", result.is_ok()));
            }
            95..97 => self.alone(Self::check_calm),
            _ if self.plan.faults => self.fault(),
            _ => {}
        }
        if self.fate.u8(..) < 150 {
            let round = self.life().round();
            self.note(format!("round: {round:?}"));
        }
        self.take_replies();
    }

    /// Something that nothing else may be under way with.
    fn alone(&mut self, what: fn(&mut Self)) {
        self.drain();
        if self.running.is_empty() && !self.disk.crashed() {
            what(self);
        }
    }

    fn define_any(&mut self) {
        let change = fixtures::any(&mut self.rng, &self.model.definitions, self.token.is_some());
        if fixtures::makes_sense(&change, &self.model.definitions) {
            self.define(change);
        }
    }

    fn pass_time(&mut self) {
        let by = match self.rng.u8(0..20) {
            0..16 => Duration::from_millis(self.rng.u64(0..4_000)),
            _ => Duration::from_secs(self.rng.u64(5..20)),
        };
        let mut now = self.clock.advance(by);
        if self.rng.u8(0..16) == 0 {
            now = self.clock.jump_wall(self.rng.i64(-120_000..120_000));
        }
        self.model.latest_wall = self.model.latest_wall.max(now.wall.0);
        self.note(format!("the time is {} / {}", now.wall.0, now.mono.0));
        self.tick();
        self.ticks += 1;
    }
}
