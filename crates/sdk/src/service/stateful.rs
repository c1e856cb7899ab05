//! What was registered before a service was given its state: it needs none, and comes along.

use super::builder::{Background, Service};
use super::subscription::{Bind, Replay, Responder, Subscription};

impl Service<()> {
    /// The state that handlers get by [`State`](crate::State): database pools, clients, settings. What is registered before it can be what needs no
    /// state.
    #[must_use]
    pub fn state<S>(self, state: S) -> Service<S>
    where
        S: Clone + Send + Sync + 'static,
    {
        Service {
            name: self.name,
            version: self.version,
            description: self.description,
            state,
            subscriptions: self.subscriptions.into_iter().map(subscription).collect(),
            responders: self.responders.into_iter().map(responder).collect(),
            replays: self.replays.into_iter().map(replay).collect(),
            topics: self.topics,
            published: self.published,
            sagas: self.sagas,
            tasks: self.tasks.into_iter().map(|(name, task)| (name, background(task))).collect(),
            endpoints: self.endpoints,
            checks: self.checks,
            announced: self.announced,
            providers: self.providers,
            grace: self.grace,
        }
    }
}

/// A handler without state, in a service that has one.
fn handler<S: 'static>(bind: Bind<()>) -> Bind<S> {
    Box::new(move |_| bind(()))
}

fn background<S: 'static>(task: Background<()>) -> Background<S> {
    Box::new(move |_, client, stop| task((), client, stop))
}

fn subscription<S: 'static>(of: Subscription<()>) -> Subscription<S> {
    Subscription {
        name: of.name,
        queue: of.queue,
        binding: of.binding,
        contracts: of.contracts,
        spec: of.spec,
        concurrency: of.concurrency,
        timeout: of.timeout,
        breaker: of.breaker,
        prefers_keyed: of.prefers_keyed,
        atomic: of.atomic,
        window: of.window,
        bind: handler(of.bind),
        wrap: of.wrap,
    }
}

fn responder<S: 'static>(of: Responder<()>) -> Responder<S> {
    Responder {
        contracts: of.contracts,
        replies: of.replies,
        concurrency: of.concurrency,
        timeout: of.timeout,
        bind: handler(of.bind),
    }
}

fn replay<S: 'static>(of: Replay<()>) -> Replay<S> {
    Replay {
        name: of.name,
        topic: of.topic,
        from: of.from,
        kept: of.kept,
        version: of.version,
        kept_in: of.kept_in,
        retention: of.retention,
        retry: of.retry,
        timeout: of.timeout,
        contracts: of.contracts,
        routes: of.routes.into_iter().map(|(contract, bind)| (contract, handler(bind))).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Context, Envelope, State};

    #[tokio::test]
    async fn what_was_registered_before_the_state_comes_along() {
        async fn early(_: Envelope) {}
        async fn late(State(state): State<u8>) {
            assert_eq!(state, 7);
        }
        let service = Service::new("s")
            .with(Subscription::worker("early", early))
            .reply(early)
            .replay(Replay::new("r", "topic").on(early))
            .task("t", |(), _, _| async {})
            .state(7u8)
            .with(Subscription::worker("late", late));
        assert_eq!((service.responders.len(), service.replays.len(), service.tasks.len()), (1, 1, 1));
        let queues: Vec<_> = service.subscriptions.iter().filter_map(|one| one.queue.as_deref()).collect();
        assert_eq!(queues, ["early", "late"]);
        for subscription in service.subscriptions {
            let handled = (subscription.bind)(7)(Context::of(Envelope::new("a", "b")).build()).await;
            assert!(handled.is_ok());
        }
    }
}
