//! A saga's steps.

use std::fmt;
use std::future::{Future, ready};
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;

use crate::extract::FromContext;
use crate::transport::RetrySpec;
use crate::{Context, Error};

/// The saga's state, as a step gets it.
#[derive(Clone, Copy, Debug)]
pub struct Data<T>(pub T);

/// The surroundings of a step: a handler's [`Context`], and where in the saga it is.
#[derive(Clone, Debug)]
pub struct StepContext {
    context: Context,
    at: At,
}

/// Where in a saga a step is run.
#[derive(Clone, Debug)]
pub(crate) struct At {
    pub(crate) saga: Arc<str>,
    pub(crate) id: Arc<str>,
    pub(crate) step: Arc<str>,
    pub(crate) undo: bool,
    pub(crate) attempt: u32,
    /// What began the undoing.
    pub(crate) failure: Option<Arc<str>>,
}

impl StepContext {
    /// The saga's id.
    #[must_use]
    pub fn saga_id(&self) -> &str {
        &self.at.id
    }

    /// The same in each attempt of this step of this saga, and of no other: for whoever does the work to take it once.
    #[must_use]
    pub fn idempotency_key(&self) -> String {
        self.at.key()
    }

    /// 1 for the first attempt of this step, or of undoing it.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.at.attempt
    }

    /// Why the saga is being undone, if it is: what the step said that failed, or that the time was over.
    #[must_use]
    pub fn failure(&self) -> Option<&str> {
        self.at.failure.as_deref()
    }

    /// Whether the step is being undone.
    #[must_use]
    pub fn is_compensation(&self) -> bool {
        self.at.undo
    }
}

impl At {
    pub(crate) fn key(&self) -> String {
        let undo = if self.undo { "/undo" } else { "" };
        format!("{}/{}/{}{undo}", self.saga, self.id, self.step)
    }
}

impl Deref for StepContext {
    type Target = Context;
    fn deref(&self) -> &Context {
        &self.context
    }
}

impl<S: Sync> FromContext<S> for StepContext {
    fn from_context(context: &Context, _: &S) -> impl Future<Output = Result<Self, Error>> + Send {
        let at = context.get::<At>();
        let found = at.map(|at| Self { context: context.clone(), at });
        ready(found.ok_or_else(|| Error::terminal("only a saga's steps have a `StepContext`")))
    }
}

/// What a step gets its state from.
struct Carried<T>(T);

impl<T: Send + 'static, S: Sync> FromContext<S> for Data<T> {
    fn from_context(context: &Context, _: &S) -> impl Future<Output = Result<Self, Error>> + Send {
        let state = context.take::<Carried<T>>();
        ready(state.map(|state| Self(state.0)).ok_or_else(|| {
            Error::terminal("only a saga's steps have `Data`, once each, and of the saga's own state type")
        }))
    }
}

/// An async function whose arguments come out of the context, as those of a [`Handler`](crate::Handler), and that returns the saga's changed state.
/// `Args` is the tuple of its arguments, and is never written by hand.
pub trait StepFn<Args, T, S>: Clone + Send + Sync + 'static {
    /// Runs the step.
    fn call(&self, context: Context, state: S) -> impl Future<Output = Result<T, Error>> + Send;
}

macro_rules! steps {
    ($($name:ident)*) => {
        impl<Function, Pending, Failure, Saga, State, $($name),*> StepFn<($($name,)*), Saga, State> for Function
        where
            Function: Fn($($name),*) -> Pending + Clone + Send + Sync + 'static,
            Pending: Future<Output = Result<Saga, Failure>> + Send,
            Failure: Into<Error>,
            Saga: Send + 'static,
            State: Send + Sync + 'static,
            $($name: FromContext<State>,)*
        {
            #[allow(non_snake_case, unused_variables)]
            async fn call(&self, context: Context, state: State) -> Result<Saga, Error> {
                $(let $name = $name::from_context(&context, &state).await?;)*
                self($($name),*).await.map_err(Into::into)
            }
        }
    };
}
steps!(A);
steps!(A B);
steps!(A B C);
steps!(A B C D);
steps!(A B C D E);
steps!(A B C D E F);

