//! The owner of the other end of a loopback connection, and of the sockets that listen on a port, as Linux reports them: one
//! at once, all of them in `/proc/net/tcp`. On other systems each lookup is [`io::ErrorKind::Unsupported`].

#[cfg(target_os = "linux")]
mod lookup;

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

/// Whether this system reports which user holds a connection.
pub const OWNERS_ARE_REPORTED: bool = cfg!(target_os = "linux");

/// A socket of this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Socket {
    /// Its own address; an IPv4 address of an IPv6 socket is IPv4.
    pub local: SocketAddr,
    remote: SocketAddr,
    state: u8,
    /// The user whose process made it.
    pub uid: u32,
    /// Zero until a process has accepted the connection.
    inode: u64,
}

/// States of a socket (`include/net/tcp_states.h`).
const ESTABLISHED: u8 = 0x01;
const LISTEN: u8 = 0x0A;

/// The owner of the other end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PeerOwner {
    /// A process of this user.
    User(u32),
    /// Not known, as no process has accepted the connection yet: until then the kernel shows no owner, or root.
    NotAccepted,
    /// No socket of this machine's network is the other end.
    NotHere,
}

/// The owner of the other end of an established connection from `local` to `remote`, in microseconds. `None` where the kernel
/// does not find it by its addresses; then [`peer_owner_listed`] decides.
#[cfg(target_os = "linux")]
pub fn peer_owner(local: SocketAddr, remote: SocketAddr) -> Option<PeerOwner> {
    let found = lookup::find(canonical(remote), canonical(local)).ok()??;
    match owner_among(&[found], local, remote) {
        PeerOwner::NotHere => None,
        owner => Some(owner),
    }
}

/// Not known on this system.
#[cfg(not(target_os = "linux"))]
pub fn peer_owner(_: SocketAddr, _: SocketAddr) -> Option<PeerOwner> {
    None
}

/// As [`peer_owner`], from the list of all sockets, which takes the kernel milliseconds and more to write.
///
/// # Errors
/// When the system does not list its sockets.
pub fn peer_owner_listed(local: SocketAddr, remote: SocketAddr) -> io::Result<PeerOwner> {
    Ok(owner_among(&sockets()?, local, remote))
}

fn owner_among(sockets: &[Socket], local: SocketAddr, remote: SocketAddr) -> PeerOwner {
    let (local, remote) = (canonical(local), canonical(remote));
    let mirrored = |socket: &&Socket| socket.local == remote && socket.remote == local;
    match sockets.iter().filter(mirrored).find(|socket| socket.state == ESTABLISHED) {
        Some(socket) if socket.inode == 0 => PeerOwner::NotAccepted,
        Some(socket) => PeerOwner::User(socket.uid),
        None => PeerOwner::NotHere,
    }
}

/// Every socket that listens on a port, whatever its address.
///
/// # Errors
/// When the system does not list its sockets.
pub fn listeners(port: u16) -> io::Result<Vec<Socket>> {
    let mut sockets = sockets()?;
    sockets.retain(|socket| socket.state == LISTEN && socket.local.port() == port);
    Ok(sockets)
}

impl Socket {
    /// Whether a connection to `address` could reach this listening socket: it has that address, or any.
    pub fn serves(&self, address: IpAddr) -> bool {
        let own = self.local.ip();
        let any_v6 = own == IpAddr::V6(Ipv6Addr::UNSPECIFIED);
        own == address.to_canonical()
            || any_v6
            || (own == IpAddr::V4(Ipv4Addr::UNSPECIFIED) && address.is_ipv4())
    }

    /// The process that holds it, where this user may see that: its number and its program.
    pub fn process(&self) -> Option<(u32, String)> {
        let wanted = format!("socket:[{}]", self.inode);
        let processes = std::fs::read_dir("/proc").ok()?.flatten();
        let mut numbers = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        let pid = numbers.find(|pid| {
            let open = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
            open.filter_map(|fd| std::fs::read_link(fd.path()).ok())
                .any(|link| link.as_os_str() == wanted.as_str())
        })?;
        let program = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        Some((pid, program.trim().to_owned()))
    }
}

