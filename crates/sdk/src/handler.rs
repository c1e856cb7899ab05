//! Plain async functions as handlers.

use std::future::Future;

use crate::contract::Contract;
use crate::extract::FromContext;
use crate::reaction::{IntoOutcome, Reaction};
use crate::{Context, Error};

/// An async function whose arguments come out of the message ([`FromContext`]) and whose result is an outcome ([`IntoOutcome`]). `T` is the tuple of its
/// arguments, and is never written by hand.
pub trait Handler<T, S>: Clone + Send + Sync + 'static {
    /// The contracts among the arguments.
    #[must_use]
    fn contracts() -> Vec<Contract>;

    /// The contracts of the answers to the questions among the arguments.
    #[must_use]
    fn replies() -> Vec<Contract>;

    /// Handles a message.
    fn call(&self, context: Context, state: S) -> impl Future<Output = Result<Reaction, Error>> + Send;
}

macro_rules! handlers {
    ($($name:ident)*) => {
        impl<Function, Pending, Outcome, State, $($name),*> Handler<($($name,)*), State> for Function
        where
            Function: Fn($($name),*) -> Pending + Clone + Send + Sync + 'static,
            Pending: Future<Output = Outcome> + Send,
            Outcome: IntoOutcome + Send,
            State: Send + Sync + 'static,
            $($name: FromContext<State>,)*
        {
            fn contracts() -> Vec<Contract> {
                let all: Vec<Option<Contract>> = vec![$($name::contract()),*];
                all.into_iter().flatten().collect()
            }

            fn replies() -> Vec<Contract> {
                let all: Vec<Option<Contract>> = vec![$($name::reply()),*];
                all.into_iter().flatten().collect()
            }

            #[allow(non_snake_case, unused_variables)]
            async fn call(&self, context: Context, state: State) -> Result<Reaction, Error> {
                $(let $name = $name::from_context(&context, &state).await?;)*
                self($($name),*).await.into_outcome(&context)
            }
        }
    };
}
handlers!();
handlers!(A);
handlers!(A B);
handlers!(A B C);
handlers!(A B C D);
handlers!(A B C D E);
handlers!(A B C D E F);
handlers!(A B C D E F G);
handlers!(A B C D E F G H);
