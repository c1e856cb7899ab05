//! Faults, the ends of lives that they bring, and the end of a run.

use std::sync::Arc;
use std::time::Duration;

use broker::queue::{QueueDepth, Settle};
use fastrand::Rng;
use testkit::{CrashStyle, ManualClock};
use types::{Clock, Timestamp};

use crate::check::After;
use crate::definitions::{Definitions, bare};
use crate::engine::RESERVE_BYTES;
use crate::life::Life;
use crate::model::{Copy, Leaves};
use crate::simulation::{Plan, Simulation};

/// Most messages that are taken right before a crash.
const MOST_AGAIN: usize = 8;
/// Clock moves of the final drain, each of [`DRAIN_STEP`].
const DRAIN_STEPS: usize = 60;
const DRAIN_STEP: Duration = Duration::from_secs(5);
const ALL_STYLES: [CrashStyle; 3] = [CrashStyle::Lost, CrashStyle::Torn, CrashStyle::Kept];

impl Simulation {
    /// From here on three ways: what each kind of crash leaves.
    pub(crate) fn end_each_way(&mut self) {
        self.take_replies();
        self.life = None;
        for style in ALL_STYLES {
            let mut copy = Self::new(Plan { crash_at: None, faults: false, ..self.plan }, Arc::clone(&self.shared));
            copy.rng = Rng::with_seed(self.plan.seed ^ u64::from(style as u8));
            copy.clock = Arc::new(ManualClock::starting_at(self.clock.now().wall));
            copy.model = self.model.clone();
            copy.disk = self.disk.crash_image(style, self.plan.seed);
            copy.note(format!("== crash, {style:?}"));
            copy.begin_life(if style == CrashStyle::Kept { After::Kill } else { After::PowerCut });
            for _ in 0..6 {
                copy.step();
            }
            let again = if style == CrashStyle::Lost { CrashStyle::Kept } else { CrashStyle::Lost };
            copy.crash(again);
            if self.plan.crash_at.is_some_and(|at| at % 3 == style as u64) {
                copy.finish();
            }
        }
    }

    /// Lets a fault of the disk begin, or a life end.
    pub(crate) fn fault(&mut self) {
        if self.fault_left > 0 {
            return;
        }
        match self.fate.u8(0..12) {
            0..3 => {
                let operations = self.fate.u64(1..40);
                self.note(format!("== the disk dies in {operations} operations"));
                self.disk.crash_after(operations);
                self.fault_left = 30;
            }
            3..5 => self.crash_somehow(),
            5 => self.close(),
            6 => {
                let writes = self.fate.bool();
                self.note(format!("== {} fail", if writes { "writes" } else { "syncs" }));
                if writes {
                    self.disk.fail_writes(true)
                } else {
                    self.disk.fail_syncs(true)
                }
                self.fault_left = self.fate.usize(3..12);
                self.faults.failed = true;
            }
            7 | 8 => self.fail_and_crash(),
            _ => {
                self.note("== the disk is full".to_owned());
                self.disk.set_free_bytes(Some(RESERVE_BYTES - 4096 * self.fate.u64(0..4)));
                self.life().log.upkeep();
                (self.is_full, self.faults.full) = (true, true);
                self.fault_left = self.fate.usize(5..30);
            }
        }
    }

    /// Ends faults whose time has come, and lives that cannot go on.
    pub(crate) fn mend_or_restart(&mut self) {
        self.fault_left = self.fault_left.saturating_sub(1);
        let is_dead = self.disk.crashed() || self.life().poisoned().is_some();
        if is_dead && self.fault_left == 0 {
            self.crash_somehow();
        } else if self.fault_left == 0 && self.is_full {
            self.note("== there is space again".to_owned());
            self.disk.set_free_bytes(None);
            self.life().log.upkeep();
            self.is_full = false;
            self.drain();
        } else if self.fault_left == 0 {
            self.disk.fail_writes(false);
            self.disk.fail_syncs(false);
        }
    }

    /// A delivery fails, its message is asked for again before anything else can happen, and this life ends. If it was handed out again,
    /// its failure is on disk.
    fn fail_and_crash(&mut self) {
        let Some(held) = self.pick() else { return self.crash_somehow() };
        if self.fate.bool() {
            let how = Settle::Nack { after: Some(Duration::ZERO), error: Some("no".into()), counts: true };
            let settling = self.settling(&held, how);
            self.settle_all(vec![settling]);
        } else {
            let now = self.clock.now().mono.0;
            let now = self.clock.advance(Duration::from_nanos(held.until.saturating_sub(now)));
            self.model.latest_wall = self.model.latest_wall.max(now.wall.0);
            self.note(format!("the lease of {:?} runs out", held.copy));
            self.tick();
        }
        self.take_replies();
        if let Some(name) = self.model.definitions.queue_name(held.queue).map(str::to_owned) {
            self.receive_from(&name, MOST_AGAIN, false);
        }
        self.crash_somehow();
    }