#[cfg(target_os = "linux")]
fn sockets() -> io::Result<Vec<Socket>> {
    let mut sockets = parse(&std::fs::read_to_string("/proc/thread-self/net/tcp")?);
    // Missing where IPv6 is switched off.
    match std::fs::read_to_string("/proc/thread-self/net/tcp6") {
        Ok(text) => sockets.extend(parse(&text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    Ok(sockets)
}

#[cfg(not(target_os = "linux"))]
fn sockets() -> io::Result<Vec<Socket>> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Skips lines that are no sockets, such as the heading.
fn parse(text: &str) -> Vec<Socket> {
    text.lines().filter_map(line).collect()
}

/// `sl local remote state queues timer retransmits uid timeout inode …`
fn line(line: &str) -> Option<Socket> {
    let mut fields = line.split_ascii_whitespace().skip(1);
    let (local, remote) = (address(fields.next()?)?, address(fields.next()?)?);
    let state = u8::from_str_radix(fields.next()?, 16).ok()?;
    let mut fields = fields.skip(3);
    let uid = fields.next()?.parse().ok()?;
    let inode = fields.nth(1)?.parse().ok()?;
    Some(Socket { local, remote, state, uid, inode })
}

/// `0100007F:0C80`: the address in words of four bytes, each in the machine's own order, and the port.
fn address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let mut bytes = Vec::with_capacity(16);
    for word in ip.as_bytes().chunks(8) {
        let word = u32::from_str_radix(std::str::from_utf8(word).ok()?, 16).ok()?;
        bytes.extend(word.to_ne_bytes());
    }
    let ip = match ip.len() {
        8 => IpAddr::from(<[u8; 4]>::try_from(bytes).ok()?),
        32 => IpAddr::from(<[u8; 16]>::try_from(bytes).ok()?),
        _ => return None,
    };
    Some(SocketAddr::new(ip.to_canonical(), port))
}

/// Without what an IPv6 socket puts around an IPv4 address, and without scope and flow.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

#[cfg(test)]
#[cfg(all(target_os = "linux", target_endian = "little"))]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use proptest::prelude::*;

    use super::*;
    use crate::own_uid;

    const TCP: &str = "\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:0C80 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1001        0 39391 1 0000 100 0 0 10 0
   1: 0100007F:0C80 0100007F:AB90 01 00000000:00000000 00:00000000 00000000     0        0 0 1 0000 20 4 30 10 -1
   2: 0100007F:0C80 0100007F:AB91 01 00000000:00000000 00:00000000 00000000  1001        0 39553 1 0000 20 4 30 10 -1
   3: 0100007F:AB91 0100007F:0C80 01 00000000:00000000 00:00000000 00000000  1000        0 38333 1 0000 20 4 30 10 -1
   4: 0100007F:0C80 0100007F:AB92 08 00000000:00000000 00:00000000 00000000  1000        0 39554 1 0000 20 4 30 10 -1
";
    const TCP6: &str = "\
  sl  local_address                         remote_address                        st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000000000000000000000000000:0C80 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000  1002        0 40001 1
   1: 0000000000000000FFFF00000100007F:0C80 0000000000000000FFFF00000100007F:AB93 01 00000000:00000000 00:00000000 00000000  1002        0 40002 1
   2: 00000000000000000000000001000000:0C80 00000000000000000000000001000000:AB94 01 00000000:00000000 00:00000000 00000000  1003        0 40003 1
";

    fn owner(local: &str, remote: &str) -> PeerOwner {
        let sockets: Vec<_> = [parse(TCP), parse(TCP6)].concat();
        owner_among(&sockets, local.parse().unwrap(), remote.parse().unwrap())
    }

    #[test]
    fn the_other_end_is_found_by_both_addresses() {
        assert_eq!(owner("127.0.0.1:43921", "127.0.0.1:3200"), PeerOwner::User(1001));
        assert_eq!(owner("127.0.0.1:3200", "127.0.0.1:43921"), PeerOwner::User(1000));
        assert_eq!(owner("[::ffff:127.0.0.1]:43921", "[::ffff:127.0.0.1]:3200"), PeerOwner::User(1001));
        assert_eq!(owner("127.0.0.1:43923", "127.0.0.1:3200"), PeerOwner::User(1002), "an IPv6 socket");
        assert_eq!(owner("[::1]:43924", "[::1]:3200"), PeerOwner::User(1003));
    }

    #[test]
    fn unaccepted_connection_is_not_attributed_to_root() {
        assert_eq!(owner("127.0.0.1:43920", "127.0.0.1:3200"), PeerOwner::NotAccepted);
        assert_eq!(owner("127.0.0.1:1", "127.0.0.1:3200"), PeerOwner::NotHere);
        assert_eq!(owner("127.0.0.1:43922", "127.0.0.1:3200"), PeerOwner::NotHere, "it was closed");
    }

    #[test]
    fn listeners_of_any_address_are_found() {
        let sockets: Vec<_> = [parse(TCP), parse(TCP6)].concat();
        let listening: Vec<_> = sockets.iter().filter(|socket| socket.state == LISTEN).collect();
        let found: Vec<_> = listening.iter().map(|socket| (socket.local.to_string(), socket.uid)).collect();
        assert_eq!(found, [("127.0.0.1:3200".to_owned(), 1001), ("[::]:3200".to_owned(), 1002)]);
        let serves = |at: usize, ip: &str| listening[at].serves(ip.parse().unwrap());
        assert!(serves(0, "127.0.0.1") && !serves(0, "::1") && !serves(0, "127.0.0.2"));
        assert!(serves(1, "127.0.0.1") && serves(1, "::1"));
    }

    #[test]
    fn real_connection_belongs_to_this_user_once_accepted() {
        for (listen, connect) in [
            ("127.0.0.1:0", "127.0.0.1"),
            ("0.0.0.0:0", "127.0.0.1"),
            ("[::]:0", "127.0.0.1"),
            ("[::1]:0", "::1"),
        ] {
            // A machine may have no IPv6.
            let Ok(listener) = TcpListener::bind(listen) else { continue };
            let port = listener.local_addr().unwrap().port();
            let client = TcpStream::connect((connect, port)).unwrap();
            let (own, peer) = (client.local_addr().unwrap(), client.peer_addr().unwrap());
            let both = || (peer_owner(own, peer).unwrap(), peer_owner_listed(own, peer).unwrap());
            assert_eq!(both(), (PeerOwner::NotAccepted, PeerOwner::NotAccepted), "{listen}");
            let accepted = listener.accept().unwrap();
            let user = PeerOwner::User(own_uid());
            assert_eq!(both(), (user, user), "{listen}");
            let listening = listeners(port).unwrap();
            assert_eq!(listening.len(), 1, "{listen}");
            assert_eq!(listening[0].process().unwrap().0, std::process::id());
            // What listens there is not the other end.
            drop(accepted);
            assert_eq!(peer_owner(own, peer), None, "{listen}");
        }
    }

    proptest! {
        #[test]
        fn no_text_breaks_the_reader(text in "\\PC{0,200}", hex in "[0-9A-F: ]{0,120}") {
            parse(&text);
            parse(&hex);
        }

        #[test]
        fn addresses_read_as_the_kernel_writes_them(ip: [u8; 4], port: u16) {
            let text = format!("{:08X}:{port:04X}", u32::from_ne_bytes(ip));
            prop_assert_eq!(address(&text), Some(SocketAddr::new(ip.into(), port)));
        }
    }
}
