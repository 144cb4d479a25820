//! `mcpd backup`: writes one state of the store into an encrypted file, beside the daemon or alone, and reads it back.

use std::{
    fs::File,
    io::{self, BufReader, BufWriter, IsTerminal as _, Read, Seek as _, Write as _},
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use bytesize::ByteSize;
use clap::Args;
use jiff::Timestamp;
use mcpctl_backup::{Header, Reader, Writer, is_backup};
use mcpctl_owner::file::beside;
use mcpctl_secret::{envelope::Keyring, master_key_file};
use mcpctl_store::{
    Location,
    transfer::{self, Batch, Source, Tally},
};
use mcpctl_telemetry::output;
use tokio::sync::mpsc::Receiver;

use super::{
    Amount, Keys, backup_error, blocking, file_error, interruptible, output_file::OutputFile,
    progress::Progress, transfer_error,
};
use crate::{
    DATABASE_SUFFIXES, clock,
    config::{Config, ServeArgs},
    print, with_hint,
};

/// The name that stands for standard input or output.
pub(super) const STANDARD: &str = "-";
/// How a file is called that has no name.
pub(super) const STANDARD_INPUT: &str = "standard input";

/// The arguments of `mcpd backup`.
#[derive(Args)]
pub struct BackupArgs {
    /// File to write, or `-` for standard output; an earlier backup of this name is replaced in the end
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Read this backup and check that it is whole, instead of writing one
    #[arg(long)]
    verify: bool,
    #[command(flatten)]
    serve: ServeArgs,
}

/// Runs the command.
///
/// # Errors
/// When the store cannot be read, the file cannot be written, or a backup is damaged.
pub async fn run(args: BackupArgs) -> anyhow::Result<()> {
    let config = args.serve.resolve()?;
    let keys = Keys::load(&config)?;
    if args.verify {
        let keys = keys.of_backup();
        let (header, tallies) = blocking(move || verify_named(&args.file, &keys)).await?;
        return print(&format!("{}: whole, {}", state(&header), amount(&tallies)));
    }
    let to_stdout = args.file == Path::new(STANDARD);
    if to_stdout && io::stdout().is_terminal() {
        return Err(with_hint(
            "a backup is not for a terminal",
            Some("name a file, or redirect standard output"),
        ));
    }
    let written = interruptible(async {
        let output = match &args.file {
            file if !to_stdout => {
                check_replaceable(file, &config)?;
                OutputFile::named(file)?
            }
            _ if config.data_dir.is_dir() => OutputFile::unnamed(&config.data_dir)?,
            // With PostgreSQL and a key elsewhere there need not be one.
            _ => OutputFile::unnamed(&std::env::temp_dir())?,
        };
        // Before the snapshot begins: what was changed later than this may be missing in it.
        let at = clock::now();
        let mut source = Source::open(&config.database).await.map_err(transfer_error)?;
        let keys = keys.of(&mut source).await?;
        source.check_key(&keys).await.map_err(transfer_error)?;
        write(source, output, keys, at).await
    });
    let written = written.await?;
    let bytes = ByteSize(written.output.reader()?.metadata()?.len());
    let summary =
        format!("{}: {}, {bytes}, read back and checked", state(&written.header), amount(&written.tallies));
    if to_stdout {
        let file = written.output.reader()?;
        interruptible(blocking(move || copy_to_stdout(file))).await?;
        output::note(summary);
        return Ok(());
    }
    written.output.publish()?;
    print(&format!("{}: {summary}", args.file.display()))
}

/// Fails for a file that a backup must not take the place of: one of the installation, or one that exists and is not a backup.
fn check_replaceable(file: &Path, config: &Config) -> anyhow::Result<()> {
    const HINT: Option<&str> = Some("name another file");
    let name = file.display();
    let key = &config.master_key_file;
    let mut own = vec![key.clone(), master_key_file::next(key)];
    if let Location::Sqlite(database) = &config.database {
        own.push(database.clone());
        own.extend(DATABASE_SUFFIXES.map(|suffix| beside(database, suffix)));
    }
    if own.iter().any(|own| is_same(own, file)) {
        return Err(with_hint(format!("`{name}` is a file of this mcpd"), HINT));
    }
    // Anything else than a file is refused where it is written.
    if file.metadata().is_ok_and(|there| there.is_file() && there.len() > 0) {
        let there = File::open(file).and_then(is_backup);
        if !there.map_err(|error| file_error(&name.to_string(), "read", &error))? {
            return Err(with_hint(format!("`{name}` exists and is not a backup"), HINT));
        }
    }
    Ok(())
}

/// Whether two paths are of one file, which need not be there.
fn is_same(one: &Path, other: &Path) -> bool {
    let place = |path: &Path| {
        let path = std::path::absolute(path).ok()?;
        Some((path.parent()?.canonicalize().ok()?, path.file_name()?.to_owned()))
    };
    one == other || place(one).is_some_and(|one| place(other) == Some(one))
}

/// A backup that was written and read back.
struct Written {
    output: OutputFile,
    header: Header,
    tallies: Vec<Tally>,
}

async fn write(
    mut source: Source,
    output: OutputFile,
    keys: Keyring,
    created_at: Timestamp,
) -> anyhow::Result<Written> {
    let layout = source.layout().clone();
    let header = Header { created_at, mcpd: env!("CARGO_PKG_VERSION").to_owned(), layout };
    let file = output.writer()?;
    let (rows, received) = transfer::channel();
    let begun = header.clone();
    let writing = blocking(move || {
        let writer = write_rows(file, &keys, begun, received).context("the backup cannot be written")?;
        Ok((writer, keys))
    });
    let (read, written) = tokio::join!(source.read(rows), writing);
    // Ends the snapshot.
    drop(source);
    // Its error comes first: where it ends, the reader is given up.
    let (writer, keys) = written?;
    let tallies = read.map_err(transfer_error)?;
    let (expected, mut file) = (tallies.clone(), output.writer()?);
    let header = blocking(move || {
        let end =
            || writer.finish(&expected)?.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all();
        end().context("the backup cannot be written")?;
        file.rewind()?;
        let (read, found) = verify("the backup", file, &keys)?;
        anyhow::ensure!(found == expected, "the backup has other rows than were read from the database");
        Ok(read)
    })
    .await?;
    Ok(Written { output, header, tallies })
}

fn write_rows(
    file: File,
    keys: &Keyring,
    header: Header,
    mut rows: Receiver<Batch>,
) -> io::Result<Writer<BufWriter<File>>> {
    let progress = Progress::begin("backing up", header.layout.rows());
    let mut writer = Writer::begin(BufWriter::new(file), keys.current(), header)?;
    while let Some(batch) = rows.blocking_recv() {
        writer.write(&batch)?;
        progress.add(batch.rows());
    }
    Ok(writer)
}

fn verify_named(file: &Path, keys: &Keyring) -> anyhow::Result<(Header, Vec<Tally>)> {
    let name = name_of(file);
    verify(&name, open(file)?, keys)
}

/// Reads a backup to its end.
fn verify(name: &str, from: impl Read, keys: &Keyring) -> anyhow::Result<(Header, Vec<Tally>)> {
    let failed = |error| backup_error(name, &error);
    let mut reader = Reader::open(BufReader::new(from), keys).map_err(failed)?;
    reader.header().layout.check_known(&format!("`{name}`")).map_err(transfer_error)?;
    let progress = Progress::begin("checking", reader.header().layout.rows());
    while let Some(batch) = reader.next_batch().map_err(failed)? {
        progress.add(batch.rows());
    }
    Ok((reader.header().clone(), reader.tallies().to_vec()))
}

fn copy_to_stdout(mut file: File) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    io::copy(&mut file, &mut stdout).context("standard output cannot be written")?;
    stdout.flush().context("standard output cannot be written")
}

/// Opens a backup, which is standard input for `-`.
pub(super) fn open(file: &Path) -> anyhow::Result<Box<dyn Read + Send>> {
    if file == Path::new(STANDARD) {
        return Ok(Box::new(io::stdin()));
    }
    let opened = File::open(file).map_err(|error| file_error(&name_of(file), "read", &error))?;
    Ok(Box::new(opened))
}

pub(super) fn name_of(file: &Path) -> String {
    if file == Path::new(STANDARD) { STANDARD_INPUT.to_owned() } else { file.display().to_string() }
}

/// What a backup is of, for people.
pub(super) fn state(header: &Header) -> String {
    format!("the store as it was at {:.0}", header.created_at)
}

pub(super) fn amount(tallies: &[Tally]) -> Amount {
    Amount { rows: tallies.iter().map(|tally| tally.rows).sum(), tables: tallies.len() }
}
