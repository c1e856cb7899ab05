//! One life of the broker: from a start on some disk to a crash or an end.

use std::pin::Pin;
use std::sync::Arc;

use broker::{Broker, BrokerOptions, Credentials, Principal, Session};
use log::Round;
use parking_lot::Mutex;
use testkit::{FaultDisk, ManualClock};
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

use crate::definitions::{OTHER, is_other};
use crate::engine::SteppedLog;
use crate::operation::{OpId, Reply};
use crate::standing::Standing;

/// So few that a short run snapshots its logs of state many times.
const SNAPSHOT_RECORDS: u64 = 12;
/// Turns that tasks get in one pump: more than the longest chain of one waking the next.
const TURNS: usize = 24;

/// A running broker and the calls that are under way.
pub(crate) struct Life {
    /// Before the runtime, so that they go before it does.
    pub(crate) standing: Vec<Standing>,
    runtime: Runtime,
    pub(crate) log: Arc<SteppedLog>,
    pub(crate) broker: Broker,
    pub(crate) session: Session,
    pub(crate) principal: Principal,
    replies: Arc<Mutex<Vec<(OpId, Reply)>>>,
    tasks: Vec<JoinHandle<()>>,
}

impl Life {
    /// Starts a broker. With a token it is that user's session, else anybody's.
    pub(crate) fn begin(disk: &FaultDisk, clock: Arc<ManualClock>, token: Option<&str>) -> Result<Self, String> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().map_err(|e| e.to_string())?;
        let log = Arc::new(SteppedLog::open(disk).map_err(|error| error.to_string())?);
        let options = BrokerOptions { snapshot_records: Some(SNAPSHOT_RECORDS), ..BrokerOptions::default() };
        let broker = Broker::open(log.clone(), clock, options).map_err(|error| error.to_string())?;
        log.set_eager(false);
        let credentials = token.map_or(Credentials::Anonymous, |token| Credentials::Token(token.to_owned()));
        let principal = broker.authenticate(&credentials).map_err(|error| error.to_string())?;
        let session = broker.session(&principal, "default").map_err(|error| error.to_string())?;
        Ok(Self {
            standing: Vec::new(),
            runtime,
            log,
            broker,
            session,
            principal,
            replies: Arc::default(),
            tasks: Vec::new(),
        })
    }

    /// Begins a call. Its first step is taken at once, so that it decides by what is there now.
    pub(crate) fn start(&mut self, id: OpId, call: impl Future<Output = Reply> + Send + 'static) {
        let replies = Arc::clone(&self.replies);
        let mut call: Pin<Box<dyn Future<Output = Reply> + Send>> = Box::pin(call);
        let task = self.runtime.block_on(async move {
            let first = std::future::poll_fn(|context| std::task::Poll::Ready(call.as_mut().poll(context))).await;
            match first {
                std::task::Poll::Ready(reply) => {
                    replies.lock().push((id, reply));
                    None
                }
                std::task::Poll::Pending => Some(tokio::spawn(async move {
                    let reply = call.await;
                    replies.lock().push((id, reply));
                })),
            }
        });
        self.tasks.extend(task);
    }

    /// Lets all that can go on do so; gives the replies that came.
    pub(crate) fn pump(&mut self) -> Vec<(OpId, Reply)> {
        self.runtime.block_on(async {
            for _ in 0..TURNS {
                tokio::task::yield_now().await;
            }
        });
        let (ended, running) = std::mem::take(&mut self.tasks).into_iter().partition(JoinHandle::is_finished);
        self.tasks = running;
        let ended: Vec<JoinHandle<()>> = ended;
        for task in ended {
            if let Err(error) = self.runtime.block_on(task)
                && error.is_panic()
            {
                std::panic::resume_unwind(error.into_panic());
            }
        }
        std::mem::take(&mut *self.replies.lock())
    }

    /// A session where this queue or topic is.
    pub(crate) fn session_of(&self, name: &str) -> Session {
        if is_other(name) {
            self.broker.session(&self.principal, OTHER).expect("the namespace is there")
        } else {
            self.session.clone()
        }
    }

    /// Writes a round.
    pub(crate) fn round(&self) -> Round {
        self.log.round()
    }

    /// Runs a call that needs no commit, or whose commits come at once, to its end.
    pub(crate) fn wait<T>(&self, call: impl Future<Output = T>) -> T {
        self.runtime.block_on(call)
    }

    /// Why the engine takes no writes, if so.
    pub(crate) fn poisoned(&self) -> Option<String> {
        self.broker.engine_state().poisoned
    }
}
