//! Which addresses may be pushed to, and the resolver that gives no other.
//!
//! A webhook's URL is chosen by a user, and the broker often stands where it reaches more than that user does: other services, the
//! machine itself, the cloud's metadata. A name is resolved here and nowhere else, and the client connects to the very addresses that
//! were passed, so a name that answers differently the second time gains nothing.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// A target that may not be pushed to. The text begins with the name by which a queue's retry policy can know it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("refused: {host} {}, which webhooks may not reach unless the server allows private targets", reason(*address, what))]
pub(super) struct Refused {
    pub(super) host: String,
    /// The address that it resolved to, unless it is one itself.
    pub(super) address: Option<IpAddr>,
    pub(super) what: &'static str,
}

fn reason(address: Option<IpAddr>, what: &str) -> String {
    match address {
        Some(address) => format!("resolves to {address}, {what}"),
        None => format!("is {what}"),
    }
}

/// What an address is, if it may not be pushed to. The IANA special-purpose registries (RFC 6890) are the source, with the addresses
/// by which clouds show machines their metadata.
pub(super) fn forbidden(address: IpAddr) -> Option<&'static str> {
    match address {
        IpAddr::V4(address) => forbidden_v4(address),
        IpAddr::V6(address) => forbidden_v6(address),
    }
}

fn forbidden_v4(address: Ipv4Addr) -> Option<&'static str> {
    let what = match address.octets() {
        [169, 254, 169, 254] | [168, 63, 129, 16] => "a cloud metadata address",
        [0, ..] => "an unspecified address",
        [127, ..] => "a loopback address",
        [10, ..] | [172, 16..=31, ..] | [192, 168, ..] => "a private address",
        [100, 64..=127, ..] => "a shared (carrier-grade NAT) address",
        [169, 254, ..] => "a link-local address",
        [224..=239, ..] => "a multicast address",
        [192, 0, 0 | 2, _]
        | [192, 88, 99, _]
        | [198, 18..=19, ..]
        | [198, 51, 100, _]
        | [203, 0, 113, _]
        | [240..=255, ..] => "a reserved address",
        _ => return None,
    };
    Some(what)
}

fn forbidden_v6(address: Ipv6Addr) -> Option<&'static str> {
    let segments = address.segments();
    let embedded = |high: u16, low: u16| Ipv4Addr::from((u32::from(high) << 16) | u32::from(low));
    match segments {
        [0, 0, 0, 0, 0, 0, 0, 0] => Some("an unspecified address"),
        [0, 0, 0, 0, 0, 0, 0, 1] => Some("a loopback address"),
        [0, 0, 0, 0, 0, 0xffff, ..] => Some("an IPv4-mapped address"),
        [0xff00..=0xffff, ..] => Some("a multicast address"),
        [0xfe80..=0xfebf, ..] => Some("a link-local address"),
        [0xfc00..=0xfdff, ..] | [0xfec0..=0xfeff, ..] => Some("a private address"),
        // NAT64 and 6to4 lead to the IPv4 address inside.
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..] => forbidden_v4(embedded(high, low)),
        [0x2001, 0..=0x1ff, ..] | [0x2001, 0xdb8, ..] | [0x3fff, 0..=0xfff, ..] => Some("a reserved address"),
        [0x2000..=0x3fff, ..] => None,
        _ => Some("a reserved address"),
    }
}

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

    fn verdict(address: &str) -> &'static str {
        forbidden(address.parse().expect("an address")).unwrap_or("fine")
    }

    #[test]
    fn what_only_the_broker_can_reach_is_refused() {
        for address in [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "100.64.0.1",
            "100.127.255.255",
            "127.0.0.1",
            "127.255.255.254",
            "168.63.129.16",
            "169.254.0.1",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.192",
            "192.0.2.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "239.255.255.255",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::2",
            "::127.0.0.1",
            "::ffff:127.0.0.1",
            "::ffff:8.8.8.8",
            "64:ff9b::7f00:1",
            "64:ff9b::a9fe:a9fe",
            "64:ff9b:1::1",
            "100::1",
            "2001::1",
            "2001:db8::1",
            "2002:7f00:1::1",
            "2002:c0a8:1::",
            "3fff::1",
            "5f00::1",
            "fc00::1",
            "fd00:ec2::254",
            "fe80::1",
            "fec0::1",
            "ff02::1",
            "4000::1",
        ] {
            assert_ne!(verdict(address), "fine", "{address}");
        }
        assert_eq!(verdict("169.254.169.254"), "a cloud metadata address");
        assert_eq!(verdict("169.254.1.1"), "a link-local address");
    }

    #[test]
    fn what_everybody_can_reach_is_not() {
        for address in [
            "1.1.1.1",
            "8.8.8.8",
            "9.255.255.255",
            "11.0.0.1",
            "100.63.255.255",
            "100.128.0.1",
            "172.15.0.1",
            "172.32.0.1",
            "192.0.1.1",
            "192.167.0.1",
            "198.17.0.1",
            "198.20.0.1",
            "223.255.255.255",
            "2606:4700::1111",
            "2a00:1450::1",
            "64:ff9b::808:808",
            "2002:808:808::1",
            "2001:4860:4860::8888",
        ] {
            assert_eq!(verdict(address), "fine", "{address}");
        }
    }

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
