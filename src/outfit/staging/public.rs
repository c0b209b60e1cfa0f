//! Which addresses a name may lead to.
//!
//! A name is resolved by whoever owns it. One that an operator trusts today may lead to this very host, or to the
//! metadata service of a cloud, tomorrow: such addresses are left out of every answer, so that no connection is ever
//! made to them. An operator who means one writes it as an address.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// Resolves names to addresses of other hosts alone.
#[derive(Debug)]
pub(super) struct OtherHosts;

impl Resolve for OtherHosts {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let found: Vec<SocketAddr> = found.filter(|address| is_other_host(address.ip())).collect();
            if found.is_empty() {
                let what = format!("{} leads to no address that may be asked", name.as_str());
                return Err(what.into());
            }
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

/// Whether an address is one of another host, and of none that only this one can see.
fn is_other_host(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            let [first, ..] = v4.octets();
            first != 0 && !v4.is_loopback() && !v4.is_link_local() && !v4.is_multicast() && !v4.is_broadcast()
        }
        IpAddr::V6(v6) => match embedded(v6) {
            Some(v4) => is_other_host(v4),
            None => {
                !v6.is_loopback()
                    && !v6.is_unspecified()
                    && !v6.is_multicast()
                    && !v6.is_unicast_link_local()
                    // The metadata service of one cloud.
                    && v6 != Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)
            }
        },
    }
}

/// The older address within a newer one: mapped, compatible, translated, or of a 6to4 network.
fn embedded(v6: Ipv6Addr) -> Option<IpAddr> {
    let [a, b, c, d, e, f, g, h] = v6.segments();
    let of = |high: u16, low: u16| Some(IpAddr::from((u32::from(high) << 16 | u32::from(low)).to_be_bytes()));
    match [a, b, c, d, e, f] {
        [0, 0, 0, 0, 0, 0xffff] | [0x64, 0xff9b, 0, 0, 0, 0] => of(g, h),
        [0, 0, 0, 0, 0, 0] if g != 0 || h > 1 => of(g, h),
        [0x2002, high, low, ..] => of(high, low),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_this_host_and_its_link_are_left_out_however_they_are_written() {
        for own in [
            "127.0.0.1",
            "127.9.9.9",
            "0.0.0.0",
            "0.1.2.3",
            "169.254.169.254",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "::127.0.0.1",
            "64:ff9b::a9fe:a9fe",
            "2002:7f00:1::",
            "2002:a9fe:a9fe::1",
            "fe80::1",
            "ff02::1",
            "fd00:ec2::254",
        ] {
            assert!(!is_other_host(own.parse().unwrap()), "{own}");
        }
        for other in ["10.0.0.1", "192.168.1.1", "1.1.1.1", "2606:4700::1111", "fd12::1", "::ffff:1.1.1.1"] {
            assert!(is_other_host(other.parse().unwrap()), "{other}");
        }
    }

    #[tokio::test]
    async fn a_name_that_leads_here_leads_nowhere() {
        let name = "localhost".parse().unwrap();
        let error = OtherHosts.resolve(name).await.err().expect("it is refused");
        assert!(error.to_string().contains("no address that may be asked"), "{error}");
    }
}
