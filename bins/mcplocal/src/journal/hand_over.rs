//! Hands the journal over to mcpd, as the user who is signed in there: in batches, each line once, from where the last batch
//! ended. Without a signed-in user, and while mcpd does not answer, the lines wait in the journal.
//!
//! Lines go to the mcpd whose answers they record. Where the configuration names another one, those that are left are not sent
//! to it; a line `lost` has their numbers.

use std::{sync::Arc, time::Duration};

use mcpctl_api::credential;
use mcpctl_client::{Client, ClientError, ClientOptions, config as contexts};
use mcpctl_journal::{ChainHead, Link, MAX_LINE_BYTES, Position, StoredLines};
use reqwest::StatusCode;
use secrecy::SecretString;

use super::JournalError;
use crate::{app::App, config::Config};

/// How long lines wait for more of them, so that a busy agent sends few requests.
const COLLECT_TIME: Duration = Duration::from_secs(1);
/// How often it is tried again while mcpd does not answer; the wait grows up to this.
const MAX_RETRY_INTERVAL: Duration = Duration::from_secs(5);
/// How often it is tried again while the account is beyond a limit of mcpd's.
const LIMITED_RETRY_INTERVAL: Duration = Duration::from_secs(60);
/// How often a context is looked at for a signed-in user while lines wait for one.
const SIGN_IN_POLL_INTERVAL: Duration = Duration::from_secs(5);
/// The code of mcpd's error where lines before those of a batch are missing.
const GAP: &str = "journal_gap";
/// The code of mcpd's error where the account is beyond a limit.
const LIMITED: &str = "too_much_journal";
/// Maximum of lines without a place in a batch. Further ones are not sent; `mcpctl local journal verify` shows all.
const MAX_UNREADABLE: usize = 100;
/// Maximum of lines of a batch; mcpd takes as many.
const MAX_LINES: usize = 500;
/// Maximum of bytes of a batch, below what mcpd takes.
const MAX_BATCH_BYTES: usize = 1 << 20;

