//! Models on the disk: GGUF files, and models of the Hugging Face hub that vLLM can serve. The walk is bounded in depth, files
//! and time, because a folder may hold a million files or be on a file system that is slow.

use std::{
    collections::BTreeSet,
    env,
    fs::{self, File},
    io::Read as _,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use mcpctl_api::{discovery::FoundModel, visible::is_hidden};

/// How deep below a folder files are looked at; the hub's cache has them four levels down.
const MAX_DEPTH: usize = 6;
/// Files and directories of one folder that are looked at.
pub(super) const MAX_ENTRIES: usize = 20_000;
/// Models that are listed.
const MAX_MODELS: usize = 200;
/// How long the walk through all folders takes.
const MAX_TIME: Duration = Duration::from_secs(3);
/// The first bytes of a GGUF file (its specification in ggml's documents).
const MAGIC: &[u8; 4] = b"GGUF";
/// Parts of one model, beyond which its name is none that llama.cpp's `gguf-split` makes.
const MAX_PARTS: u32 = 999;

/// What a walk found.
#[derive(Debug, Default)]
pub(super) struct Walked {
    pub(super) models: Vec<FoundModel>,
    /// Whether there was more than it looked at.
    pub(super) incomplete: bool,
}

/// The folders in which models usually are.
pub(super) fn folders(home: Option<&Path>) -> Vec<PathBuf> {
    let var = |name: &str| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let cache = var("XDG_CACHE_HOME").or_else(|| Some(home?.join(".cache")));
    let below = |base: &Option<PathBuf>, path: &str| base.as_ref().map(|base| base.join(path));
    let home = home.map(Path::to_owned);
    let hub = var("HF_HUB_CACHE")
        .or_else(|| Some(var("HF_HOME")?.join("hub")))
        .or_else(|| below(&cache, "huggingface/hub"));
    let all = [
        below(&home, "models"),
        below(&home, ".lmstudio/models"),
        below(&cache, "lm-studio/models"),
        var("LLAMA_CACHE"),
        below(&cache, "llama.cpp"),
        hub,
        below(&cache, "mcpctl/llama-server"),
    ];
    let mut seen = BTreeSet::new();
    all.into_iter().flatten().filter(|folder| seen.insert(folder.clone())).collect()
}

/// Searches the folders.
pub(super) fn search(folders: &[PathBuf]) -> Walked {
    let begun = Instant::now();
    let mut walked = Walked::default();
    for folder in folders {
        walk(folder, begun, &mut walked);
    }
    walked.models.sort_by(|a, b| b.bytes.cmp(&a.bytes).then_with(|| a.model.cmp(&b.model)));
    walked.models.dedup();
    walked.incomplete |= walked.models.len() > MAX_MODELS;
    walked.models.truncate(MAX_MODELS);
    walked
}

fn walk(folder: &Path, begun: Instant, walked: &mut Walked) {
    let mut pending = vec![(folder.to_owned(), 0)];
    let mut looked_at = 0;
    while let Some((directory, depth)) = pending.pop() {
        let Ok(entries) = fs::read_dir(&directory) else { continue };
        for entry in entries.flatten() {
            looked_at += 1;
            if looked_at > MAX_ENTRIES || begun.elapsed() > MAX_TIME {
                walked.incomplete = true;
                return;
            }
            // Of the entry itself: a link to a directory could lead round in a circle.
            let Ok(kind) = entry.file_type() else { continue };
            let path = entry.path();
            if kind.is_dir() {
                walked.models.extend(hub_model(&path));
                if depth < MAX_DEPTH {
                    pending.push((path, depth + 1));
                }
            } else {
                walked.models.extend(gguf(&path));
            }
        }
    }
}

/// A GGUF file that is a whole model, or the first part of one.
fn gguf(path: &Path) -> Option<FoundModel> {
    let name = path.file_name()?.to_str()?;
    let stem = name.strip_suffix(".gguf").or_else(|| name.strip_suffix(".GGUF"))?;
    // Reads images for another model.
    if name.to_ascii_lowercase().starts_with("mmproj") || path.to_str()?.chars().any(is_hidden) {
        return None;
    }
    let metadata = path.metadata().ok().filter(fs::Metadata::is_file)?;
    let bytes = match parts(stem) {
        None => metadata.len(),
        Some((base, 1, count)) => (1..=count.min(MAX_PARTS))
            .map(|part| path.with_file_name(format!("{base}-{part:05}-of-{count:05}.gguf")))
            .filter_map(|part| Some(part.metadata().ok()?.len()))
            .sum(),
        // The first part stands for all.
        Some(_) => return None,
    };
    let mut magic = [0; 4];
    File::open(path).ok()?.read_exact(&mut magic).ok()?;
    let model = path.to_str()?.to_owned();
    (magic == *MAGIC).then(|| FoundModel { provider_type: "llama-server-managed".to_owned(), model, bytes })
}

/// The parts of a name such as `model-00001-of-00003`.
fn parts(stem: &str) -> Option<(&str, u32, u32)> {
    let (rest, count) = stem.rsplit_once("-of-")?;
    let (base, part) = rest.rsplit_once('-')?;
    let number = |text: &str| (text.len() == 5).then(|| text.parse().ok()).flatten();
    Some((base, number(part)?, number(count)?))
}

/// A model of the hub's cache with weights as safetensors, which vLLM serves by its name.
fn hub_model(directory: &Path) -> Option<FoundModel> {
    let name = directory.file_name()?.to_str()?.strip_prefix("models--")?.replace("--", "/");
    if name.chars().any(is_hidden) {
        return None;
    }
    let snapshots = directory.join("snapshots").read_dir().ok()?.flatten().take(MAX_MODELS);
    snapshots.map(|snapshot| snapshot.path()).find_map(|snapshot| {
        let is_model = snapshot.join("config.json").is_file();
        let files = snapshot.read_dir().ok().filter(|_| is_model)?.flatten().take(MAX_MODELS);
        let weights = files.map(|file| file.path());
        let weights = weights.filter(|path| path.extension().is_some_and(|ending| ending == "safetensors"));
        let bytes: u64 = weights.filter_map(|path| Some(path.metadata().ok()?.len())).sum();
        (bytes > 0).then(|| FoundModel {
            provider_type: "vllm-managed".to_owned(),
            model: name.clone(),
            bytes,
        })
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn write(path: &Path, bytes: &[u8]) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    #[test]
    fn models_are_found_and_other_files_are_not() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        write(&at("a/small.gguf"), b"GGUF1");
        write(&at("a/no-model.gguf"), b"<html>");
        write(&at("a/mmproj-small.gguf"), b"GGUF");
        write(&at("split-00001-of-00002.gguf"), b"GGUF12345");
        write(&at("split-00002-of-00002.gguf"), b"GGUF6");
        write(&at("too/deep/a/b/c/d/e/f/g.gguf"), b"GGUF");
        let hub = at("models--org--name/snapshots/main");
        write(&at("models--org--name/blobs/x"), b"12345678901");
        write(&hub.join("config.json"), b"{}");
        symlink(at("models--org--name/blobs/x"), hub.join("model.safetensors")).unwrap();
        symlink(dir.path(), at("a/circle")).unwrap();
        let walked = search(&[dir.path().to_owned(), at("gone")]);
        let found: Vec<(&str, u64)> =
            walked.models.iter().map(|model| (model.model.as_str(), model.bytes)).collect();
        let (small, split) = (at("a/small.gguf"), at("split-00001-of-00002.gguf"));
        assert_eq!(found, [(split.to_str().unwrap(), 14), ("org/name", 11), (small.to_str().unwrap(), 5)]);
        assert!(!walked.incomplete);
    }
}
