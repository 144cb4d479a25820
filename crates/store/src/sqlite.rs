//! SQLite: one file, one writer at a time, two durabilities. A transaction that survives a power cut waits for the disk itself.
//! Others return once the write-ahead log is written, and a task has it written to the disk a few milliseconds later, for all of
//! that time together. The same task moves the log into the database, so that no transaction ever does.

use std::{
    fs::{File, Metadata, OpenOptions},
    io,
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    pin::pin,
    sync::Arc,
    time::Duration,
};

use mcpctl_owner::file;
use sqlx::{
    Sqlite, SqliteConnection, SqlitePool,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};
use tokio::{
    sync::{Semaphore, mpsc},
    time::{sleep, timeout},
};

use crate::{
    connection::{ACQUIRE_TIMEOUT, Connection},
    durability::Durability,
    error::StoreError,
};

/// How long the disk may lack an acknowledged record, besides the time that it takes itself.
const SYNC_DELAY: Duration = Duration::from_millis(5);
/// Size of the write-ahead log from which it is moved into the database. Its file keeps this size when the log begins anew, so that
/// most writes go to places that the disk has already.
const LONG_LOG_BYTES: u32 = 8 << 20;
/// As many frames: pages of 4 KiB, each with its header.
const LONG_LOG_FRAMES: u32 = LONG_LOG_BYTES / (4096 + 24);
/// Size of the write-ahead log from which transactions wait for the disk, so that one that is slower than they are cannot let it grow on.
const MAX_LOG_BYTES: u64 = 32 << 20;
/// How long writes wait at once for the disk. Well below [`ACQUIRE_TIMEOUT`], after which they fail.
const MAX_TURN: Duration = Duration::from_secs(1);
/// Rows that a connection reads before they are taken: each time that none is left costs two switches of threads.
const ROWS_AHEAD: usize = 512;
/// Connections for reading.
const READERS: u32 = 4;
/// Instructions of SQLite's machine until it is asked again whether a query is still waited for: less than a millisecond.
const INTERRUPT_STEPS: i32 = 10_000;

/// A file and the connections to it.
pub(crate) struct SqliteDatabase {
    /// Its transactions survive a power cut.
    strict: SqlitePool,
    /// Its transactions survive the death of the process.
    relaxed: SqlitePool,
    read: SqlitePool,
    /// Moves the log into the database.
    checkpoints: SqlitePool,
    file: DatabaseFile,
    /// The turn to write: its queue is fairer than the file's lock.
    turn: Arc<Semaphore>,
    /// Wakes the task that syncs the log; it ends with this sender.
    written: mpsc::Sender<()>,
    log: PathBuf,
}

impl SqliteDatabase {
    pub(crate) async fn open(path: &Path) -> Result<Self, String> {
        // Created here and not by SQLite, so that other users can never read it, not even for a moment.
        let made = OpenOptions::new().create(true).append(true).mode(0o600).open(path);
        let file = made.and_then(|made| DatabaseFile::of(path, &made)).map_err(|error| error.to_string())?;
        let options = SqliteConnectOptions::new()
            .filename(path)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            // The task does it.
            .pragma("wal_autocheckpoint", "0")
            .pragma("journal_size_limit", LONG_LOG_BYTES.to_string())
            .busy_timeout(ACQUIRE_TIMEOUT)
            .row_buffer_size(ROWS_AHEAD);
        let strict = connect(1, options.clone()).await?;
        // In WAL mode, `NORMAL` leaves the sync of a commit out. The sync of a later strict one covers it: they share the log.
        let relaxed = connect(1, options.clone().synchronous(SqliteSynchronous::Normal)).await?;
        let checkpoints = connect(1, options.clone()).await?;
        let read = connect(READERS, options.read_only(true)).await?;
        let (written, writes) = mpsc::channel(1);
        let turn = Arc::new(Semaphore::new(1));
        let log = file::beside(path, "-wal");
        let synced =
            WriteAheadLog { path: log.clone(), checkpoints: checkpoints.clone(), turn: Arc::clone(&turn) };
        tokio::spawn(synced.keep_synced(writes));
        let database = Self { strict, relaxed, read, checkpoints, file, turn, written, log };
        // What a killed process had written may not be on the disk yet.
        database.note_write();
        Ok(database)
    }

