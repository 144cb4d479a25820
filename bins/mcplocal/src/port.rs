//! The agent's TCP port beside other users of the machine, who can listen on any free port: before the agent does, or at
//! another loopback address of the same port. Clients that are not ours send the local key there.

use std::{collections::BTreeSet, net::SocketAddr, path::Path, time::Duration};

use mcpctl_client::agent_port::{foreign_holders, note_foreign};
use mcpctl_owner::{
    connection::{Socket, listeners},
    own_uid, user_name,
};
use mcpctl_server::{Address, BindError, Listener};
use tokio::time::MissedTickBehavior;

use crate::with_hint;

/// How often other users' programs on the port are looked for.
const POLL_INTERVAL: Duration = Duration::from_secs(30);

/// Listens on an address. If the port is taken, the error names the program that has it; if that is another user's, a note
/// makes the next start create a new local key.
pub async fn bind(address: Address, state_dir: &Path) -> anyhow::Result<Listener> {
    let wanted = address.clone();
    Listener::bind(address).await.map_err(|error| {
        let holder = match wanted {
            Address::Tcp(wanted) if error.is_in_use() => holder(wanted),
            Address::Tcp(_) | Address::Unix(_) => None,
        };
        match holder {
            Some(holder) => taken(&error, &holder, state_dir),
            None => with_hint(&error, Some(error.hint())),
        }
    })
}

/// The program that listens there: another user's before one of this user's.
fn holder(wanted: SocketAddr) -> Option<Socket> {
    let mut holders = listeners(wanted.port()).ok()?;
    holders.retain(|holder| holder.serves(wanted.ip()) || wanted.ip().is_unspecified());
    holders.into_iter().min_by_key(|holder| holder.uid == own_uid())
}

fn taken(error: &BindError, holder: &Socket, state_dir: &Path) -> anyhow::Error {
    if holder.uid == own_uid() {
        let program = match holder.process() {
            Some((pid, program)) => format!("your program `{program}` (pid {pid}) listens there"),
            None => "a program of yours listens there".to_owned(),
        };
        return with_hint(
            format!("{error}: {program}"),
            Some("end it, or choose another address with `listen`"),
        );
    }
    let message = format!("{error}: a program of user {} listens there", user_name(holder.uid));
    let noted = note_foreign(state_dir, holder.uid);
    let hint = match noted {
        Ok(()) => {
            "choose another address with `listen`; clients may have given that program the key of this machine, so \
             mcplocal makes a new one when it starts next"
        }
        Err(_) => "choose another address with `listen`, and run `mcpctl local rotate-key`",
    };
    with_hint(message, Some(hint))
}

/// Warns of other users' programs that listen on the agent's port at another address, once for each, as long as the
/// agent runs. The first check is done when this returns.
pub fn watch(address: &Address) {
    let Address::Tcp(own) = address else { return };
    let port = own.port();
    let mut known = BTreeSet::new();
    warn_of_new(port, &mut known);
    tokio::spawn(async move {
        let mut ticks = tokio::time::interval(POLL_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let looked = tokio::task::spawn_blocking(move || {
                warn_of_new(port, &mut known);
                known
            });
            let Ok(looked) = looked.await else { return };
            known = looked;
        }
    });
}

fn warn_of_new(port: u16, known: &mut BTreeSet<(SocketAddr, u32)>) {
    let now: BTreeSet<_> = foreign_holders(port).iter().map(|holder| (holder.local, holder.uid)).collect();
    for (address, uid) in now.difference(known) {
        let user = user_name(*uid);
        tracing::warn!(
            %address,
            %user,
            hint = "clients that call the agent `localhost` may have reached it: call it by its address, and run \
                    `mcpctl local rotate-key`",
            "another user's program listens on the agent's port"
        );
    }
    *known = now;
}
