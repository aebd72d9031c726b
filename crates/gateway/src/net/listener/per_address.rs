//! How many connections one address has (FAULTS rule 15).
//!
//! Owns: the counts, and who is not counted. No address is kept: counts stand under hashes with a secret of this
//! process, and only as long as the connections are open.

use std::{
    collections::{HashMap, hash_map::Entry},
    hash::{BuildHasher, RandomState},
    net::IpAddr,
    sync::Arc,
};

use parking_lot::Mutex;

use crate::net::client::TrustedProxies;

/// The limit, and the counts by the hash of an address.
#[derive(Debug)]
pub(super) struct PerAddress {
    /// 0 for none.
    max: usize,
    exempt: TrustedProxies,
    secret: RandomState,
    counts: Mutex<HashMap<u64, usize>>,
}

/// A connection that counts, until it is dropped.
#[derive(Debug)]
pub(super) struct Counted {
    table: Arc<PerAddress>,
    hash: u64,
}

impl PerAddress {
    /// Allows `max` connections of one address. Proxies have those of many clients, so they are exempt.
    pub(super) fn new(max: usize, exempt: TrustedProxies) -> Self {
        Self {
            max,
            exempt,
            secret: RandomState::new(),
            counts: Mutex::default(),
        }
    }

    /// Counts one more; `Err` when there are as many as there may be, `None` when this one does not count.
    pub(super) fn admit(self: &Arc<Self>, addr: IpAddr) -> Result<Option<Counted>, ()> {
        let addr = addr.to_canonical();
        if self.max == 0 || self.exempt.trusts(addr) {
            return Ok(None);
        }
        let hash = self.secret.hash_one(subscriber(addr));
        let mut counts = self.counts.lock();
        let count = counts.entry(hash).or_default();
        if *count >= self.max {
            return Err(());
        }
        *count += 1;
        Ok(Some(Counted {
            table: Arc::clone(self),
            hash,
        }))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut counts = self.table.counts.lock();
        if let Entry::Occupied(mut count) = counts.entry(self.hash) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

/// What one subscriber has: an IPv4 address, or the 64 bits that a network of IPv6 begins with (RFC 6177).
fn subscriber(addr: IpAddr) -> u64 {
    match addr {
        IpAddr::V4(addr) => addr.to_bits().into(),
        IpAddr::V6(addr) => (addr.to_bits() >> 64) as u64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(max: usize) -> Arc<PerAddress> {
        let proxy = "10.0.0.0/8".parse().expect("a network");
        Arc::new(PerAddress::new(max, TrustedProxies::new(&[proxy])))
    }

    /// How many of these addresses get in while all stay.
    fn admitted(max: usize, addrs: &[&str]) -> usize {
        let table = table(max);
        let addrs = addrs.iter().map(|addr| addr.parse().expect("an address"));
        let inside: Vec<_> = addrs.filter_map(|addr| table.admit(addr).ok()).collect();
        inside.len()
    }

    #[test]
    fn each_subscriber_has_a_limit() {
        let home = "198.51.100.7";
        for (max, addrs, expected) in [
            (2, [home; 4], 2),
            (0, [home; 4], 4),
            (1, [home, "198.51.100.8", home, "198.51.100.9"], 3),
            (1, ["10.1.2.3"; 4], 4),
            (1, ["::ffff:198.51.100.7", home, home, home], 1),
            (1, ["2001:db8::1", "2001:db8::2", home, home], 2),
            (1, ["2001:db8::1", "2001:db8:0:1::1", home, home], 3),
        ] {
            assert_eq!(admitted(max, &addrs), expected, "{max} {addrs:?}");
        }
    }

    #[test]
    fn who_leaves_makes_room_and_nothing_stays() {
        let table = table(1);
        let addr = "198.51.100.7".parse().expect("an address");
        for _ in 0..3 {
            let inside = table.admit(addr).expect("there is room");
            assert!(table.admit(addr).is_err());
            drop(inside);
            assert!(table.counts.lock().is_empty());
        }
    }
}