/// Why lines wait.
#[derive(Debug, thiserror::Error)]
enum Waiting {
    /// There is no user whose bearer could be sent.
    #[error("no user is signed in at mcpd")]
    SignedOut,
    /// mcpd does not know the user's credential.
    #[error("mcpd refuses the credential of `{0}`: sign in anew with `mcpctl login`")]
    Credential(String),
    /// The journal cannot be read or written.
    #[error("the journal: {0}")]
    Journal(#[from] JournalError),
    /// Its files cannot be read.
    #[error("the journal: {0}")]
    Files(#[from] std::io::Error),
    /// mcpd does not accept them.
    #[error("{0}")]
    Client(#[from] ClientError),
    /// It acknowledged other lines than those that were sent.
    #[error("mcpd acknowledged line {0}, which is not the last one that was sent")]
    Acknowledged(u64),
}

/// Lines of the journal, in their order.
#[derive(Debug, Default)]
struct Batch {
    body: Vec<u8>,
    lines: usize,
    /// The last line that has a place.
    last: Option<ChainHead>,
    /// Where the journal goes on after it.
    position: Option<Position>,
}

/// Hands lines over until the agent ends.
pub async fn follow(app: Arc<App>) {
    let mut written = app.journal.written();
    let mut handover = HandOver { app: &app, position: None };
    let mut failures = 0_u32;
    loop {
        let drained = handover.drain().await;
        app.journal.waits_for(drained.as_ref().err().map(ToString::to_string));
        let waited = match drained {
            Ok(()) => {
                if failures > 0 {
                    tracing::info!("the journal is handed over to mcpd again");
                }
                failures = 0;
                if written.changed().await.is_err() {
                    return;
                }
                COLLECT_TIME
            }
            Err(Waiting::SignedOut) => SIGN_IN_POLL_INTERVAL,
            Err(error) => {
                // Once: mcpd may be away for days, and the journal keeps the lines.
                if failures == 0 {
                    tracing::warn!(%error, "the journal cannot be handed over to mcpd; its lines wait");
                }
                failures = failures.saturating_add(1);
                if error.is_limit() { LIMITED_RETRY_INTERVAL } else { backoff(failures) }
            }
        };
        tokio::time::sleep(waited).await;
    }
}

fn backoff(failures: u32) -> Duration {
    Duration::from_secs(1_u64 << failures.min(6)).min(MAX_RETRY_INTERVAL)
}

impl Waiting {
    /// Whether the account is beyond a limit, so that trying again soon does not help.
    fn is_limit(&self) -> bool {
        matches!(self, Self::Client(error) if error.code() == Some(LIMITED))
    }
}

struct HandOver<'a> {
    app: &'a App,
    /// Where the lines begin that mcpd does not have.
    position: Option<Position>,
}

impl HandOver<'_> {
    /// Sends batch after batch until mcpd has every line that is on the disk.
    async fn drain(&mut self) -> Result<(), Waiting> {
        let journal = &self.app.journal;
        let config = self.app.runtime.load().config.clone();
        journal.assign(&config.server)?;
        // What a loss of power could take is not sent: mcpd would have lines that the journal has not.
        let durable = journal.sync_all().await?;
        if journal.handed_over()? >= durable {
            return Ok(());
        }
        let (client, user) = self.client(&config)?;
        let mut rewound = false;
        let mut gap = false;
        loop {
            let batch = self.next_batch(durable)?;
            let Some(last) = batch.last.filter(|_| batch.lines > 0) else { return Ok(()) };
            match client.hand_over_journal(&self.app.agent_id, batch.body, gap).await {
                Ok(receipt) => {
                    if (receipt.seq, receipt.hash) != (last.seq, last.hash.to_string()) {
                        return Err(Waiting::Acknowledged(receipt.seq));
                    }
                    journal.mark_handed_over(last.seq)?;
                    self.position = batch.position;
                    gap = false;
                }
                Err(error) if error.code() == Some(GAP) && !gap => {
                    // mcpd lost lines, or never had them. What the journal still has of them is sent again.
                    let known = client.journal_head(&self.app.agent_id).await?.seq;
                    gap = rewound || known >= journal.handed_over()?;
                    if !gap {
                        journal.mark_handed_over(known)?;
                        self.position = None;
                        rewound = true;
                    }
                }
                Err(ClientError::Refused { status, .. }) if status == StatusCode::UNAUTHORIZED => {
                    return Err(Waiting::Credential(user));
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// A client with the bearer of the signed-in user, who may have changed since the last batch, and the user's name.
    fn client(&self, config: &Config) -> Result<(Client, String), Waiting> {
        let contexts =
            contexts::Config::load(self.app.identity.contexts()).map_err(|_| Waiting::SignedOut)?;
        let context = contexts.signed_in_at(&config.server).ok_or(Waiting::SignedOut)?;
        let token = context.token.as_ref();
        let token =
            token.filter(|token| credential::check(token.expose()).is_ok()).ok_or(Waiting::SignedOut)?;
        let options = ClientOptions { trust: config.trust.clone(), ..ClientOptions::default() };
        let client = Client::new(config.server.clone(), Some(SecretString::from(token.expose())), &options)?;
        Ok((client, context.user.clone().unwrap_or_default()))
    }

    /// The next lines that mcpd does not have, up to the last one that is on the disk.
    fn next_batch(&self, durable: u64) -> Result<Batch, Waiting> {
        let journal = &self.app.journal;
        let handed_over = journal.handed_over()?;
        let mut lines = StoredLines::open(journal.paths(), self.position)?;
        let mut batch = Batch { position: self.position, ..Batch::default() };
        let mut unreadable = 0;
        while let Some(line) = lines.next_line()? {
            let link = Link::of(&line.bytes);
            let seq = link.map_or(0, |link| link.seq);
            if seq > durable {
                break;
            }
            unreadable += usize::from(link.is_none());
            let known = batch.lines == 0 && (1..=handed_over).contains(&seq);
            let skipped = known || (link.is_none() && unreadable > MAX_UNREADABLE);
            if !skipped {
                let bytes = line.bytes.get(..MAX_LINE_BYTES).unwrap_or(&line.bytes);
                let full = batch.lines >= MAX_LINES || batch.body.len() + bytes.len() > MAX_BATCH_BYTES;
                // A batch ends with a line that has a place, by which it is acknowledged.
                if full && batch.last.is_some() {
                    break;
                }
                batch.body.extend_from_slice(bytes);
                batch.body.push(b'\n');
                batch.lines += 1;
            }
            if link.is_some() && !skipped {
                batch.last = Some(ChainHead { seq, hash: mcpctl_journal::LineHash::of(&line.bytes) });
            }
            batch.position = lines.position();
        }
        Ok(batch)
    }
}
