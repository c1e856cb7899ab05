//! One connection: one task that reads, does what it read, and writes what comes of it.
//!
//! Nothing of a connection waits in another task. What is asked of the broker is begun at once and polled here; so messages that came together
//! are published together, and everything that a wake-up brought is written together. A method that changes definitions, or that tells what
//! is there, waits for what came before it, and what comes behind it waits for it: a channel's methods happen in their order.

mod confirms;
mod consumers;
mod consuming;
mod contents;
mod delivering;
mod ending;
pub(crate) mod handshake;
mod methods;
mod operations;
mod publishing;
mod settling;
mod timers;
mod wire;

use std::collections::BTreeMap;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use amq_protocol::protocol::AMQPClass;
use broker::Session;
use futures_util::task::AtomicWaker;
use net::{Drain, PeerInfo};
use tokio::time::timeout;
use types::Timestamp;

use self::confirms::Confirms;
use self::consumers::Consumer;
use self::delivering::Over;
use self::handshake::{Refused, Terms};
use self::operations::Operation;
use self::publishing::Publishing;
use self::settling::Settling;
use self::timers::Timers;
use self::wire::{Lost, Wire};
use crate::app::App;
use crate::channel::{Channel, Channels};
use crate::codec::frame::Kind;
use crate::codec::method;
use crate::entities::vhost::vhost;
use crate::fault::{Fault, Scope};
use crate::limits::{FRAMES_A_TURN, MAX_OUTBOX_BYTES, MAX_SETTLING};
use crate::registry::{Entry, Identity};
use crate::targets::Targets;
use crate::unsettled::ConsumerKey;

pub(crate) use self::delivering::Item;

/// Whom a connection is between.
#[derive(Clone, Debug)]
pub(crate) struct Ends {
    pub(crate) peer: PeerInfo,
    /// Where the listener is.
    pub(crate) local: SocketAddr,
}

/// Serves one connection to its end.
pub(crate) async fn serve(app: App, socket: impl wire::Socket + 'static, ends: Ends, drain: Drain) {
    let addr = ends.peer.addr;
    let mut wire = Wire::new(socket);
    let made = timeout(app.options.handshake_timeout, handshake::run(&mut wire, &app, &ends)).await;
    let (session, terms) = match made {
        Ok(Ok(made)) => made,
        Ok(Err(refused)) => {
            tracing::debug!(peer = %addr, %refused, "an AMQP connection was not made");
            if let Refused::Fault(fault) = refused {
                ending::tell(&mut wire, &fault).await;
            }
            return;
        }
        Err(_) => {
            tracing::debug!(peer = %addr, "an AMQP connection was not made in time");
            return;
        }
    };
    let mut open = Open::new(app, session, terms, wire, drain);
    let end = std::future::poll_fn(|context| open.poll(context)).await;
    if let Err(lost) = end {
        tracing::debug!(peer = %addr, %lost, "an AMQP connection was lost");
    }
    open.finish().await;
}

/// An open connection.
struct Open {
    app: App,
    session: Session,
    /// Does what the caller was found to be allowed to do.
    internal: Session,
    terms: Terms,
    wire: Wire,
    state: State,
    channels: Channels,
    next_channel: u64,
    consumers: BTreeMap<ConsumerKey, Consumer>,
    next_consumer: ConsumerKey,
    /// Consumers that get nothing more, which was not told yet.
    over: Vec<(ConsumerKey, Over)>,
    /// Wakes this task for a consumer's sake.
    task: Arc<AtomicWaker>,
    targets: Targets,
    publishing: Publishing,
    confirms: Confirms,
    settling: Settling,
    /// A method that waits for all before it.
    waiting: Option<(u16, AMQPClass)>,
    operation: Option<Operation>,
    /// When what is being handled was read.
    now: Timestamp,
    /// Bytes of bodies that have not come in whole.
    partial_bytes: usize,
    timers: Timers,
    /// What those see who look after connections.
    entry: Entry,
    /// Somebody who looks after connections wants this one closed.
    unwanted: Pin<Box<dyn Future<Output = String> + Send>>,
    /// The client may be in the middle of something that we cannot read. It is to read why it ends before the socket does.
    lingers: bool,
    draining: Pin<Box<dyn Future<Output = ()> + Send>>,
}

/// How far a connection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Open,
    /// We closed it; the client is to say that it knows.
    Closing,
    /// All is said. It ends once that is written.
    Closed,
}

