//! What a power cut leaves, opened by the real binary: all that was confirmed before it is there, and the server takes more.
//!
//! A broker on the real engine, with its threads, works on a disk in memory that notes each write, sync, rename and removal, and
//! between them when each call began and ended. The notes are played again, and the power is cut at some of them: what no sync covered is lost,
//! or a random part of its sectors and pages is there, in any order. Each such image becomes a directory, and the binary serves it.
//!
//! A seed decides the calls and the images, but not which commits share a round: threads do. So an image that fails is kept.

use std::collections::BTreeMap;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;
use std::sync::Mutex;

use broker::definitions::DurabilityConfig;
use fastrand::Rng;
use serde_json::{Value, json};
use testkit::{CrashStyle, DiskOperation, FaultDisk};

use crate::harness::{Server, posthouse};
use crate::http::Http;
use crate::power_cut_load::{Call, DEAD, PARTITIONS, QUEUES, Recording, TOPIC, number_of, record};

/// Images that are looked at side by side.
const WORKERS: usize = 2;

#[test]
fn a_power_cut_at_any_moment_leaves_what_was_confirmed_to_the_real_binary() {
    run(60, 24);
}

/// That what is lost would be noticed.
#[test]
fn a_confirm_before_its_sync_is_found_by_a_power_cut() {
    let recording = record(7, 25, Some(DurabilityConfig::Os));
    let images = images_of(&recording, &mut Rng::with_seed(7), 40);
    // About every third has lost something.
    let is_found = images.iter().rev().any(|image| image.look_at(&recording.calls).is_err());
    assert!(is_found, "the engine seems to sync where it need not");
}

#[test]
#[ignore = "long: `cargo xtask proofs power-cut`"]
fn power_cut_long() {
    let images: usize = std::env::var("POSTHOUSE_PROOF_IMAGES").map_or(400, |images| images.parse().unwrap());
    // A recording each hundred images, so that many workloads are cut.
    for _ in 0..images.div_ceil(100) {
        run(250, images.min(100));
    }
}

/// Records so many turns of work, and has the binary open so many images of it.
fn run(turns: usize, images: usize) {
    let seed = std::env::var("POSTHOUSE_SEED").map_or_else(|_| fastrand::u64(..), |seed| seed.parse().unwrap());
    println!("POSTHOUSE_SEED={seed}");
    cut(&record(seed, turns, None), seed, images);
}

/// Cuts the power so many times within what was recorded, and has the binary open each image.
pub(crate) fn cut(recording: &Recording, seed: u64, images: usize) {
    let mut rng = Rng::with_seed(seed ^ 0x0ff);
    let waiting = Mutex::new(images_of(recording, &mut rng, images).into_iter());
    let found = Mutex::new(Sums::default());
    std::thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                loop {
                    let Some(image) = waiting.lock().unwrap().next() else { break };
                    let sums = image.check(&recording.calls, seed);
                    found.lock().unwrap().add(sums);
                }
            });
        }
    });
    let Sums { confirmed, in_doubt, there } = found.into_inner().unwrap();
    println!(
        "{images} images of {} operations and {} calls: {confirmed} confirmed messages looked for, {in_doubt} publishes cut off, {there} of \
         them there",
        recording.operations.len(),
        recording.calls.len()
    );
    assert!(confirmed > 0 && in_doubt > 0, "without work that is cut off nothing is proved");
}

/// What was found in images.
#[derive(Default)]
struct Sums {
    /// Messages whose publish was confirmed, and that are where they must be, or were settled.
    confirmed: usize,
    /// Publishes that the cut left without an answer, and those of them that are there.
    in_doubt: usize,
    there: usize,
}

impl Sums {
    fn add(&mut self, other: Self) {
        self.confirmed += other.confirmed;
        self.in_doubt += other.in_doubt;
        self.there += other.there;
    }
}

/// How far a call had come when the power was cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    NotBegun,
    Begun,
    Done,
}