/// A step with the service's state: from the saga's state to the next.
pub(crate) type Run<T> = Arc<dyn Fn(Context, T) -> BoxFuture<'static, Result<T, Error>> + Send + Sync>;
/// A step before the service's state is known.
pub(crate) type BindStep<T, S> = Box<dyn FnOnce(S) -> Run<T> + Send>;

pub(crate) fn bind<F, Args, T, S>(function: F) -> BindStep<T, S>
where
    F: StepFn<Args, T, S>,
    Args: 'static,
    T: Send + 'static,
    S: Clone + Send + Sync + 'static,
{
    Box::new(move |state: S| {
        Arc::new(move |context: Context, saga: T| {
            let (function, state) = (function.clone(), state.clone());
            let _ = context.insert(Carried(saga));
            Box::pin(async move { function.call(context, state).await })
        })
    })
}

/// A step of a saga.
pub struct Step<T, S = ()> {
    pub(crate) name: String,
    pub(crate) run: BindStep<T, S>,
    pub(crate) undo: Option<BindStep<T, S>>,
    pub(crate) retry: RetrySpec,
    pub(crate) undo_retry: RetrySpec,
    pub(crate) timeout: Duration,
    pub(crate) pivot: bool,
}

impl<T, S> Step<T, S>
where
    T: Send + 'static,
    S: Clone + Send + Sync + 'static,
{
    /// The time for one attempt, unless said otherwise.
    pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);

    /// A step of this name, which is part of what is stored and of the idempotency key.
    pub fn new<F, Args>(name: impl Into<String>, function: F) -> Self
    where
        F: StepFn<Args, T, S>,
        Args: 'static,
    {
        let retry = RetrySpec { cap: Duration::from_secs(60), ..RetrySpec::default() };
        Self {
            name: name.into(),
            run: bind(function),
            undo: None,
            retry,
            undo_retry: RetrySpec { max_attempts: None, ..retry },
            timeout: Self::DEFAULT_TIMEOUT,
            pivot: false,
        }
    }

    /// What undoes it. It has to bear that there is nothing to undo, and to be run again.
    #[must_use]
    pub fn compensate<F, Args>(mut self, function: F) -> Self
    where
        F: StepFn<Args, T, S>,
        Args: 'static,
    {
        self.undo = Some(bind(function));
        self
    }

    /// The point of no return: the step whose effect others see and nobody takes back, such as the confirmation of an order. Once all before it is done, the saga goes forward
    /// only: this step and those after it are tried without end, and the deadline undoes nothing any more. A *terminal* failure of this step still undoes the saga, since
    /// it says that nothing was done; one of a later step halts it until somebody [resumes](super::Sagas::resume) it.
    #[must_use]
    pub fn pivot(mut self) -> Self {
        self.pivot = true;
        self
    }

    /// What follows a transient failure of the step. After the last attempt the saga is undone.
    #[must_use]
    pub fn retry(mut self, retry: RetrySpec) -> Self {
        self.retry = retry;
        self
    }

    /// The waits between attempts to undo it. They do not end.
    #[must_use]
    pub fn compensation_retry(mut self, retry: RetrySpec) -> Self {
        self.undo_retry = RetrySpec { max_attempts: None, ..retry };
        self
    }

    /// The time for one attempt, of the machine's clock.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    pub(crate) fn with_state(self, state: &S) -> BoundStep<T> {
        BoundStep {
            name: self.name.into(),
            run: (self.run)(state.clone()),
            undo: self.undo.map(|undo| undo(state.clone())),
            retry: self.retry,
            undo_retry: self.undo_retry,
            timeout: self.timeout,
            pivot: self.pivot,
        }
    }
}

impl<T, S> fmt::Debug for Step<T, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Step")
            .field("name", &self.name)
            .field("compensated", &self.undo.is_some())
            .finish_non_exhaustive()
    }
}

/// A step whose functions know the service's state.
pub(crate) struct BoundStep<T> {
    pub(crate) name: Arc<str>,
    pub(crate) run: Run<T>,
    pub(crate) undo: Option<Run<T>>,
    pub(crate) retry: RetrySpec,
    pub(crate) undo_retry: RetrySpec,
    pub(crate) timeout: Duration,
    pub(crate) pivot: bool,
}
