//! Another user of this machine, who listens where one of our programs is expected.
//!
//! A thread changes the user of the files and sockets that it creates, which only root may do. The kernel shows these sockets
//! as that user's, as it does for a process of that user.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use nix::unistd::{Uid, geteuid, setfsuid};

/// The other user: `nobody` on Debian and Fedora.
pub const OTHER_UID: u32 = 65534;

/// Whether this process may act as another user.
pub fn may_act_as_other_user() -> bool {
    let root = geteuid().is_root();
    if !root {
        eprintln!("skipped: only root can act as another user");
    }
    root
}

/// Sends a GET as a program of another user; returns what it receives. Requires [`may_act_as_other_user`].
pub fn get_as_other_user(address: SocketAddr, target: &str) -> String {
    let target = target.to_owned();
    let requesting = std::thread::spawn(move || {
        // Changes this thread alone.
        setfsuid(Uid::from_raw(OTHER_UID));
        let mut stream = TcpStream::connect(address).expect("a connection");
        let mut received = String::new();
        let sent = write!(stream, "GET {target} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
        // The other end may have closed it already.
        let _ = sent.and_then(|()| stream.read_to_string(&mut received));
        received
    });
    requesting.join().expect("no panic")
}

/// A program of another user that answers every request with status 200 and records what it receives.
pub struct Squatter {
    address: SocketAddr,
    received: Arc<Mutex<Vec<u8>>>,
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Squatter {
    /// Listens at `address` and answers with the JSON `body`. Requires [`may_act_as_other_user`].
    pub fn start(address: &str, body: &'static str) -> Self {
        let (address, ended) = (address.to_owned(), Arc::new(AtomicBool::new(false)));
        let received = Arc::new(Mutex::new(Vec::new()));
        let (sender, bound) = std::sync::mpsc::channel();
        let (kept, end) = (Arc::clone(&received), Arc::clone(&ended));
        let thread = std::thread::spawn(move || {
            // Changes this thread alone.
            setfsuid(Uid::from_raw(OTHER_UID));
            let listener = TcpListener::bind(&address).expect("the address");
            sender.send(listener.local_addr().expect("the address")).expect("the test");
            for stream in listener.incoming() {
                if end.load(Ordering::Acquire) {
                    return;
                }
                let _ = answer(&mut stream.expect("a connection"), &kept, body);
            }
        });
        let address = bound.recv().expect("the address");
        Self { address, received, ended, thread: Some(thread) }
    }

    /// The address that it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its base URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// All bytes that it received.
    pub fn received(&self) -> String {
        String::from_utf8_lossy(&self.received.lock().expect("not poisoned")).into_owned()
    }
}

fn answer(stream: &mut TcpStream, received: &Mutex<Vec<u8>>, body: &str) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_millis(200)))?;
    let mut buffer = [0; 16 << 10];
    loop {
        let count = stream.read(&mut buffer)?;
        if count == 0 {
            return Ok(());
        }
        let mut received = received.lock().expect("not poisoned");
        received.extend_from_slice(&buffer[..count]);
        if received.ends_with(b"\r\n\r\n") || received.ends_with(b"}") {
            break;
        }
    }
    let length = body.len();
    write!(
        stream,
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}"
    )
}

impl Drop for Squatter {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Release);
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
