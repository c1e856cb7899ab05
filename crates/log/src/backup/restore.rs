//! From an archive to a data directory.

use std::io::{self, IoSlice, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use types::disk::{Disk, DiskFile};

use super::check::{Sink, walk};
use super::{ArchiveError, Checked, Manifest, ManifestFile, RESTORING_FILE, RestoreError};
use crate::embedded::{DIRECTORIES, FORMAT, FORMAT_FILE, is_data_file};

/// So much of a backup's format file is looked at.
const FORMAT_SHOWN_BYTES: usize = 64;

/// Writes a backup into an empty directory, and checks all of it on the way. The directory is a data directory only when everything
/// has been found good and is durable; until then no server starts on it, whatever happens. What an earlier restore left that was
/// killed is removed first. `progress` is told now and then how many bytes of files were written, and of how many.
///
/// # Errors
/// [`RestoreError`]; what was written is removed again.
pub fn restore(
    archive: impl Read,
    disk: &dyn Disk,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Checked, RestoreError> {
    make_way(disk)?;
    let mut target = Target { disk, open: None, progress, format: Vec::new(), written: 0, whole: 0 };
    let restored = walk(archive, &mut target).and_then(|checked| {
        finish(disk)?;
        Ok(checked)
    });
    if restored.is_err() {
        drop(target);
        // What cannot be removed now is removed by the next restore.
        let _ = clear(disk);
    }
    restored
}

/// Refuses a directory that holds anything, and marks it as one that no server starts on.
fn make_way(disk: &dyn Disk) -> Result<(), RestoreError> {
    let root = Path::new("");
    let list = |directory: &Path| disk.list(directory).map_err(|error| failed(directory, &error));
    let found = list(root)?;
    if found.iter().any(|path| path == Path::new(RESTORING_FILE))
        && !found.iter().any(|path| path == Path::new(FORMAT_FILE))
    {
        clear(disk)?;
    }
    let mut others = list(root)?;
    // The lock is ours. A file that was made for it is all that a server leaves which never started.
    others.retain(|path| path != Path::new("LOCK"));
    for directory in DIRECTORIES {
        others.extend(list(Path::new(directory))?);
    }
    if let Some(first) = others.first() {
        return Err(RestoreError::NotEmpty(first.display().to_string()));
    }
    let mark = || {
        disk.open(Path::new(RESTORING_FILE), true)?.sync_data()?;
        disk.sync_dir(root)?;
        DIRECTORIES.iter().try_for_each(|directory| disk.create_dir(Path::new(directory)))
    };
    mark().map_err(|error| failed(Path::new(RESTORING_FILE), &error))
}

/// Makes the directory one that a server starts on. All files are durable when this is called.
fn finish(disk: &dyn Disk) -> Result<(), RestoreError> {
    let root = Path::new("");
    let finish = || {
        for directory in DIRECTORIES {
            disk.sync_dir(Path::new(directory))?;
        }
        // IMPORTANT: the files' own names must be durable before the one that says that they are all there.
        disk.sync_dir(root)?;
        let temporary = Path::new("FORMAT.tmp");
        write_new(disk, temporary, FORMAT.as_bytes())?;
        disk.rename(temporary, Path::new(FORMAT_FILE))?;
        disk.sync_dir(root)?;
        disk.remove(Path::new(RESTORING_FILE))?;
        disk.sync_dir(root)
    };
    finish().map_err(|error| failed(Path::new(FORMAT_FILE), &error))
}

fn write_new(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let file = disk.open(path, true)?;
    file.set_len(0)?;
    file.write_at(&[IoSlice::new(bytes)], 0)?;
    file.sync_data()
}

/// Removes what a restore writes, the mark last.
fn clear(disk: &dyn Disk) -> Result<(), RestoreError> {
    let clear = || {
        let mut files = disk.list(Path::new(""))?;
        for directory in DIRECTORIES {
            files.extend(disk.list(Path::new(directory))?);
        }
        let is_ours =
            |path: &Path| is_data_file(path) || path == Path::new(FORMAT_FILE) || path == Path::new("FORMAT.tmp");
        for file in files.iter().filter(|path| is_ours(path)) {
            disk.remove(file)?;
        }
        for directory in DIRECTORIES {
            // It may not have got so far.
            disk.create_dir(Path::new(directory))?;
            disk.sync_dir(Path::new(directory))?;
        }
        disk.sync_dir(Path::new(""))?;
        disk.remove(Path::new(RESTORING_FILE))?;
        disk.sync_dir(Path::new(""))
    };
    clear().map_err(|error| failed(Path::new(RESTORING_FILE), &error))
}

fn failed(place: &Path, error: &io::Error) -> RestoreError {
    let place = if place == Path::new("") { PathBuf::from("the data directory") } else { place.to_owned() };
    RestoreError::Write { place: place.display().to_string(), error: error.to_string() }
}

/// Writes files as they come.
struct Target<'a> {
    disk: &'a dyn Disk,
    open: Option<Arc<dyn DiskFile>>,
    progress: &'a mut dyn FnMut(u64, u64),
    format: Vec<u8>,
    written: u64,
    whole: u64,
}

impl Sink for Target<'_> {
    type Error = RestoreError;

    fn manifest(&mut self, manifest: &Manifest) -> Result<(), RestoreError> {
        self.whole = manifest.data_bytes();
        let free = self.disk.free_bytes().unwrap_or(u64::MAX);
        if free < self.whole {
            let error = format!("{} bytes are free, {} are needed", free, self.whole);
            return Err(RestoreError::Write { place: "the data directory".to_owned(), error });
        }
        Ok(())
    }

    fn bytes(&mut self, file: &ManifestFile, at: u64, bytes: &[u8]) -> Result<(), RestoreError> {
        let path = Path::new(&file.path);
        if path == Path::new(FORMAT_FILE) {
            // Written last of all, by `finish`.
            self.format.extend(bytes.iter().take(FORMAT_SHOWN_BYTES.saturating_sub(self.format.len())));
            return Ok(());
        }
        let written = || {
            let open = match &self.open {
                Some(open) => open.clone(),
                None => self.disk.open(path, true)?,
            };
            open.write_at(&[IoSlice::new(bytes)], at)?;
            Ok(open)
        };
        let written: io::Result<Arc<dyn DiskFile>> = written();
        self.open = Some(written.map_err(|error| failed(path, &error))?);
        self.written += bytes.len() as u64;
        (self.progress)(self.written, self.whole);
        Ok(())
    }

    fn end(&mut self, file: &ManifestFile) -> Result<(), RestoreError> {
        let path = Path::new(&file.path);
        match self.open.take() {
            Some(open) => open.sync_data().map_err(|error| failed(path, &error)),
            None if path == Path::new(FORMAT_FILE) && self.format == FORMAT.as_bytes() => Ok(()),
            None if path == Path::new(FORMAT_FILE) => {
                let found = String::from_utf8_lossy(&self.format).into_owned();
                Err(RestoreError::Format { found, expected: FORMAT })
            }
            None => Err(ArchiveError::Unexpected(format!("{} is empty", file.path)).into()),
        }
    }
}