impl Open {
    fn new(app: App, session: Session, terms: Terms, wire: Wire, drain: Drain) -> Self {
        let internal = session.broker().internal_session(session.namespace());
        let internal = internal.map_or_else(|| session.clone(), |internal| internal.with_owner_of(&session));
        let entry = app.options.registry.enter(Identity {
            number: app.next.fetch_add(1, Ordering::Relaxed),
            user: terms.user.clone(),
            vhost: vhost(session.namespace()).to_owned(),
            peer: terms.ends.peer.addr,
            local: terms.ends.local,
            tls: terms.ends.peer.tls,
            mechanism: terms.mechanism.to_owned(),
            client_properties: terms.client_properties.clone(),
            channel_max: terms.channel_max,
            frame_max: terms.frame_max,
            heartbeat_s: terms.heartbeat_s,
            connected_at: app.options.clock.now().wall,
        });
        Self {
            unwanted: Box::pin(entry.closing()),
            entry,
            timers: Timers::new(&terms, &app.options),
            internal,
            app,
            session,
            terms,
            wire,
            state: State::Open,
            channels: Channels::default(),
            next_channel: 1,
            consumers: BTreeMap::new(),
            next_consumer: 1,
            over: Vec::new(),
            task: Arc::default(),
            targets: Targets::default(),
            publishing: Publishing::default(),
            confirms: Confirms::default(),
            settling: Settling::default(),
            waiting: None,
            operation: None,
            now: Timestamp(0),
            partial_bytes: 0,
            lingers: false,
            draining: Box::pin(async move { drain.begun().await }),
        }
    }

    /// Does what can be done. Ready once the connection is over.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Lost>> {
        self.task.register(context.waker());
        if self.state == State::Open && self.draining.as_mut().poll(context).is_ready() {
            self.close(&Fault::connection_forced("broker forced connection closure with reason 'shutdown'"));
        }
        if self.state == State::Open
            && let Poll::Ready(reason) = self.unwanted.as_mut().poll(context)
        {
            self.close(&Fault::connection_forced(reason));
        }
        if let Poll::Ready(end) = self.poll_timers(context) {
            return Poll::Ready(end);
        }
        loop {
            let mut goes_on = self.poll_operation(context);
            goes_on |= self.poll_published(context);
            goes_on |= self.poll_settled(context);
            goes_on |= self.begin_waiting();
            match self.read(context) {
                Poll::Ready(Ok(())) => goes_on = true,
                Poll::Ready(Err(lost)) => return Poll::Ready(Err(lost)),
                Poll::Pending => {}
            }
            goes_on |= self.deliver();
            let before = self.wire.out.len();
            let flushed = self.wire.poll_flush(context)?;
            if self.state == State::Closed && flushed.is_ready() {
                return Poll::Ready(Ok(()));
            }
            // Room was made for deliveries that waited for it.
            goes_on |= self.wire.out.len() < before && self.has_raised();
            if !goes_on {
                self.entry.sent_bytes.store(self.wire.written, Ordering::Relaxed);
                self.entry.received_bytes.store(self.wire.read, Ordering::Relaxed);
                return Poll::Pending;
            }
        }
    }

    /// Whether more frames may be handled now.
    fn may_read(&self) -> bool {
        self.operation.is_none()
            && self.waiting.is_none()
            && self.publishing.has_room()
            && self.settling.under_way() < MAX_SETTLING
            && self.wire.out.len() < MAX_OUTBOX_BYTES
    }

    /// Handles what has come in, and what comes in meanwhile. Ready if something did.
    fn read(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Lost>> {
        let mut handled = 0;
        while self.may_read() && self.state != State::Closed && handled < FRAMES_A_TURN {
            match self.wire.frame() {
                Ok(Some(frame)) => {
                    if handled == 0 {
                        self.now = self.app.options.clock.now().wall;
                    }
                    handled += 1;
                    self.handle(frame);
                }
                Ok(None) => match self.wire.poll_read(context) {
                    Poll::Pending => break,
                    Poll::Ready(Ok(())) => {}
                    Poll::Ready(Err(lost)) => {
                        self.flush_out();
                        return Poll::Ready(Err(lost));
                    }
                },
                Err(fault) => {
                    // Where the next frame would begin is not known any more.
                    self.close(&fault);
                    (self.state, self.lingers) = (State::Closed, true);
                }
            }
        }
        self.flush_out();
        if handled == 0 {
            return Poll::Pending;
        }
        Poll::Ready(Ok(()))
    }

    /// Begins what was collected.
    fn flush_out(&mut self) {
        self.begin_publishing();
        self.begin_settling();
    }

    /// Handles a frame.
    fn handle(&mut self, frame: crate::codec::frame::Frame) {
        let number = frame.channel;
        let result = match frame.kind {
            Kind::Heartbeat if number == 0 => Ok(()),
            Kind::Heartbeat => Err(Fault::frame_error("a heartbeat is of the connection, not of a channel")),
            Kind::Method => method::read(&frame.payload)
                .and_then(|method| self.method(number, method))
                .map_err(|fault| fault.of(method::id(&frame.payload))),
            // We said that we close: what was to come does not count.
            Kind::Header | Kind::Body if self.state != State::Open => Ok(()),
            Kind::Header => self.header(number, frame.payload),
            Kind::Body => self.body(number, frame.payload),
        };
        if let Err(fault) = result {
            self.fail(number, &fault);
        }
    }

    /// Closes what a fault closes.
    fn fail(&mut self, number: u16, fault: &Fault) {
        if self.state != State::Open {
            return;
        }
        match fault.scope {
            Scope::Channel if number != 0 => self.close_channel(number, fault),
            _ => self.close(fault),
        }
    }

    /// The channel of this number, unless it is being closed or is another one by now.
    fn channel_of(&mut self, number: u16, id: u64) -> Option<&mut Channel> {
        self.channels.get_mut(number).filter(|channel| channel.id == id && !channel.closing)
    }
}