    pub(crate) async fn reader(&self) -> Result<Connection<Sqlite>, StoreError> {
        self.file.check(Connection::acquire(&self.read).await)
    }

    /// The connection whose transactions have this durability, with the turn to write.
    pub(crate) async fn writer(&self, durability: Durability) -> Result<Connection<Sqlite>, StoreError> {
        let turn = timeout(ACQUIRE_TIMEOUT, Arc::clone(&self.turn).acquire_owned());
        let turn = turn.await.map_err(|_| sqlx::Error::PoolTimedOut)?.map_err(|_| sqlx::Error::PoolClosed)?;
        let pool = match durability {
            Durability::PowerCut => &self.strict,
            Durability::Crash => &self.relaxed,
        };
        Ok(self.file.check(Connection::acquire(pool).await)?.holding(turn))
    }

    /// The one connection that migrates the schema.
    pub(crate) const fn owner(&self) -> &SqlitePool {
        &self.strict
    }

    /// Wakes the task that syncs the log. Call it after each commit.
    pub(crate) fn note_write(&self) {
        // A full queue has a wake-up that is not yet taken.
        let _ = self.written.try_send(());
    }

    /// Returns once everything that was committed is on the disk.
    pub(crate) async fn sync(&self) -> io::Result<()> {
        let log = self.log.clone();
        tokio::task::spawn_blocking(move || sync(&log)).await?.map(drop)
    }

    /// Closes every connection. SQLite moves the log into the database with the last one, unless another program has it open: from then
    /// on the file is all of it.
    pub(crate) async fn close(&self) {
        self.read.close().await;
        self.relaxed.close().await;
        self.strict.close().await;
        self.checkpoints.close().await;
    }
}

/// Ends what a connection computes once no one waits for it any more: dropping a query does not stop the thread that runs it.
pub(crate) struct Interrupt(Arc<()>);

impl Interrupt {
    /// Of a connection, until it is removed. Where it is dropped before, the connection can only be closed.
    pub(crate) async fn of(connection: &mut SqliteConnection) -> Result<Self, sqlx::Error> {
        let waiting = Arc::new(());
        let still = Arc::downgrade(&waiting);
        let mut handle = connection.lock_handle().await?;
        handle.set_progress_handler(INTERRUPT_STEPS, move || still.strong_count() > 0);
        Ok(Self(waiting))
    }

    pub(crate) async fn remove(self, connection: &mut SqliteConnection) -> Result<(), sqlx::Error> {
        connection.lock_handle().await?.remove_progress_handler();
        drop(self.0);
        Ok(())
    }
}

async fn connect(connections: u32, options: SqliteConnectOptions) -> Result<SqlitePool, String> {
    let pool = SqlitePoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        // They are threads of this process: none is lost on the way, and none ages.
        .test_before_acquire(false)
        .idle_timeout(None)
        .max_lifetime(None);
    pool.connect_with(options).await.map_err(|error| error.to_string())
}

/// The log that transactions are written to first.
struct WriteAheadLog {
    path: PathBuf,
    checkpoints: SqlitePool,
    turn: Arc<Semaphore>,
}

impl WriteAheadLog {
    /// Syncs the log soon after each write, until no one can write any more.
    async fn keep_synced(self, mut writes: mpsc::Receiver<()>) {
        let mut failed = false;
        while writes.recv().await.is_some() {
            sleep(SYNC_DELAY).await;
            // Once it is closed there is nothing to sync.
            let error = self.follow().await.err().filter(|error| !matches!(error, sqlx::Error::PoolClosed));
            if let Some(error) = &error
                && !failed
            {
                let error = error as &dyn std::error::Error;
                tracing::error!(error, "the database's log cannot be synced: a power cut may lose records");
            }
            failed = error.is_some();
        }
    }

    /// Syncs the log, and moves a long one into the database.
    async fn follow(&self) -> Result<(), sqlx::Error> {
        let path = self.path.clone();
        let synced = self.beside_writes(tokio::task::spawn_blocking(move || sync(&path))).await;
        // Its file may be as long, and the log in it short.
        if synced.map_err(io::Error::other).flatten()? >= u64::from(LONG_LOG_BYTES) && self.is_long().await? {
            self.checkpoint().await?;
        }
        Ok(())
    }