/// What one power cut leaves.
struct Image {
    disk: FaultDisk,
    stages: Vec<Stage>,
    /// What it is, for a person.
    name: String,
}

/// Cuts the power so many times within a recording.
fn images_of(recording: &Recording, rng: &mut Rng, count: usize) -> Vec<Image> {
    let operations = &recording.operations;
    let is_change = |at: &usize| !matches!(operations[*at], DiskOperation::Mark(_));
    let places: Vec<usize> = (0..operations.len()).filter(is_change).collect();
    // Where something is unsynced there is more to lose: most cuts come just before a sync, the others anywhere.
    let is_sync = |at: &usize| matches!(operations[*at], DiskOperation::SyncData(_) | DiskOperation::SyncDir(_));
    let syncs: Vec<usize> = places.iter().copied().filter(is_sync).collect();
    let mut cuts: Vec<usize> =
        (0..count).map(|at| *rng.choice(if at % 3 == 0 { &places } else { &syncs }).unwrap()).collect();
    cuts.sort_unstable();
    let mut stages = vec![Stage::NotBegun; recording.calls.len()];
    let (disk, mut played, mut images) = (FaultDisk::new(), 0, Vec::new());
    for cut in cuts {
        for operation in &operations[played..cut] {
            disk.play(operation).unwrap();
            if let DiskOperation::Mark(mark) = operation {
                let stage = if mark % 2 == 0 { Stage::Begun } else { Stage::Done };
                stages[usize::try_from(mark / 2).unwrap()] = stage;
            }
        }
        played = cut;
        let style = if rng.u8(0..4) == 0 { CrashStyle::Lost } else { CrashStyle::Torn };
        images.push(Image {
            disk: disk.crash_image(style, rng.u64(..)),
            stages: stages.clone(),
            name: format!("{style:?} before operation {cut} of {}, {:?}", operations.len(), kind(&operations[cut])),
        });
    }
    images
}

/// What an operation is, without the bytes.
fn kind(operation: &DiskOperation) -> String {
    match operation {
        DiskOperation::Write { path, offset, bytes } => {
            format!("write of {} bytes at {offset} of {}", bytes.len(), path.display())
        }
        other => format!("{other:?}"),
    }
}

impl Image {
    /// The same with what is wrong told, and the image kept for whoever looks into it.
    fn check(&self, calls: &[Call], seed: u64) -> Sums {
        self.look_at(calls).unwrap_or_else(|panic| {
            let kept = tempfile::tempdir().unwrap().keep();
            self.disk.export(&kept).unwrap();
            println!("POSTHOUSE_SEED={seed}: {}; kept in {}", self.name, kept.display());
            resume_unwind(panic)
        })
    }

    fn look_at(&self, calls: &[Call]) -> std::thread::Result<Sums> {
        let data = tempfile::tempdir().unwrap();
        self.disk.export(data.path()).unwrap();
        catch_unwind(AssertUnwindSafe(|| Found::in_directory(data.path()).check(calls, &self.stages)))
    }
}

/// What a server shows of an image.
struct Found {
    /// Messages of each queue and of its dead letters, in their order; `None` if there is no such queue.
    queues: Vec<Option<Vec<u32>>>,
    dead: Vec<Option<Vec<u32>>>,
    /// Records of each of the topic's partitions.
    partitions: Option<Vec<Vec<u32>>>,
}

impl Found {
    /// Starts the binary on it, looks at everything, and sees that the server takes more.
    fn in_directory(data: &Path) -> Self {
        let verified = posthouse().args(["log", "verify"]).arg(data).output().unwrap();
        let report = String::from_utf8_lossy(&verified.stdout).into_owned();
        assert!(verified.status.success(), "a power cut is no damage: {report}");
        let server = Server::start_with(data, &["--http", "127.0.0.1:0"], &[]);
        let mut http = Http::new(&server);
        assert_eq!(http.call("GET", "/readyz", "", b"").unwrap().status, 200);
        let queues: Vec<_> = QUEUES.iter().map(|queue| drained(&mut http, queue)).collect();
        let dead = DEAD.iter().map(|queue| drained(&mut http, queue)).collect();
        let partitions = http.call("GET", &format!("/v1/default/topics/{TOPIC}"), "", b"").unwrap();
        let partitions = (partitions.status == 200)
            .then(|| (0..PARTITIONS).map(|partition| replayed(&mut http, partition)).collect());
        for queue in QUEUES.iter().zip(&queues).filter(|(_, found)| found.is_some()).map(|(queue, _)| queue) {
            let path = format!("/v1/default/queues/{queue}/messages");
            http.call("POST", &path, "text/plain", b"one more").unwrap().ok();
        }
        Self { queues, dead, partitions }
    }

