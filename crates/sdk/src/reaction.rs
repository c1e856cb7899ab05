//! What a handler returns.

use crate::client::Publishing;
use crate::contract::{self, Call, EncodeError, Message};
use crate::transport::Outgoing;
use crate::{Context, Envelope, Error};

/// What follows from a message that was handled: messages to publish with its acknowledgement, and an answer if it was a question.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reaction {
    /// To publish, in order.
    pub publishes: Vec<Outgoing>,
    /// The answer to the question.
    pub answer: Option<Envelope>,
}

impl Reaction {
    /// Nothing follows.
    #[must_use]
    pub const fn none() -> Self {
        Self { publishes: Vec::new(), answer: None }
    }
}

/// A handler's success: `()`, a [`Message`], several of them as `Option`, `Vec` or tuple, a [`Publishing`], or an [`Answer`].
pub trait IntoReaction {
    /// Adds what follows.
    ///
    /// # Errors
    /// [`EncodeError`], which no further attempt would mend.
    fn add_to(self, reaction: &mut Reaction, context: &Context) -> Result<(), EncodeError>;
}

/// The answer to a question `C`, and with it nothing but the right type.
#[derive(Clone, Copy, Debug)]
pub struct Answer<C: Call>(pub C::Reply);

impl IntoReaction for () {
    fn add_to(self, _: &mut Reaction, _: &Context) -> Result<(), EncodeError> {
        Ok(())
    }
}

impl<M: Message> IntoReaction for M {
    fn add_to(self, reaction: &mut Reaction, context: &Context) -> Result<(), EncodeError> {
        Publishing::of(&self)?.add_to(reaction, context)
    }
}

impl IntoReaction for Publishing {
    fn add_to(self, reaction: &mut Reaction, context: &Context) -> Result<(), EncodeError> {
        let outgoing = self.into_outgoing(context.now());
        reaction.publishes.push(context.following(outgoing));
        Ok(())
    }
}

impl<R: IntoReaction> IntoReaction for Option<R> {
    fn add_to(self, reaction: &mut Reaction, context: &Context) -> Result<(), EncodeError> {
        self.map_or(Ok(()), |one| one.add_to(reaction, context))
    }
}

impl<R: IntoReaction> IntoReaction for Vec<R> {
    fn add_to(self, reaction: &mut Reaction, context: &Context) -> Result<(), EncodeError> {
        self.into_iter().try_for_each(|one| one.add_to(reaction, context))
    }
}

impl<C: Call> IntoReaction for Answer<C> {
    fn add_to(self, reaction: &mut Reaction, _: &Context) -> Result<(), EncodeError> {
        reaction.answer = Some(contract::encode(&self.0)?);
        Ok(())
    }
}

macro_rules! tuples {
    ($($name:ident)+) => {
        impl<$($name: IntoReaction),+> IntoReaction for ($($name,)+) {
            #[allow(non_snake_case)]
            fn add_to(self, reaction: &mut Reaction, context: &Context) -> Result<(), EncodeError> {
                let ($($name,)+) = self;
                $($name.add_to(reaction, context)?;)+
                Ok(())
            }
        }
    };
}
tuples!(A B);
tuples!(A B C);
tuples!(A B C D);

/// What a handler's future may give: a success, or a `Result` of one and any error.
pub trait IntoOutcome {
    /// What follows, or why nothing does.
    ///
    /// # Errors
    /// The handler's own, and [`EncodeError`] as a terminal one.
    fn into_outcome(self, context: &Context) -> Result<Reaction, Error>;
}

impl<R: IntoReaction> IntoOutcome for R {
    fn into_outcome(self, context: &Context) -> Result<Reaction, Error> {
        let mut reaction = Reaction { publishes: context.take_emitted(), answer: None };
        self.add_to(&mut reaction, context).map_err(|error| Error::from(error).into_terminal())?;
        Ok(reaction)
    }
}

impl<R: IntoReaction, E: Into<Error>> IntoOutcome for Result<R, E> {
    fn into_outcome(self, context: &Context) -> Result<Reaction, Error> {
        self.map_err(Into::into)?.into_outcome(context)
    }
}
