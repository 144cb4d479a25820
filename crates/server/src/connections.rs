//! The table of all open connections of the process. When it is full, one is closed to make room for a new one:
//! connections without an authenticated request first, the oldest of the peer that has most of them.

use std::{
    collections::{BTreeMap, HashMap},
    net::{IpAddr, Ipv6Addr},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{sync::Notify, time::Instant};

use crate::{Limits, Peer, answer::Answers};

/// Descriptors for the store, logs, listeners, pipes of engines, and closing connections.
const RESERVED_DESCRIPTORS: u64 = 192;
/// Descriptors of a connection with a request: its own, and one for the upstream.
const DESCRIPTORS_PER_CONNECTION: u64 = 2;
/// While more connections are closing, new ones wait.
const MAX_CLOSING: usize = 64;
/// How long a new connection waits for one of them before it checks again, and the end of the process for all of them.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
/// A full table is logged at most this often.
const WARN_INTERVAL: Duration = Duration::from_secs(30);

/// The open connections of all listeners of a process.
#[derive(Debug)]
pub struct Connections {
    limits: Limits,
    max: usize,
    max_per_peer: usize,
    table: Mutex<Table>,
    left: Notify,
}

#[derive(Debug, Default)]
struct Table {
    next: u64,
    /// Connections in use: all but those that are closing.
    open: usize,
    closing: usize,
    peers: HashMap<PeerKey, PeerConnections>,
    warned: Option<Instant>,
}

/// The connections of one peer, by their order of arrival.
#[derive(Debug, Default)]
struct PeerConnections {
    unauthenticated: BTreeMap<u64, Arc<Activity>>,
    authenticated: BTreeMap<u64, Arc<Activity>>,
    /// Those that were asked to close and have not ended yet.
    closing: usize,
}

/// Identifies a peer. Of an IPv6 address only the /64 counts, which is the network of one subscriber.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum PeerKey {
    Ip(IpAddr),
    Unix,
}

/// The state of a connection, shared between its task, its requests and the table.
#[derive(Debug, Default)]
pub(crate) struct Activity {
    pub(crate) close: Notify,
    pub(crate) answers: Answers,
    /// Whether a request of it was authenticated, as the table has too: most requests need no lock to know.
    authenticated: AtomicBool,
}

/// The connection that a request arrived by; an extension of every request.
#[derive(Debug, Clone)]
pub struct Connection {
    connections: Arc<Connections>,
    activity: Arc<Activity>,
    key: PeerKey,
    id: u64,
}

impl Connection {
    pub(crate) fn limits(&self) -> &Limits {
        &self.connections.limits
    }

    /// Whether a request of this connection was authenticated.
    pub(crate) fn is_authenticated(&self) -> bool {
        self.activity.authenticated.load(Ordering::Relaxed)
    }

    /// Records that a request of this connection was authenticated, so that it is not closed to make room for others.
    pub fn authenticated(&self) {
        if self.is_authenticated() {
            return;
        }
        let mut table = self.connections.table();
        if let Some(peer) = table.peers.get_mut(&self.key)
            && let Some(activity) = peer.unauthenticated.remove(&self.id)
        {
            activity.authenticated.store(true, Ordering::Relaxed);
            peer.authenticated.insert(self.id, activity);
        }
    }
}

/// An entry of the table, removed when dropped.
#[derive(Debug)]
pub(crate) struct Admitted {
    pub(crate) connection: Connection,
    pub(crate) activity: Arc<Activity>,
}

impl Drop for Admitted {
    fn drop(&mut self) {
        let Connection { connections, key, id, .. } = &self.connection;
        connections.table().remove(*key, *id);
        connections.left.notify_waiters();
    }
}

/// The result of an attempt to admit a connection.
enum Admission {
    Free(Admitted),
    Closing,
    None,
}