    /// Holds it against what was asked for and answered before the cut.
    fn check(&self, calls: &[Call], stages: &[Stage]) -> Sums {
        let mut sums = Sums::default();
        for (number, (call, stage)) in calls.iter().zip(stages).enumerate() {
            match call {
                Call::Declare => {
                    let all = self.queues.iter().chain(&self.dead).all(Option::is_some) && self.partitions.is_some();
                    assert!(all || *stage != Stage::Done, "a queue or topic that was declared is gone");
                }
                Call::Publish { queues, messages, .. } => {
                    let counts: Vec<Vec<usize>> =
                        messages.clone().map(|message| self.counts(call, queues, message)).collect();
                    let context = || format!("call {number}, {call:?}, {stage:?}: {counts:?}");
                    let settled = |at: usize| settled(calls, stages, messages.start + at as u32);
                    match stage {
                        Stage::NotBegun => assert!(counts.iter().flatten().all(|n| *n == 0), "{}", context()),
                        Stage::Begun => {
                            sums.in_doubt += 1;
                            sums.there += usize::from(self.is_there(queues, messages, &counts, &settled, &context));
                        }
                        Stage::Done => {
                            for (at, counts) in counts.iter().enumerate() {
                                self.check_message(queues, messages.start + at as u32, counts, &settled(at), &context);
                                sums.confirmed += 1;
                            }
                        }
                    }
                }
                Call::Settle { .. } => {}
            }
        }
        self.check_order(calls);
        sums
    }

    /// How many times a message is in each of these queues, dead letters left out, and if the topic keeps it, in its log.
    fn counts(&self, call: &Call, queues: &[usize], message: u32) -> Vec<usize> {
        let within = |list: &Option<Vec<u32>>| list.iter().flatten().filter(|one| **one == message).count();
        let mut counts: Vec<usize> = queues.iter().map(|queue| within(&self.queues[*queue])).collect();
        if call.is_kept() {
            counts.push(self.partitions.iter().flatten().flatten().filter(|one| **one == message).count());
        }
        counts
    }

    /// Whether a publish without an answer was taken; in part it cannot have been.
    fn is_there(
        &self,
        queues: &[usize],
        messages: &Range<u32>,
        counts: &[Vec<usize>],
        settled: &dyn Fn(usize) -> Vec<(usize, bool, Stage)>,
        context: &dyn Fn() -> String,
    ) -> bool {
        let (mut there, mut absent) = (false, false);
        for (at, (message, counts)) in messages.clone().zip(counts).enumerate() {
            for (place, count) in counts.iter().enumerate() {
                let queue = queues.get(place);
                let dead = queue.map_or(0, |queue| self.dead_count(*queue, message));
                // A consumer may have had it before the publisher was told, and acknowledged it.
                let settled = settled(at);
                let may_be_gone =
                    settled.iter().any(|(of, is_ack, stage)| Some(of) == queue && *is_ack && *stage != Stage::NotBegun);
                assert!(count + dead <= 1, "twice: {}", context());
                there |= count + dead == 1;
                absent |= count + dead == 0 && !may_be_gone;
            }
        }
        assert!(!there || !absent, "in part: {}", context());
        there
    }

    fn dead_count(&self, queue: usize, message: u32) -> usize {
        self.dead[queue].iter().flatten().filter(|one| **one == message).count()
    }

