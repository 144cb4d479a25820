//! One socket, asked of the kernel by its two addresses (`sock_diag(7)`): microseconds, where its tables in `/proc` take
//! milliseconds, as it walks every slot of its hash table for them.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    os::fd::{AsRawFd as _, OwnedFd},
};

use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recvfrom, sendto, socket,
};

use super::Socket;

/// `SOCK_DIAG_BY_FAMILY` (`linux/sock_diag.h`), the type of the question and of its answer.
const BY_FAMILY: u16 = 20;
/// `NLM_F_REQUEST` (`linux/netlink.h`).
const REQUEST: u16 = 1;
/// `struct nlmsghdr` and `struct inet_diag_req_v2`.
const QUESTION_BYTES: u32 = 16 + 56;
/// The families (`linux/socket.h`) and the protocol (`linux/in.h`) of a question.
const INET: u8 = 2;
const INET6: u8 = 10;
const TCP: u8 = 6;
/// More than an answer without attributes has.
const MAX_ANSWER_BYTES: usize = 512;

/// The socket with these addresses, or one that listens on `local`. `None` where there is none, and where the kernel was built
/// without this question, which looks the same.
///
/// # Errors
/// When the process may not ask.
pub(super) fn find(local: SocketAddr, remote: SocketAddr) -> io::Result<Option<Socket>> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let kernel = socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkSockDiag)?;
    sendto(kernel.as_raw_fd(), &question(local, remote), &NetlinkAddr::new(0, 0), MsgFlags::empty())?;
    answer(&kernel)
}

/// The kernel has answered before the question's call returns.
fn answer(kernel: &OwnedFd) -> io::Result<Option<Socket>> {
    let mut bytes = [0; MAX_ANSWER_BYTES];
    let (length, sender) = recvfrom::<NetlinkAddr>(kernel.as_raw_fd(), &mut bytes)?;
    // The kernel's own number; every process has another one.
    let from_kernel = sender.is_some_and(|sender| sender.pid() == 0);
    Ok(bytes.get(..length).filter(|_| from_kernel).and_then(read))
}

fn question(local: SocketAddr, remote: SocketAddr) -> Vec<u8> {
    let mut question = Vec::with_capacity(MAX_ANSWER_BYTES);
    question.extend(QUESTION_BYTES.to_ne_bytes());
    question.extend(BY_FAMILY.to_ne_bytes());
    question.extend(REQUEST.to_ne_bytes());
    // Sequence and sender: there is one question, and the kernel knows whose.
    question.extend([0; 8]);
    question.extend([if local.is_ipv4() { INET } else { INET6 }, TCP, 0, 0]);
    // Every state.
    question.extend(u32::MAX.to_ne_bytes());
    question.extend(local.port().to_be_bytes());
    question.extend(remote.port().to_be_bytes());
    question.extend(words(local.ip()));
    question.extend(words(remote.ip()));
    // Any interface, any cookie.
    question.extend(0_u32.to_ne_bytes());
    question.extend([u8::MAX; 8]);
    question
}

/// An address as the kernel writes both families: in 16 bytes.
fn words(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V6(address) => address.octets(),
        IpAddr::V4(address) => {
            let [a, b, c, d] = address.octets();
            [a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
        }
    }
}

/// Reads `struct nlmsghdr` and `struct inet_diag_msg`.
fn read(mut bytes: &[u8]) -> Option<Socket> {
    let rest = &mut bytes;
    take::<4>(rest)?;
    if u16::from_ne_bytes(take(rest)?) != BY_FAMILY {
        return None;
    }
    take::<10>(rest)?;
    let [family, state, _timer, _retransmits] = take(rest)?;
    let local_port = u16::from_be_bytes(take(rest)?);
    let remote_port = u16::from_be_bytes(take(rest)?);
    let local = SocketAddr::new(address(family, take(rest)?)?, local_port);
    let remote = SocketAddr::new(address(family, take(rest)?)?, remote_port);
    // Interface, cookie, expiry and queues.
    take::<24>(rest)?;
    let uid = u32::from_ne_bytes(take(rest)?);
    let inode = u32::from_ne_bytes(take(rest)?).into();
    Some(Socket { local, remote, state, uid, inode })
}

fn address(family: u8, words: [u8; 16]) -> Option<IpAddr> {
    let [a, b, c, d, ..] = words;
    match family {
        INET => Some(IpAddr::from([a, b, c, d])),
        INET6 => Some(IpAddr::from(words).to_canonical()),
        _ => None,
    }
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(*taken)
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn socket_is_the_one_with_both_addresses() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (local, remote) = (client.local_addr().unwrap(), client.peer_addr().unwrap());
        let found = find(local, remote).unwrap().unwrap();
        assert_eq!((found.local, found.remote), (local, remote));
        assert_ne!(found.inode, 0);
    }

    #[test]
    fn listening_socket_is_not_taken_for_a_connection() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let local = listener.local_addr().unwrap();
        let found = find(local, "127.0.0.1:1".parse().unwrap()).unwrap().unwrap();
        assert_eq!((found.local, found.remote.port()), (local, 0));
        drop(listener);
        assert_eq!(find(local, "127.0.0.1:1".parse().unwrap()).unwrap(), None);
    }

    proptest! {
        #[test]
        fn no_answer_breaks_the_reader(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            read(&bytes);
        }
    }
}
