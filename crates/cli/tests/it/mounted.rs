//! File systems of their own for tests of what a disk does: they need root.

use std::path::PathBuf;
use std::process::Command;

/// A file system in a file, gone when dropped.
pub(crate) struct Disk {
    directory: tempfile::TempDir,
    pub(crate) kind: &'static str,
}

impl Disk {
    /// An ext4, or a tmpfs where there are no loop devices.
    ///
    /// # Panics
    /// Without the right to mount: then nothing can be proved here.
    pub(crate) fn of_any_kind(len_bytes: u64) -> Self {
        let mut disk = Self::formatted(len_bytes);
        if !disk.mount() {
            let size = format!("size={len_bytes}");
            let is_mounted =
                succeeds(Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(disk.place()));
            assert!(is_mounted, "this needs the right to mount a file system: run it as root");
            disk.kind = "tmpfs";
        }
        disk
    }

    /// An ext4 that becomes read-only when it meets an error.
    ///
    /// # Panics
    /// Without the right to mount, and without loop devices.
    pub(crate) fn ext4(len_bytes: u64) -> Self {
        let disk = Self::formatted(len_bytes);
        assert!(disk.mount(), "this needs the right to mount a file system in a file: run it as root");
        disk
    }

    fn formatted(len_bytes: u64) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let disk = Self { directory, kind: "ext4" };
        std::fs::create_dir(disk.place()).unwrap();
        std::fs::File::create(disk.image()).unwrap().set_len(len_bytes).unwrap();
        let is_formatted = succeeds(Command::new("mkfs.ext4").arg("-q").arg(disk.image()));
        assert!(is_formatted, "this needs mkfs.ext4 (package e2fsprogs)");
        disk
    }

    fn mount(&self) -> bool {
        succeeds(Command::new("mount").args(["-o", "loop,errors=remount-ro"]).arg(self.image()).arg(self.place()))
    }

    /// What the kernel does when it meets an error in the file system: its journal ends, and from then on nothing is written, also not to files
    /// that are open. (A plain `remount,ro` is refused while some are.)
    pub(crate) fn become_read_only(&self) {
        assert!(succeeds(Command::new("mount").args(["-o", "remount,abort"]).arg(self.place())), "remount,abort");
    }

    /// Unmounts it, and mounts it as it then is. Nothing may have a file open.
    pub(crate) fn mount_again(&self) {
        assert!(succeeds(Command::new("umount").arg(self.place())), "it is in use");
        assert!(self.mount());
    }

    /// Lets nothing be written, or again. Nothing may have a file open for writing.
    pub(crate) fn set_read_only(&self, read_only: bool) {
        let option = if read_only { "remount,ro" } else { "remount,rw" };
        assert!(succeeds(Command::new("mount").args(["-o", option]).arg(self.place())), "{option}");
    }

    fn image(&self) -> PathBuf {
        self.directory.path().join("image")
    }

    /// Its root.
    pub(crate) fn place(&self) -> PathBuf {
        self.directory.path().join("disk")
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily: a server that a failed test left may still end.
        succeeds(Command::new("umount").arg("-l").arg(self.place()));
    }
}

fn succeeds(command: &mut Command) -> bool {
    command.status().is_ok_and(|status| status.success())
}
