//! The cases, one file a part of the trait.

mod closing;
mod consuming;
mod dead_letters;
mod delays;
mod keyed;
mod live;
mod messages;
mod once;
mod priority;
mod publishing;
mod refusals;
mod replay;
mod restarts;
mod retries;
mod series;
mod topology;

use futures_util::future::BoxFuture;

use super::Outcome;
use super::ground::{Ground, Proof, Suite};
use crate::transport::{Capabilities, Settlement, Support};

/// One promise of the trait.
pub(super) struct Case {
    /// The promise as a function's name.
    pub(super) name: &'static str,
    pub(super) needs: Needs,
    pub(super) run: for<'a> fn(&'a Ground<'a>) -> BoxFuture<'a, Proof>,
}

impl Case {
    /// The promise as a sentence.
    pub(super) fn title(&self) -> String {
        self.name.replace('_', " ")
    }

    /// Whether it is run; if not, why.
    pub(super) fn applies(&self, suite: &Suite) -> Result<(), Outcome> {
        if self.needs.restart && !suite.options.can_restart() {
            return Err(Outcome::NotDeclared);
        }
        self.needs.met_by(suite.transport.capabilities())
    }
}

/// Who must do what a case proves.
#[derive(Clone, Copy)]
enum By {
    /// Every transport.
    All,
    /// A transport that settles message by message.
    PerMessage,
    /// The broker, or the transport on top of it.
    Anybody(&'static str),
    /// The broker; if the SDK does it, the service runtime is what shows it.
    Broker(&'static str),
    /// Nobody: the case shows that it is refused.
    Nobody(&'static str),
}

/// What must be declared for a case to be run.
#[derive(Clone, Copy)]
pub(super) struct Needs {
    by: By,
    /// A second capability that the case rests on, of the broker or of the transport.
    also: Option<&'static str>,
    restart: bool,
}

/// Every transport.
const CORE: Needs = Needs { by: By::All, also: None, restart: false };
/// Every transport that settles message by message.
const PER_MESSAGE: Needs = Needs { by: By::PerMessage, also: None, restart: false };

/// Whoever declares it, in the broker or on top.
const fn has(capability: &'static str) -> Needs {
    Needs { by: By::Anybody(capability), also: None, restart: false }
}

/// Whoever declares it as the broker's.
const fn broker(capability: &'static str) -> Needs {
    Needs { by: By::Broker(capability), also: None, restart: false }
}

/// Whoever does not have it.
const fn lacks(capability: &'static str) -> Needs {
    Needs { by: By::Nobody(capability), also: None, restart: false }
}

impl Needs {
    const fn and(mut self, capability: &'static str) -> Self {
        self.also = Some(capability);
        self
    }

    const fn restarted(mut self) -> Self {
        self.restart = true;
        self
    }

    /// What the report calls it.
    pub(super) fn capability(self) -> &'static str {
        match self.by {
            By::All => "core",
            By::PerMessage => "settlement",
            By::Anybody(capability) | By::Broker(capability) | By::Nobody(capability) => capability,
        }
    }

    fn met_by(self, capabilities: &Capabilities) -> Result<(), Outcome> {
        let support = |name: &str| {
            let rows = capabilities.rows();
            rows.iter().find(|(known, _)| *known == name).map_or(Support::No, |(_, support)| *support)
        };
        if self.also.is_some_and(|also| !support(also).is_there()) {
            return Err(Outcome::NotDeclared);
        }
        let met = match self.by {
            By::All => true,
            By::PerMessage => capabilities.settlement == Settlement::PerMessage,
            By::Anybody(capability) => support(capability).is_there(),
            By::Broker(capability) => match support(capability) {
                Support::Broker => true,
                Support::Sdk => return Err(Outcome::BySdk),
                Support::No => false,
            },
            By::Nobody(capability) => support(capability) == Support::No,
        };
        if met { Ok(()) } else { Err(Outcome::NotDeclared) }
    }
}

/// Lists a file's cases: what each needs, and the function that is named after what it proves.
macro_rules! cases {
    ($($needs:expr => $case:ident,)+) => {
        pub(super) const CASES: &[super::Case] = &[
            $(super::Case { name: stringify!($case), needs: $needs, run: |ground| Box::pin($case(ground)) }),+
        ];
    };
}
use cases;

/// All cases in the order in which they run: the one that closes the transport is the last.
pub(super) fn all() -> impl Iterator<Item = &'static Case> {
    [
        topology::CASES,
        publishing::CASES,
        messages::CASES,
        consuming::CASES,
        retries::CASES,
        dead_letters::CASES,
        delays::CASES,
        keyed::CASES,
        once::CASES,
        priority::CASES,
        live::CASES,
        replay::CASES,
        series::CASES,
        refusals::CASES,
        restarts::CASES,
        closing::CASES,
    ]
    .into_iter()
    .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_case_has_a_name_of_its_own_and_names_a_capability() {
        let everything = |support| Capabilities {
            retry: support,
            dead_letter: support,
            delay: support,
            keyed: support,
            replay: support,
            key_index: support,
            expected_version: support,
            ack_and_publish: support,
            dedup: support,
            live: support,
            priority: support,
            browse: support,
            max_body_bytes: 1,
            ..Capabilities::none()
        };
        let known: Vec<&str> = everything(Support::No).rows().iter().map(|(name, _)| *name).collect();
        let mut names = std::collections::BTreeSet::new();
        for case in all() {
            assert!(names.insert(case.name), "{} is there twice", case.name);
            let capability = case.needs.capability();
            assert!(["core", "settlement"].contains(&capability) || known.contains(&capability), "{}", case.name);
            assert!(case.needs.also.is_none_or(|also| known.contains(&also)), "{}", case.name);
            let runs = |support| case.needs.met_by(&everything(support)).is_ok();
            assert!(runs(Support::Broker) || runs(Support::No), "{} is never run", case.name);
        }
    }

    #[test]
    fn what_the_sdk_supplies_is_not_asked_of_the_broker() {
        let mut capabilities = Capabilities {
            settlement: Settlement::Cumulative,
            retry: Support::Sdk,
            delay: Support::Sdk,
            max_body_bytes: 1,
            ..Capabilities::none()
        };
        assert_eq!(broker("retry").met_by(&capabilities), Err(Outcome::BySdk));
        assert_eq!(has("delay").met_by(&capabilities), Ok(()));
        assert_eq!(has("delay").and("replay").met_by(&capabilities), Err(Outcome::NotDeclared));
        assert_eq!(lacks("replay").met_by(&capabilities), Ok(()));
        assert_eq!(lacks("retry").met_by(&capabilities), Err(Outcome::NotDeclared));
        assert_eq!(PER_MESSAGE.met_by(&capabilities), Err(Outcome::NotDeclared));
        capabilities.settlement = Settlement::PerMessage;
        assert_eq!(PER_MESSAGE.met_by(&capabilities), Ok(()));
    }
}
