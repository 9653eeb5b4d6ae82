//! Keys in files: read at the start, and again whenever they change, so that a key can be added and withdrawn without a restart.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use seckill_token::{Key, MAX_KEYS};

use super::SourceError;

/// How often the files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// Bytes of a file.
const MAX_BYTES: u64 = 64 * 1024;
/// What a folder's files with keys are called. Other files, such as private keys, are not read.
const ENDINGS: [&str; 4] = ["pem", "json", "jwk", "jwks"];

/// A file with keys, or a folder of such files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyFile {
    /// The key id of a PEM file; JSON has its own. In a folder, a PEM file's name without `.pem` is its key id.
    pub id: Option<String>,
    /// Where it is.
    pub path: PathBuf,
}

/// `FILE` or `KID=FILE`.
impl FromStr for KeyFile {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (id, path) = match text.split_once('=') {
            Some((id, path)) if !id.contains('/') => (Some(id), path),
            _ => (None, text),
        };
        if path.is_empty() || id == Some("") {
            return Err("give FILE, or KID=FILE, such as 2026=keys/2026.pem".to_owned());
        }
        Ok(Self { id: id.map(str::to_owned), path: path.into() })
    }
}

/// What one file held when it was last read.
#[derive(Clone, PartialEq, Eq)]
enum Content {
    Text(String),
    /// Why it cannot be read.
    Unreadable(String),
}

/// One file: what it holds, and the keys of the newest content that had any.
#[derive(Clone)]
struct Held {
    content: Content,
    keys: Vec<Key>,
}

type Files = BTreeMap<PathBuf, Held>;

pub(super) struct KeyFiles {
    given: Arc<[KeyFile]>,
    /// Taken by the one task that looks, never by a request.
    files: Mutex<Files>,
}

impl KeyFiles {
    pub(super) fn open(given: Vec<KeyFile>) -> Result<Self, SourceError> {
        let again = |(at, file): (usize, &KeyFile)| given[..at].iter().any(|other| other.path == file.path);
        if let Some((_, file)) = given.iter().enumerate().find(|file| again(*file)) {
            let text = format!("--jwt-key-file names {} twice; name it once", file.path.display());
            return Err(SourceError::File(text));
        }
        let (files, problems) = look(&given, None);
        if let Some(problem) = problems.into_iter().next() {
            return Err(SourceError::File(format!("{problem} (--jwt-key-file)")));
        }
        let keys = keys(&files);
        let twice = |(at, key): (usize, &Key)| keys[..at].iter().any(|other| other.is_named_like(key));
        if keys.iter().enumerate().any(twice) {
            let text = "two files of --jwt-key-file have a key with the same key id and algorithm; give each its own".into();
            return Err(SourceError::File(text));
        }
        if keys.is_empty() {
            let text =
                "--jwt-key-file names folders without a key; put a .pem, .json, .jwk or .jwks file there"
                    .into();
            return Err(SourceError::File(text));
        }
        Ok(Self { given: given.into(), files: Mutex::new(files) })
    }

    pub(super) fn keys(&self) -> Vec<Key> {
        keys(&self.files.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Tells of all keys whenever a file has changed. A file that is gone has no keys any more; one that has become unreadable keeps
    /// those that it had, because it may be half written.
    pub(super) async fn watch(&self, changed: impl Fn(Vec<Key>)) {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let (given, old) =
                (Arc::clone(&self.given), self.files.lock().unwrap_or_else(PoisonError::into_inner).clone());
            let looked = tokio::task::spawn_blocking(move || {
                let (new, problems) = look(&given, Some(&old));
                let differs = new.len() != old.len()
                    || new
                        .iter()
                        .any(|(path, file)| old.get(path).is_none_or(|was| was.content != file.content));
                (new, problems, differs)
            });
            let Ok((new, problems, differs)) = looked.await else { continue };
            if !differs {
                continue;
            }
            for problem in problems {
                tracing::warn!("{problem}; the keys that it had stay valid");
            }
            let found = keys(&new);
            *self.files.lock().unwrap_or_else(PoisonError::into_inner) = new;
            changed(found);
        }
    }
}

fn keys(files: &Files) -> Vec<Key> {
    files.values().flat_map(|file| file.keys.iter().cloned()).collect()
}

/// Reads everything; `old` has the keys of files that cannot be read now, and is absent at the start. Also returns what is wrong, a sentence for each file.
fn look(given: &[KeyFile], old: Option<&Files>) -> (Files, Vec<String>) {
    let (mut files, mut problems) = (Files::new(), Vec::new());
    for KeyFile { id, path } in given {
        let paths = if path.is_dir() { in_folder(path) } else { Ok(vec![(id.clone(), path.clone())]) };
        let paths = paths.unwrap_or_else(|error| {
            problems.push(format!("cannot read the folder {}: {error}", path.display()));
            let known = old.into_iter().flat_map(Files::keys).filter(|known| known.starts_with(path));
            known.map(|known| (None, known.clone())).collect()
        });
        for (id, path) in paths {
            match read(&path, id.as_deref()) {
                // At the start this is an error; later it withdraws the keys.
                Err(Problem::Gone) if old.is_some() => {}
                Err(Problem::Gone) => problems.push(format!("there is no file {}", path.display())),
                Err(Problem::Bad(content, why)) => {
                    problems.push(format!("{} {why}", path.display()));
                    let keys =
                        old.and_then(|old| old.get(&path)).map(|was| was.keys.clone()).unwrap_or_default();
                    files.insert(path, Held { content, keys });
                }
                Ok(file) => {
                    files.insert(path, file);
                }
            }
        }
    }
    (files, problems)
}

enum Problem {
    Gone,
    Bad(Content, String),
}

fn read(path: &Path, id: Option<&str>) -> Result<Held, Problem> {
    let text = read_text(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => Problem::Gone,
        _ => Problem::Bad(Content::Unreadable(error.to_string()), format!("cannot be read: {error}")),
    })?;
    match Key::from_file(&text, id) {
        Ok(keys) => Ok(Held { content: Content::Text(text), keys }),
        Err(error) => Err(Problem::Bad(Content::Text(text), error.to_string())),
    }
}

fn read_text(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(MAX_BYTES + 1).read_to_string(&mut text)?;
    if text.len() as u64 > MAX_BYTES { Err(io::Error::other("it is larger than 64 KiB")) } else { Ok(text) }
}

/// The files of a folder that hold keys, each with its key id.
fn in_folder(folder: &Path) -> io::Result<Vec<(Option<String>, PathBuf)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let ending = path.extension().and_then(|ending| ending.to_str());
        let Some(ending) = ending.filter(|ending| ENDINGS.contains(ending)) else { continue };
        let name = path.file_stem().and_then(|name| name.to_str());
        found.push((name.filter(|_| ending == "pem").map(str::to_owned), path));
        if found.len() > MAX_KEYS {
            return Err(io::Error::other("it has more than 64 files with keys"));
        }
    }
    found.sort();
    Ok(found)
}
