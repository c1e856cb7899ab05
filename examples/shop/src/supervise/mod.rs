//! Starts the broker and the services as processes, kills them, and starts them again at the same ports.

mod broker;
mod build;
mod layout;
mod process;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;

use self::broker::Broker;
pub use self::broker::BrokerKind;
pub use self::build::build_services;
pub use self::layout::{Databases, Layout, drop_schemas};
pub use self::process::{Process, Victim};
use crate::faults::Faults;
use crate::services::Name;
use crate::settings::Carrier;

/// Time for a service to become ready.
const READY_LIMIT: Duration = Duration::from_secs(60);
/// Time for a service to stop before it is killed.
const STOP_LIMIT: Duration = Duration::from_secs(10);

/// What is started.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Where everything is kept: databases, logs, the broker's data.
    pub directory: PathBuf,
    /// What carries the messages.
    pub carrier: Carrier,
    /// Which broker.
    pub broker: BrokerKind,
    /// Where the services' databases are.
    pub databases: Databases,
    /// What goes wrong on purpose.
    pub faults: Faults,
    /// Pieces of each article in the beginning.
    pub stock: u32,
    /// Where traces go.
    pub otlp: Option<String>,
}

/// The shop, as processes. Dropped, it kills what it started.
#[derive(Debug)]
pub struct Shop {
    layout: Layout,
    broker: Option<Broker>,
    services: BTreeMap<Name, Process>,
}

impl Shop {
    /// Starts everything, and waits until all of it is ready.
    ///
    /// # Errors
    /// If a binary is missing or something does not start; what was started is ended then.
    pub async fn start(plan: &Plan) -> anyhow::Result<Self> {
        std::fs::create_dir_all(&plan.directory)
            .with_context(|| format!("making the directory {}", plan.directory.display()))?;
        let layout = Layout::new(plan).await?;
        let broker = Broker::start(plan).await?;
        let mut shop = Self { services: BTreeMap::new(), broker: None, layout };
        let url = broker.url().to_owned();
        shop.layout.broker_url = url;
        shop.broker = Some(broker);
        for name in Name::ALL {
            let command = shop.layout.service(name)?;
            let mut process = Process::new(name.as_str(), command, shop.layout.log_of(name.as_str()))
                .ready_at(shop.layout.http(name), "/readyz");
            process.start()?;
            shop.services.insert(name, process);
        }
        for process in shop.services.values_mut() {
            process.wait_until_ready(READY_LIMIT).await?;
        }
        Ok(shop)
    }

    /// Where everything is.
    #[must_use]
    pub const fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The broker, and what it is; none if it is somebody else's.
    #[must_use]
    pub fn describe_broker(&self) -> Vec<(String, String)> {
        self.broker.as_ref().map(Broker::describe).unwrap_or_default()
    }

    /// Everything that can be killed.
    #[must_use]
    pub fn victims(&self) -> Vec<Victim> {
        let broker = self.broker.as_ref().filter(|broker| broker.is_ours()).map(|_| Victim::Broker);
        Name::ALL.into_iter().map(Victim::Service).chain(broker).collect()
    }

    /// Kills a process without a warning.
    ///
    /// # Errors
    /// If it does not die.
    pub async fn kill(&mut self, victim: Victim) -> anyhow::Result<()> {
        self.process(victim)?.kill().await
    }

    /// Starts processes that were killed, at the same ports and with the same data, and waits until they are ready. The broker comes first: a
    /// service is not ready before it is.
    ///
    /// # Errors
    /// If one does not start.
    pub async fn restart(&mut self, victims: &[Victim]) -> anyhow::Result<()> {
        let mut victims = victims.to_vec();
        victims.sort();
        for victim in victims {
            let process = self.process(victim)?;
            process.start()?;
            process.wait_until_ready(READY_LIMIT).await?;
        }
        Ok(())
    }

    /// What has ended by itself, which nothing ever should.
    pub fn died(&mut self) -> Option<String> {
        let services = self.services.values_mut();
        let broker = self.broker.as_mut().and_then(Broker::process_mut);
        services.chain(broker).find_map(Process::died)
    }

    /// Stops the services, and lets them finish what they are at.
    ///
    /// # Errors
    /// If one cannot be told to stop.
    pub async fn stop_services(&mut self) -> anyhow::Result<()> {
        for process in self.services.values_mut() {
            process.terminate()?;
        }
        for process in self.services.values_mut() {
            process.wait_until_ended(STOP_LIMIT).await?;
        }
        Ok(())
    }

    /// Stops everything.
    ///
    /// # Errors
    /// If something cannot be told to stop.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        self.stop_services().await?;
        if let Some(broker) = self.broker.take() {
            broker.stop().await?;
        }
        Ok(())
    }

    fn process(&mut self, victim: Victim) -> anyhow::Result<&mut Process> {
        match victim {
            Victim::Broker => self.broker.as_mut().and_then(Broker::process_mut).context("the broker is not ours"),
            Victim::Service(name) => self.services.get_mut(&name).with_context(|| format!("there is no {name}")),
        }
    }
}
