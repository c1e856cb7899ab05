//! What a handler's arguments can be.

use std::future::{Future, ready};

use crate::client::Client;
use crate::contract::{Call, Contract, DecodeError, Message, decode};
use crate::{Context, Envelope, Error};

/// Gets a handler's argument out of a message's [`Context`] and the service's state `S`.
pub trait FromContext<S>: Sized + Send {
    /// The contract that the argument stands for: what the handler consumes. At most one argument of a handler has one.
    #[must_use]
    fn contract() -> Option<Contract> {
        None
    }

    /// The contract of the answer, if the argument is a question.
    #[must_use]
    fn reply() -> Option<Contract> {
        None
    }

    /// The argument.
    ///
    /// # Errors
    /// What the handler's failure would be: a *terminal* [`Error`] where the same message will fail again.
    fn from_context(context: &Context, state: &S) -> impl Future<Output = Result<Self, Error>> + Send;
}

/// The message's contract type, decoded. What cannot be decoded is dead-lettered with the reason.
#[derive(Clone, Copy, Debug)]
pub struct Event<M>(pub M);

/// A question, decoded; the handler returns an [`Answer`](crate::Answer).
#[derive(Clone, Copy, Debug)]
pub struct Request<C>(pub C);

/// The service's state, or a part of it ([`FromRef`]).
#[derive(Clone, Copy, Debug)]
pub struct State<T>(pub T);

/// Gets a part of the service's state.
pub trait FromRef<S> {
    /// The part.
    fn from_ref(state: &S) -> Self;
}

impl<S: Clone> FromRef<S> for S {
    fn from_ref(state: &S) -> Self {
        state.clone()
    }
}

impl From<DecodeError> for Undecodable {
    fn from(error: DecodeError) -> Self {
        Self(error)
    }
}

/// What makes a message a dead letter at once.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct Undecodable(DecodeError);

fn decoded<M: Message>(context: &Context) -> Result<M, Error> {
    decode(context.envelope()).map_err(|error| Error::from(Undecodable(error)).into_terminal())
}

impl<M: Message, S: Sync> FromContext<S> for Event<M> {
    fn contract() -> Option<Contract> {
        Some(Contract::of::<M>())
    }

    fn from_context(context: &Context, _: &S) -> impl Future<Output = Result<Self, Error>> + Send {
        ready(decoded(context).map(Self))
    }
}

impl<C: Call, S: Sync> FromContext<S> for Request<C> {
    fn contract() -> Option<Contract> {
        Some(Contract::of::<C>())
    }

    fn reply() -> Option<Contract> {
        Some(Contract::of::<C::Reply>())
    }

    fn from_context(context: &Context, _: &S) -> impl Future<Output = Result<Self, Error>> + Send {
        ready(decoded(context).map(Self))
    }
}

impl<T: FromRef<S> + Send, S: Sync> FromContext<S> for State<T> {
    fn from_context(_: &Context, state: &S) -> impl Future<Output = Result<Self, Error>> + Send {
        ready(Ok(Self(T::from_ref(state))))
    }
}

impl<S: Sync> FromContext<S> for Context {
    fn from_context(context: &Context, _: &S) -> impl Future<Output = Result<Self, Error>> + Send {
        ready(Ok(context.clone()))
    }
}

impl<S: Sync> FromContext<S> for Client {
    fn from_context(context: &Context, _: &S) -> impl Future<Output = Result<Self, Error>> + Send {
        ready(Ok(context.client().clone()))
    }
}

impl<S: Sync> FromContext<S> for Envelope {
    fn from_context(context: &Context, _: &S) -> impl Future<Output = Result<Self, Error>> + Send {
        ready(Ok(context.envelope().clone()))
    }
}