    /// A message whose publish was confirmed is in each of its queues, unless it was settled.
    fn check_message(
        &self,
        queues: &[usize],
        message: u32,
        counts: &[usize],
        settled: &[(usize, bool, Stage)],
        context: &dyn Fn() -> String,
    ) {
        for (queue, count) in queues.iter().zip(counts) {
            let dead = self.dead_count(*queue, message);
            let right = match settled.iter().find(|(of, _, _)| of == queue) {
                None | Some((_, _, Stage::NotBegun)) => *count == 1 && dead == 0,
                // Acknowledged.
                Some((_, true, Stage::Done)) => *count == 0 && dead == 0,
                Some((_, true, Stage::Begun)) => *count <= 1 && dead == 0,
                // Rejected.
                Some((_, false, Stage::Done)) => *count == 0 && dead == 1,
                Some((_, false, Stage::Begun)) => *count + dead == 1,
            };
            let queue = QUEUES[*queue];
            assert!(
                right,
                "message {message} is {count} times in {queue} and {dead} times dead, settled {settled:?}: {}",
                context()
            );
        }
        // What the topic's log keeps, no settlement takes from it.
        assert!(counts.get(queues.len()).is_none_or(|count| *count == 1), "not in the topic's log: {}", context());
    }

    /// A client's publishes that followed one another stand so everywhere.
    fn check_order(&self, calls: &[Call]) {
        let turn_of = |message: &u32| {
            calls.iter().find_map(|call| match call {
                Call::Publish { client, turn, messages, .. } if messages.contains(message) => Some((*client, *turn)),
                _ => None,
            })
        };
        for list in self.queues.iter().flatten().chain(self.partitions.iter().flatten()) {
            let mut last = BTreeMap::new();
            for message in list {
                let (client, turn) = turn_of(message).unwrap_or_else(|| panic!("nobody published {message}"));
                let before = last.insert(client, turn);
                assert!(before.is_none_or(|before| before <= turn), "{message} is out of order: {list:?}");
            }
        }
    }
}

/// What was done with a message: in which queue, whether it was acknowledged (or rejected), and how far that had come.
fn settled(calls: &[Call], stages: &[Stage], message: u32) -> Vec<(usize, bool, Stage)> {
    let mut found = Vec::new();
    for (call, stage) in calls.iter().zip(stages) {
        if let Call::Settle { queue, acked, rejected } = call {
            for (list, is_ack) in [(acked, true), (rejected, false)] {
                if list.contains(&message) {
                    found.push((*queue, is_ack, *stage));
                }
            }
        }
    }
    found
}

/// All messages of a queue, in the order in which it hands them out; `None` if it is not there.
fn drained(http: &mut Http, queue: &str) -> Option<Vec<u32>> {
    let mut messages = Vec::new();
    loop {
        let wanted = json!({"max": 1000, "lease_ms": 600_000}).to_string();
        let path = format!("/v1/default/queues/{queue}/receive");
        let answer = http.call("POST", &path, crate::http::JSON, wanted.as_bytes()).unwrap();
        if answer.status == 404 {
            return None;
        }
        let answer = answer.ok();
        let deliveries = answer["deliveries"].as_array().unwrap();
        if deliveries.is_empty() {
            return Some(messages);
        }
        messages.extend(deliveries.iter().map(|one| number(&one["message"])));
    }
}

fn replayed(http: &mut Http, partition: u32) -> Vec<u32> {
    let (mut messages, mut next) = (Vec::new(), 0);
    loop {
        let path = format!("/v1/default/topics/{TOPIC}/messages?partition={partition}&from={next}&max=1000");
        let page = http.get(&path);
        let records = page["records"].as_array().unwrap();
        if records.is_empty() {
            return messages;
        }
        messages.extend(records.iter().map(|record| number(&record["message"])));
        next = page["next"].as_u64().unwrap();
    }
}

fn number(message: &Value) -> u32 {
    number_of(message["text"].as_str().unwrap_or_else(|| panic!("no text: {message}")))
}