    fn crash_somehow(&mut self) {
        let style = *self.fate.choice(ALL_STYLES.as_slice()).expect("some");
        self.crash(style);
    }

    /// Ends this life without warning, and begins another on what is left.
    fn crash(&mut self, style: CrashStyle) {
        self.take_replies();
        self.note(format!("== crash, {style:?}"));
        self.running.clear();
        self.looks.clear();
        self.life = None;
        let mut style = style;
        self.disk = self.disk.crash_image(style, self.fate.u64(..));
        self.disk.set_free_bytes(None);
        if self.plan.faults && self.fate.u8(..) < 60 {
            // The next start ends before it is through, or soon after.
            let operations = self.fate.u64(1..16);
            self.note(format!("== a start that dies in {operations} operations"));
            self.disk.crash_after(operations);
            drop(Life::begin(&self.disk, Arc::clone(&self.clock), self.token.as_deref()));
            let second = *self.fate.choice(ALL_STYLES.as_slice()).expect("some");
            self.disk = self.disk.crash_image(second, self.fate.u64(..));
            style = if style == CrashStyle::Kept { second } else { style };
        }
        if self.plan.faults && self.fate.u8(0..8) == 0 {
            let wall = self.clock.now().wall.0 + self.fate.i64(-60_000..600_000);
            self.clock = Arc::new(ManualClock::starting_at(Timestamp(wall)));
            self.model.latest_wall = self.model.latest_wall.max(wall);
        }
        self.begin_life(if style == CrashStyle::Kept { After::Kill } else { After::PowerCut });
        self.note("checked".to_owned());
    }

    /// Ends this life in good order.
    fn close(&mut self) {
        self.drain();
        // A disk that has died in the meantime takes no last sync.
        if !self.running.is_empty() || self.disk.crashed() || self.life().poisoned().is_some() {
            return;
        }
        self.note("== closed".to_owned());
        let life = self.life.take().expect("the broker runs");
        life.wait(life.broker.close());
        drop(life);
        self.looks.clear();
        self.disk = self.disk.crash_image(CrashStyle::Lost, self.fate.u64(..));
        self.begin_life(After::Kill);
    }

    /// Everything that was confirmed and not acknowledged comes out, once; then nothing is left.
    pub(crate) fn finish(&mut self) {
        self.plan.faults = false;
        self.fault_left = 0;
        self.mend_or_restart();
        if self.faults.failed || self.disk.crashed() || self.fate.bool() {
            self.crash_somehow();
        }
        self.disk.crash_after(u64::MAX);
        self.drain();
        self.detach_all();
        // The wall clock may have been set back: what waits by it may wait for a time that has been before.
        let back_ms = self.model.latest_wall - self.clock.now().wall.0;
        self.clock.jump_wall(back_ms.max(0));
        let mut names: Vec<String> = self.model.definitions.queues.keys().cloned().collect();
        for step in 0..DRAIN_STEPS {
            let now = self.clock.advance(DRAIN_STEP);
            self.model.latest_wall = self.model.latest_wall.max(now.wall.0);
            for _ in 0..3 {
                self.tick();
                self.drain();
                self.ticks += 1;
            }
            // A tick may have made a queue of last resort.
            let life = self.life.as_ref().expect("the broker runs");
            let shown = Definitions::shown(&life.broker, &life.principal, &life.session);
            self.model.take_last_resorts(&shown);
            names = self.model.definitions.queues.keys().cloned().collect();
            for name in &names {
                self.receive_from(name, 100, false);
                self.drain();
                self.acknowledge_all();
                self.drain();
            }
            // Those that may be gone may be on their way as well: they are waited for, and until nothing is anywhere.
            let may_be_gone = |copy: &Copy| step > 3 && copy.leaves == Leaves::Free;
            let is_out = self.model.copies.values().all(may_be_gone)
                && names.iter().all(|name| self.depth_of(name) == QueueDepth::default());
            if is_out && now.wall.0 >= self.model.latest_wall {
                break;
            }
        }
        self.check_calm();
        let wall = self.clock.now().wall.0;
        self.model.check_kept(self.life(), wall);
        // One that may be gone and may have been on its way shows by what the queues count.
        let is_out = self.model.copies.values().all(|copy| copy.leaves == Leaves::Free);
        assert!(is_out, "some never came: {:?}", self.model.copies);
        for name in self.dead_letter_queues().into_iter().chain(names) {
            let depth = self.depth_of(&name);
            assert_eq!(depth, QueueDepth::default(), "{name}");
        }
        self.note("finished".to_owned());
    }

    fn depth_of(&self, name: &str) -> QueueDepth {
        self.life().session_of(name).queue(bare(name)).expect("there").depth
    }
}