    async fn is_long(&self) -> Result<bool, sqlx::Error> {
        let mut connection = Connection::acquire(&self.checkpoints).await?;
        let (_, frames, moved): (i64, i64, i64) =
            sqlx::query_as("PRAGMA wal_checkpoint(NOOP)").fetch_one(&mut *connection).await?;
        connection.release();
        Ok(frames > moved && frames >= i64::from(LONG_LOG_FRAMES))
    }

    /// Moves the log into the database. Most of it while others write, and the rest in a turn of its own, so that the next
    /// transaction begins the log anew.
    async fn checkpoint(&self) -> Result<(), sqlx::Error> {
        const STATEMENT: &str = "PRAGMA wal_checkpoint(PASSIVE)";
        let mut connection = Connection::acquire(&self.checkpoints).await?;
        self.beside_writes(sqlx::raw_sql(STATEMENT).execute(&mut *connection)).await?;
        let turn = self.turn.acquire().await.map_err(|_| sqlx::Error::PoolClosed)?;
        sqlx::raw_sql(STATEMENT).execute(&mut *connection).await?;
        drop(turn);
        connection.release();
        Ok(())
    }

    /// Waits for work of the disk while others write. Once the log has its maximum, they wait too, but no longer than a turn at
    /// once: a write that waits for its own turn gets one before its time is over.
    async fn beside_writes<T>(&self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        loop {
            if let Ok(done) = timeout(SYNC_DELAY, &mut work).await {
                return done;
            }
            if std::fs::metadata(&self.path).is_ok_and(|log| log.len() >= MAX_LOG_BYTES) {
                let _turn = self.turn.acquire().await;
                if let Ok(done) = timeout(MAX_TURN, &mut work).await {
                    return done;
                }
            }
        }
    }
}

/// Syncs the log and returns its size.
fn sync(path: &Path) -> io::Result<u64> {
    // SQLite's locks are on its other files: to close this one releases none.
    let log = match File::open(path) {
        Ok(log) => log,
        // The last connection was closed, and what was in it is in the database.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(error),
    };
    log.sync_data()?;
    Ok(log.metadata()?.len())
}

/// The identity of an SQLite file when it was opened. SQLite continues to read and write a file that was deleted or
/// replaced, and everything that it acknowledged is lost at the next start.
struct DatabaseFile {
    path: PathBuf,
    identity: (u64, u64),
}

impl DatabaseFile {
    fn of(path: &Path, file: &File) -> io::Result<Self> {
        Ok(Self { path: path.to_owned(), identity: identity(&file.metadata()?) })
    }

    /// The connection, after checking that the file is still at its path.
    fn check(
        &self,
        connection: Result<Connection<Sqlite>, sqlx::Error>,
    ) -> Result<Connection<Sqlite>, StoreError> {
        // Checked after the connection was made; if the check fails, the connection is closed.
        match std::fs::metadata(&self.path) {
            Ok(there) if identity(&there) == self.identity => Ok(connection?),
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(sqlx::Error::Io(error).into()),
            _ => Err(StoreError::FileMoved),
        }
    }
}

