//! Which targets webhooks may be given, as far as that is known before a name is resolved.
//!
//! A webhook's URL is chosen by a user, and the broker often stands where it reaches more than that user does: other services, the
//! machine itself, the cloud's metadata. A declaration is checked here, by whatever protocol it comes. What sends holds each address that
//! a name resolves to against [`forbidden`] once more.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use url::{Host, Url};

/// A target that may not be pushed to. The text begins with the name by which a queue's retry policy can know it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("refused: {host} {}, which webhooks may not reach unless the server allows private targets", reason(*address, what))]
pub struct Refused {
    /// The host, as the URL names it.
    pub host: String,
    /// The address that it resolved to, unless it is one itself.
    pub address: Option<IpAddr>,
    /// What the address is.
    pub what: &'static str,
}

fn reason(address: Option<IpAddr>, what: &str) -> String {
    match address {
        Some(address) => format!("resolves to {address}, {what}"),
        None => format!("is {what}"),
    }
}

/// What an address is, if it may not be pushed to. The IANA special-purpose registries (RFC 6890) are the source, with the addresses
/// by which clouds show machines their metadata.
#[must_use]
pub fn forbidden(address: IpAddr) -> Option<&'static str> {
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

/// Checks what needs no name service: scheme, credentials, and a host that is an address, which is never resolved.
///
/// # Errors
/// What is wrong with it.
pub fn check_url(url: &Url, allow_private: bool) -> Result<(), String> {
    if !matches!(url.scheme(), "http" | "https") {
        return Err(format!("refused: {:?} is no scheme to push to; use http or https", url.scheme()));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("refused: the URL holds a user or password; send them in an `authorization` header".to_owned());
    }
    let address = match url.host() {
        None => return Err("refused: the URL names no host".to_owned()),
        Some(Host::Domain(_)) => return Ok(()),
        Some(Host::Ipv4(address)) => address.into(),
        Some(Host::Ipv6(address)) => address.into(),
    };
    match forbidden(address).filter(|_| !allow_private) {
        None => Ok(()),
        Some(what) => Err(Refused { host: address.to_string(), address: None, what }.to_string()),
    }
}

/// Why nothing would be sent to a URL, as far as that is known before its host's name is resolved.
pub(crate) fn check_declared(url: &str, allow_private: bool) -> Result<(), String> {
    let url = Url::parse(url).map_err(|error| error.to_string())?;
    let checked = check_url(&url, allow_private).and_then(|()| match url.host() {
        // It is resolved to a loopback address as a message is sent; that needs no name service to be known.
        Some(Host::Domain(name)) if !allow_private && is_local(name) => {
            Err(Refused { host: name.to_owned(), address: None, what: "this machine" }.to_string())
        }
        _ => Ok(()),
    });
    checked.map_err(|why| why.strip_prefix("refused: ").map(str::to_owned).unwrap_or(why))
}

/// Names that mean the machine itself, whoever is asked. (RFC 6761, section 6.3)
fn is_local(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    name == "localhost" || name.ends_with(".localhost")
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
    fn a_declared_target_is_refused_before_anything_is_sent_there() {
        for url in
            ["http://127.0.0.1/", "http://2130706433/", "http://[::1]/", "http://localhost:1/", "http://a.localhost./"]
        {
            let why = check_declared(url, false).expect_err(url);
            assert!(why.contains("webhooks may not reach") && !why.starts_with("refused"), "{url}: {why}");
            assert_eq!(check_declared(url, true), Ok(()), "{url}");
        }
        assert_eq!(check_declared("https://hooks.example/", false), Ok(()), "a name is judged when it is resolved");
    }
}