impl Connections {
    /// A table that is bounded by `limits`, and by the number of descriptors that the process may open.
    pub fn new(limits: Limits, descriptors: u64) -> Arc<Self> {
        let affordable = descriptors.saturating_sub(RESERVED_DESCRIPTORS) / DESCRIPTORS_PER_CONNECTION;
        let affordable = usize::try_from(affordable).unwrap_or(usize::MAX).max(1);
        let wanted = usize::try_from(limits.connections).unwrap_or(usize::MAX);
        let max = wanted.min(affordable);
        if max < wanted {
            tracing::warn!(
                connections = max,
                descriptors,
                "the hard limit of open files allows fewer connections than `limits.http.connections`"
            );
        }
        let per_peer = limits.connections_per_peer.and_then(|count| usize::try_from(count).ok());
        let max_per_peer = per_peer.unwrap_or((max / 2).max(1)).min(max);
        Arc::new(Self { limits, max, max_per_peer, table: Mutex::default(), left: Notify::new() })
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Admits a connection, and closes another one if the table is full. `None` if authenticated callers use all others.
    pub(crate) async fn admit(self: &Arc<Self>, peer: Peer) -> Option<Admitted> {
        loop {
            // Before the table is read, so that a connection that leaves in between is not missed.
            let left = self.left.notified();
            match self.try_admit(peer) {
                Admission::Free(admitted) => return Some(admitted),
                Admission::None => return None,
                Admission::Closing => {}
            }
            // Their descriptors are free only when they have ended.
            let _ = tokio::time::timeout(CLOSE_TIMEOUT, left).await;
        }
    }

    /// Closes one connection when descriptors ran out in spite of the reserve.
    pub(crate) fn relieve(&self) {
        self.table().close_one(None);
    }

    /// Ends all connections, with the requests that run on them, and waits until they have ended, for at most a second. A daemon
    /// does so before its runtime ends: a request that is polled after that panics, and is answered as an internal error.
    pub async fn cut(&self) {
        let ended = async {
            loop {
                let left = self.left.notified();
                if self.table().close_all() == 0 {
                    return;
                }
                left.await;
            }
        };
        if tokio::time::timeout(CLOSE_TIMEOUT, ended).await.is_err() {
            tracing::warn!("connections were still closing at the end");
        }
    }

    fn try_admit(self: &Arc<Self>, peer: Peer) -> Admission {
        let key = PeerKey::of(peer);
        let mut table = self.table();
        if table.closing > MAX_CLOSING.min(self.max / 16) {
            return Admission::Closing;
        }
        let peer_is_full = table.peers.get(&key).is_some_and(|peer| peer.open() >= self.max_per_peer);
        if peer_is_full || table.open >= self.max {
            table.warn_full(self.max, self.max_per_peer);
            if !table.close_one(peer_is_full.then_some(key)) {
                return Admission::None;
            }
        }
        let id = table.next;
        table.next += 1;
        table.open += 1;
        let activity = Arc::new(Activity::default());
        table.peers.entry(key).or_default().unauthenticated.insert(id, Arc::clone(&activity));
        Admission::Free(Admitted {
            connection: Connection {
                connections: Arc::clone(self),
                activity: Arc::clone(&activity),
                key,
                id,
            },
            activity,
        })
    }
}

impl Table {
    fn remove(&mut self, key: PeerKey, id: u64) {
        let Some(peer) = self.peers.get_mut(&key) else { return };
        if peer.unauthenticated.remove(&id).is_some() || peer.authenticated.remove(&id).is_some() {
            self.open = self.open.saturating_sub(1);
        } else {
            peer.closing = peer.closing.saturating_sub(1);
            self.closing = self.closing.saturating_sub(1);
        }
        if peer.open() + peer.closing == 0 {
            self.peers.remove(&key);
        }
    }

    /// Closes the oldest connection without an authenticated request, of the peer that has most of them; else the one that
    /// has been without a request for longest. `of` limits the choice to one peer. Returns whether one was closed.
    fn close_one(&mut self, of: Option<PeerKey>) -> bool {
        let candidates = || self.peers.iter().filter(move |(key, _)| of.is_none_or(|of| of == **key));
        let crowd = candidates().max_by_key(|(_, peer)| peer.unauthenticated.len());
        let oldest = crowd.and_then(|(key, peer)| Some((*key, *peer.unauthenticated.first_key_value()?.0)));
        let idle = || {
            let idle = candidates().flat_map(|(key, peer)| {
                let quiet =
                    peer.authenticated.iter().map(|(id, activity)| (activity.answers.quiet_since(), *id));
                quiet.filter_map(|(since, id)| Some((since?, *key, id)))
            });
            idle.min_by_key(|(since, ..)| *since).map(|(_, key, id)| (key, id))
        };
        let Some((key, id)) = oldest.or_else(idle) else { return false };
        let Some(peer) = self.peers.get_mut(&key) else { return false };
        let Some(activity) = peer.unauthenticated.remove(&id).or_else(|| peer.authenticated.remove(&id))
        else {
            return false;
        };
        peer.closing += 1;
        self.open = self.open.saturating_sub(1);
        self.closing += 1;
        activity.close.notify_one();
        true
    }

    /// Asks all connections to close. Returns how many have not ended yet.
    fn close_all(&self) -> usize {
        let open = |peer: &PeerConnections| {
            let all = peer.unauthenticated.values().chain(peer.authenticated.values());
            all.for_each(|activity| activity.close.notify_one());
            peer.open() + peer.closing
        };
        self.peers.values().map(open).sum()
    }