fn identity(file: &Metadata) -> (u64, u64) {
    (file.dev(), file.ino())
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use mcpctl_testkit::daemons::eventually;
    use tokio::sync::oneshot;

    use super::*;

    async fn database() -> (tempfile::TempDir, SqliteDatabase) {
        let dir = tempfile::tempdir().unwrap();
        let database = SqliteDatabase::open(&dir.path().join("mcpd.sqlite")).await.unwrap();
        (dir, database)
    }

    #[tokio::test]
    async fn only_strict_transactions_wait_for_the_disk() {
        const FULL: i64 = 2;
        const NORMAL: i64 = 1;
        let (_dir, database) = database().await;
        for (durability, expected) in [(Durability::PowerCut, FULL), (Durability::Crash, NORMAL)] {
            let mut connection = database.writer(durability).await.unwrap();
            let mode: i64 =
                sqlx::query_scalar("PRAGMA synchronous").fetch_one(&mut *connection).await.unwrap();
            assert_eq!(mode, expected, "{durability:?}");
            connection.release();
        }
    }

    async fn write(database: &SqliteDatabase, statement: &'static str) {
        let mut connection = database.writer(Durability::Crash).await.unwrap();
        sqlx::raw_sql(statement).execute(&mut *connection).await.unwrap();
        connection.release();
        database.note_write();
    }

    const MEBIBYTE: &str = "INSERT INTO t VALUES (randomblob(1 << 20))";

    #[tokio::test]
    async fn query_ends_once_no_one_waits_for_it() {
        const ENDLESS: &str =
            "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT COUNT(*) FROM n";
        let (_dir, database) = database().await;
        for _ in 0..2 * READERS {
            let mut connection = database.reader().await.unwrap();
            let _interrupt = Interrupt::of(&mut connection).await.unwrap();
            let query = sqlx::raw_sql(ENDLESS).execute(&mut *connection);
            timeout(SYNC_DELAY, query).await.unwrap_err();
        }
        // It waits for every thread of the pool.
        database.read.close().await;
    }

    #[tokio::test]
    async fn connection_is_used_again_without_its_interrupt() {
        let (_dir, database) = database().await;
        for _ in 0..2 * READERS {
            let mut connection = database.reader().await.unwrap();
            let interrupt = Interrupt::of(&mut connection).await.unwrap();
            interrupt.remove(&mut connection).await.unwrap();
            let numbers = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100000) SELECT COUNT(*) FROM n";
            let count: i64 = sqlx::query_scalar(numbers).fetch_one(&mut *connection).await.unwrap();
            assert_eq!(count, 100_000);
            connection.release();
        }
    }

    #[tokio::test]
    async fn log_begins_anew_once_it_is_long() {
        let (_dir, database) = database().await;
        write(&database, "CREATE TABLE t (b BLOB)").await;
        for _ in 0..24 {
            write(&database, MEBIBYTE).await;
        }
        eventually("the log is short", async || {
            write(&database, "INSERT INTO t VALUES (NULL)").await;
            (std::fs::metadata(&database.log).unwrap().len() <= u64::from(LONG_LOG_BYTES)).then_some(())
        })
        .await;
    }

    #[tokio::test]
    async fn writes_wait_for_a_slow_disk_once_the_log_has_its_maximum() {
        let (dir, database) = database().await;
        let (path, turn) = (dir.path().join("log"), Arc::new(Semaphore::new(1)));
        let file = File::create(&path).unwrap();
        let log = WriteAheadLog { path, checkpoints: database.strict.clone(), turn: Arc::clone(&turn) };
        let (end, disk) = oneshot::channel::<()>();
        let slow = tokio::spawn(async move { log.beside_writes(disk).await });
        file.set_len(MAX_LOG_BYTES - 1).unwrap();
        drop(turn.acquire().await.unwrap());
        file.set_len(MAX_LOG_BYTES).unwrap();
        eventually("writes wait", async || (turn.available_permits() == 0).then_some(())).await;
        end.send(()).unwrap();
        slow.await.unwrap().unwrap();
        assert_eq!(turn.available_permits(), 1, "they go on");
    }

    #[tokio::test(start_paused = true)]
    async fn disk_that_takes_long_delays_a_write_and_does_not_fail_it() {
        let dir = tempfile::tempdir().unwrap();
        let (path, turn) = (dir.path().join("log"), Arc::new(Semaphore::new(1)));
        File::create(&path).unwrap().set_len(MAX_LOG_BYTES).unwrap();
        let checkpoints = SqlitePoolOptions::new().connect_lazy("sqlite::memory:").unwrap();
        let log = WriteAheadLog { path, checkpoints, turn: Arc::clone(&turn) };
        let slow = tokio::spawn(async move { log.beside_writes(pending::<()>()).await });
        sleep(SYNC_DELAY * 2).await;
        assert_eq!(turn.available_permits(), 0);
        for _ in 0..3 {
            drop(timeout(ACQUIRE_TIMEOUT, turn.acquire()).await.expect("a turn").unwrap());
        }
        slow.abort();
    }
}
