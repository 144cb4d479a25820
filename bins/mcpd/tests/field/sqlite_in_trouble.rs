//! The disk is full, another program holds the lock, the file is gone: everything is denied while it lasts, and mcpd
//! recovers by itself.

use std::{
    fs::{self, File},
    io::Write as _,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use mcpctl_testkit::daemons::{McpdOptions, within};
use reqwest::StatusCode;
use sqlx::{Connection as _, Executor as _, SqliteConnection};
use tempfile::TempDir;

use crate::store_trouble::World;

const FULL: &str = "the disk of the store is full";

/// A file system of 16 MiB, gone when it is dropped. Mounting one takes root.
struct SmallDisk(TempDir);

impl SmallDisk {
    fn mount() -> Option<Self> {
        let dir = tempfile::Builder::new().prefix("small-disk-").tempdir().unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=16m,mode=0700", "tmpfs"]).arg(dir.path());
        let mounted = mount.output();
        mounted.is_ok_and(|output| output.status.success()).then(|| Self(dir))
    }

    fn filler(&self) -> PathBuf {
        self.0.path().join("filler")
    }

    fn fill(&self) {
        let mut filler = File::create(self.filler()).unwrap();
        while filler.write_all(&[0; 4096]).is_ok() {}
    }

    /// Leaves what SQLite needs to open a database: its shared memory, 32 KiB.
    fn fill_but_for_a_start(&self) {
        let reserve = self.0.path().join("reserve");
        fs::write(&reserve, [0; 64 * 1024]).unwrap();
        self.fill();
        fs::remove_file(reserve).unwrap();
    }

    fn make_room(&self) {
        fs::remove_file(self.filler()).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

/// Bounds the files of a process, as a full disk does: the next page of the database does not fit.
fn limit_file_size(pid: u32, bytes: &str) {
    let limited =
        Command::new("prlimit").args(["--pid", &pid.to_string(), &format!("--fsize={bytes}:")]).status();
    assert!(limited.unwrap().success());
}

/// Uses up what is left in the database's own files.
async fn until_refused(world: &World) {
    within(Duration::from_secs(300), "a refusal", async || {
        (world.chat().await == StatusCode::SERVICE_UNAVAILABLE).then_some(())
    })
    .await;
}

fn database(data_dir: &Path) -> PathBuf {
    data_dir.join("mcpd.sqlite")
}

#[tokio::test]
async fn full_disk_denies_and_heals() {
    // Elsewhere, `full_quota_denies_and_heals` alone tests it.
    let Some(disk) = SmallDisk::mount() else { return full_quota().await };
    let options = McpdOptions { data_dir: Some(disk.0.path().join("data")), ..McpdOptions::default() };
    let mut world = World::with(options).await;
    for round in 0..2 {
        world.is_well("before").await;
        disk.fill();
        until_refused(&world).await;
        world.records_nothing(&format!("round {round}"), FULL).await;
        disk.make_room();
        world.is_well("with room again").await;
    }
    world.mcpd.terminate();
    world.mcpd.wait();
    disk.fill_but_for_a_start();
    // A start on a full disk can decide nothing, and reports it, until there is room.
    world.mcpd.restart().await;
    until_refused(&world).await;
    disk.make_room();
    world.is_well("after a start on a full disk").await;
}

#[tokio::test]
async fn full_quota_denies_and_heals() {
    full_quota().await;
}

async fn full_quota() {
    let mut world = World::with(McpdOptions::default()).await;
    for round in 0..2 {
        world.is_well("before").await;
        let wal = fs::metadata(database(&world.mcpd.data_dir()).with_extension("sqlite-wal")).unwrap();
        limit_file_size(world.mcpd.pid(), &(wal.len() + 100).to_string());
        until_refused(&world).await;
        world.records_nothing(&format!("round {round}"), "the disk of the store").await;
        limit_file_size(world.mcpd.pid(), "unlimited");
        world.is_well("with room again").await;
    }
}

#[tokio::test]
async fn lock_of_another_program_denies_and_heals() {
    let mut world = World::with(McpdOptions::default()).await;
    world.is_well("before").await;
    let url = format!("sqlite://{}", database(&world.mcpd.data_dir()).display());
    let mut other = SqliteConnection::connect(&url).await.unwrap();
    for round in 0..2 {
        other.execute("BEGIN EXCLUSIVE").await.unwrap();
        // Callers who leave while their write waits for the lock.
        for name in ["gone-1", "gone-2", "gone-3"] {
            let wanted = serde_json::json!({"name": format!("{name}-{round}")});
            let request = world.mcpd.request(reqwest::Method::POST, "/api/v1/users", &world.admin);
            let left = request.json(&wanted).timeout(Duration::from_millis(100)).send().await;
            assert!(left.is_err_and(|error| error.is_timeout()));
        }
        world.records_nothing(&format!("round {round}"), "the store").await;
        other.execute("ROLLBACK").await.unwrap();
        world.is_well("after the lock").await;
    }
}

#[tokio::test]
async fn deleted_or_replaced_database_denies_until_restored() {
    let mut world = World::with(McpdOptions::default()).await;
    let file = database(&world.mcpd.data_dir());
    let away = file.with_extension("away");
    let gone = "the file of the store was deleted or replaced";
    for replaced in [false, true] {
        world.is_well("before").await;
        fs::rename(&file, &away).unwrap();
        if replaced {
            fs::copy(&away, &file).unwrap();
        }
        // A write that is acknowledged and lost would be worse than a refused one; so would be decisions on a state that no longer changes.
        world.records_nothing("away", gone).await;
        let read = world.mcpd.get("/api/v1/llms/m1", &world.admin).await.status();
        assert_eq!(read, StatusCode::SERVICE_UNAVAILABLE);
        fs::rename(&away, &file).unwrap();
        world.is_well("back again").await;
    }
}

#[tokio::test]
async fn readiness_of_many_askers_costs_one_write() {
    let world = World::with(McpdOptions::default()).await;
    let wal = || fs::metadata(database(&world.mcpd.data_dir()).with_extension("sqlite-wal")).unwrap().len();
    assert_eq!(world.readiness().await.0, StatusCode::OK);
    let before = wal();
    let begun = std::time::Instant::now();
    let asked = futures::future::join_all((0..200).map(|_| world.readiness())).await;
    assert!(asked.iter().all(|(status, _)| *status == StatusCode::OK));
    // Four pages of 4 KiB for each write at the most, and one write a second.
    let writes = begun.elapsed().as_secs() + 1;
    assert!(wal() - before <= writes * 4 * 4200, "{} bytes in {writes} s", wal() - before);
    let audit = world.mcpd.data_dir();
    let mut reader =
        SqliteConnection::connect(&format!("sqlite://{}", database(&audit).display())).await.unwrap();
    let left = "SELECT COUNT(*) FROM audit WHERE action = 'readyz'";
    let left: i64 = sqlx::query_scalar(left).fetch_one(&mut reader).await.unwrap();
    assert_eq!(left, 0, "trial rows stay");
}