    fn warn_full(&mut self, max: usize, max_per_peer: usize) {
        let now = Instant::now();
        if self.warned.is_none_or(|at| now.duration_since(at) >= WARN_INTERVAL) {
            self.warned = Some(now);
            tracing::warn!(
                open = self.open,
                max,
                max_per_peer,
                "no room for more connections: closing those without an authenticated request"
            );
        }
    }
}

impl PeerConnections {
    fn open(&self) -> usize {
        self.unauthenticated.len() + self.authenticated.len()
    }
}

impl PeerKey {
    fn of(peer: Peer) -> Self {
        const SUBSCRIBER: u128 = !0 << 64;
        match peer.ip() {
            Some(IpAddr::V6(ip)) => Self::Ip(Ipv6Addr::from_bits(ip.to_bits() & SUBSCRIBER).into()),
            Some(ip) => Self::Ip(ip),
            None => Self::Unix,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(connections: u32, per_peer: Option<u32>) -> Arc<Connections> {
        let limits = Limits { connections, connections_per_peer: per_peer, ..Limits::default() };
        Connections::new(limits, 1_000_000)
    }

    fn peer(text: &str) -> Peer {
        Peer::Tcp(text.parse().unwrap())
    }

    fn free(room: Admission) -> Admitted {
        match room {
            Admission::Free(admitted) => admitted,
            Admission::Closing => panic!("another connection is closing"),
            Admission::None => panic!("no room"),
        }
    }

    fn is_closing(admitted: &Admitted) -> bool {
        futures::FutureExt::now_or_never(admitted.activity.close.notified()).is_some()
    }

    #[test]
    fn oldest_connection_without_authentication_is_closed_first() {
        let table = table(4, Some(4));
        let here = peer("10.0.0.1:1");
        let all: Vec<_> = (0..4).map(|_| free(table.try_admit(here))).collect();
        all[0].connection.authenticated();
        let newest = free(table.try_admit(here));
        assert_eq!(all.iter().map(is_closing).collect::<Vec<_>>(), [false, true, false, false]);
        assert!(matches!(table.try_admit(here), Admission::Closing), "descriptors are still in use");
        drop((all, newest));
        free(table.try_admit(here));
        assert!(table.table().peers.is_empty(), "no entry is left of a peer without connections");
    }

    #[test]
    fn authenticated_connections_are_closed_last_and_only_idle() {
        let table = table(3, Some(3));
        let here = peer("10.0.0.1:1");
        let mut all: Vec<_> = (0..3).map(|_| free(table.try_admit(here))).collect();
        all.iter().for_each(|admitted| admitted.connection.authenticated());
        let busy: Vec<_> = [0, 2].map(|index: usize| all[index].activity.answers.begin()).into();
        let newest = free(table.try_admit(here));
        assert_eq!(all.iter().map(is_closing).collect::<Vec<_>>(), [false, true, false]);
        newest.connection.authenticated();
        let busy_too = newest.activity.answers.begin();
        drop(all.remove(1));
        assert!(matches!(table.try_admit(here), Admission::None), "the others are in use");
        drop((busy, busy_too));
    }

    #[test]
    fn one_peer_does_not_displace_connections_of_others() {
        let table = table(8, Some(6));
        let victim = free(table.try_admit(peer("[2001:db8:0:1::5]:1")));
        let mut crowd: Vec<_> =
            (0..6).map(|n| free(table.try_admit(peer(&format!("[2001:db8:0:2::{n}]:1"))))).collect();
        crowd.push(free(table.try_admit(peer("[2001:db8:0:2::99]:1"))));
        assert!(is_closing(&crowd[0]), "one /64 is one peer");
        drop(crowd.remove(0));
        let other = free(table.try_admit(peer("10.0.0.1:1")));
        let another = free(table.try_admit(peer("10.0.0.2:1")));
        assert_eq!([&victim, &other, &another].map(is_closing), [false; 3]);
        let closing = crowd.iter().filter(|admitted| is_closing(admitted)).count();
        assert_eq!(closing, 1, "no other was closed");
    }

    #[test]
    fn descriptors_bound_connections() {
        let table = Connections::new(Limits::default(), 1024);
        assert_eq!((table.max, table.max_per_peer), (416, 208));
        let table = Connections::new(Limits::default(), 1_000_000);
        assert_eq!((table.max, table.max_per_peer), (4096, 2048));
    }

    #[tokio::test]
    async fn admission_waits_for_closing_connections() {
        let table = table(8, Some(1));
        let here = peer("10.0.0.1:1");
        let first = table.admit(here).await.unwrap();
        let _second = table.admit(here).await.unwrap();
        let third = tokio::spawn({
            let table = Arc::clone(&table);
            async move { table.admit(here).await.is_some() }
        });
        first.activity.close.notified().await;
        tokio::task::yield_now().await;
        assert!(!third.is_finished());
        drop(first);
        assert!(third.await.unwrap());
    }
}
