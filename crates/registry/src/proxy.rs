//! `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY`, as Docker reads them
//! (golang.org/x/net/http/httpproxy).

use std::net::IpAddr;

/// The proxy for a host, if the environment names one.
pub(crate) fn from_environment(scheme: &str, host: &str) -> Option<String> {
    let variable = |name: &str| {
        let upper = std::env::var(name).ok().filter(|value| !value.is_empty());
        upper.or_else(|| std::env::var(name.to_lowercase()).ok()).filter(|value| !value.is_empty())
    };
    let named = if scheme == "https" { "HTTPS_PROXY" } else { "HTTP_PROXY" };
    let address = variable(named).or_else(|| variable("ALL_PROXY"))?;
    let exempt = variable("NO_PROXY").unwrap_or_default();
    (!is_exempt(&exempt, host)).then_some(address)
}

/// Whether `list` exempts `host`: by `*`, its name, a parent domain, its address or a network.
fn is_exempt(list: &str, host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
    let address: Option<IpAddr> = host.parse().ok();
    list.split(',').map(str::trim).filter(|entry| !entry.is_empty()).any(|entry| {
        let entry = entry.to_ascii_lowercase();
        if let (Some(address), Some((network, length))) = (address, entry.split_once('/')) {
            return contains(network, length, address).unwrap_or(false);
        }
        let only_below = entry.starts_with('.') || entry.starts_with("*.");
        let name = entry.trim_start_matches('*').trim_start_matches('.');
        entry == "*"
            || host == name && !only_below
            || host.strip_suffix(name).is_some_and(|rest| rest.ends_with('.'))
    })
}

fn contains(network: &str, length: &str, address: IpAddr) -> Option<bool> {
    let length: u32 = length.parse().ok()?;
    let (network, address, width) = match (network.parse().ok()?, address) {
        (IpAddr::V4(n), IpAddr::V4(a)) => (u128::from(n.to_bits()), u128::from(a.to_bits()), 32),
        (IpAddr::V6(n), IpAddr::V6(a)) => (n.to_bits(), a.to_bits(), 128),
        _ => return None,
    };
    let ignored = u32::checked_sub(width, length)?;
    Some((network ^ address).checked_shr(ignored).unwrap_or(0) == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exemptions_are_matched_as_go_does() {
        for (list, host, expected) in [
            ("", "a.b", false),
            ("*", "a.b", true),
            ("a.b", "a.b", true),
            ("a.b", "x.a.b", true),
            ("a.b", "xa.b", false),
            (".a.b", "a.b", false),
            (".a.b", "x.a.b", true),
            ("*.a.b", "x.a.b", true),
            ("x, A.B ,y", "a.b", true),
            ("10.0.0.0/8", "10.1.2.3", true),
            ("10.0.0.0/8", "11.1.2.3", false),
            ("0.0.0.0/0", "11.1.2.3", true),
            ("10.0.0.0/33", "10.0.0.0", false),
            ("fd00::/8", "[fd00::1]", true),
        ] {
            assert_eq!(is_exempt(list, host), expected, "{list} {host}");
        }
    }
}
