//! The resolver that gives no address that may not be pushed to.
//!
//! A name is resolved here and nowhere else, and the client connects to the very addresses that were passed, so a name that answers
//! differently the second time gains nothing. Which addresses pass, the broker says, which also checks declarations.

use std::net::SocketAddr;

use broker::webhook_target::{Refused, forbidden};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// Of what a name resolved to, the addresses that may be connected to.
///
/// # Errors
/// [`Refused`] if there is none.
pub(super) fn permitted(
    host: &str,
    found: impl IntoIterator<Item = SocketAddr>,
    allow_private: bool,
) -> Result<Vec<SocketAddr>, Refused> {
    let (mut passed, mut refused) = (Vec::new(), None);
    for socket in found {
        match forbidden(socket.ip()).filter(|_| !allow_private) {
            None => passed.push(socket),
            Some(what) => drop(refused.get_or_insert((socket.ip(), what))),
        }
    }
    match refused {
        Some((address, what)) if passed.is_empty() => {
            Err(Refused { host: host.to_owned(), address: Some(address), what })
        }
        _ => Ok(passed),
    }
}

/// The client's resolver: the system's, behind [`permitted`].
#[derive(Clone, Copy, Debug)]
pub(super) struct GuardedResolver {
    pub(super) allow_private: bool,
}

impl Resolve for GuardedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let allow_private = self.allow_private;
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let passed = permitted(name.as_str(), found, allow_private)?;
            Ok(Box::new(passed.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_several_addresses_only_those_that_pass_are_connected_to() {
        let socket = |text: &str| SocketAddr::new(text.parse().expect("an address"), 0);
        let mixed = [socket("10.0.0.1"), socket("8.8.8.8")];
        assert_eq!(permitted("a.example", mixed, false), Ok(vec![socket("8.8.8.8")]));
        assert_eq!(permitted("a.example", mixed, true), Ok(mixed.to_vec()));
        let error = permitted("a.example", [socket("127.0.0.1")], false).expect_err("refused");
        assert_eq!(
            error.to_string(),
            "refused: a.example resolves to 127.0.0.1, a loopback address, which webhooks may not reach unless the server allows \
             private targets"
        );
    }
}
