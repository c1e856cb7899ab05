//! File systems of their own for tests of what a disk does: they need root.

use std::path::PathBuf;
use std::process::Command;

/// More than a journal of 4 MiB holds: each takes some blocks of 4 KiB.
const JOURNAL_COMMITS: usize = 600;

/// A file system in a file, gone when dropped.
pub(crate) struct Disk {
    directory: tempfile::TempDir,
    pub(crate) kind: &'static str,
    /// What holds the file is a file system too, and smaller than the file.
    is_thin: bool,
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

    /// An ext4 on a device that has less room than it says: what is written beyond it is taken at first, and the sync then fails with an I/O
    /// error, as on thin storage that runs out or a disk that dies.
    ///
    /// # Panics
    /// Without the right to mount, and without loop devices.
    pub(crate) fn thin(len_bytes: u64, room_bytes: u64) -> Self {
        let mut disk = Self::new();
        let size = format!("size={room_bytes}");
        let is_mounted =
            succeeds(Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(disk.storage()));
        assert!(is_mounted, "this needs the right to mount a file system: run it as root");
        disk.is_thin = true;
        disk.format(len_bytes);
        assert!(disk.mount(), "this needs the right to mount a file system in a file: run it as root");
        disk.write_by_the_page();
        disk.fill_journal();
        disk
    }

    /// A loop device tells of a write that found no room at all, but not of one that found room for a part: so none has parts.
    fn write_by_the_page(&self) {
        let device = Command::new("findmnt").args(["-n", "-o", "SOURCE"]).arg(self.place()).output().unwrap().stdout;
        let device = String::from_utf8(device).unwrap();
        let name = device.trim().trim_start_matches("/dev/");
        std::fs::write(format!("/sys/block/{name}/queue/max_sectors_kb"), "4").unwrap();
    }

    /// Has all of the journal written once, so that it has its room and what fails are the syncs of data.
    fn fill_journal(&self) {
        let file = self.place().join("filler");
        for _ in 0..JOURNAL_COMMITS {
            std::fs::File::create(&file).unwrap().sync_all().unwrap();
            std::fs::remove_file(&file).unwrap();
        }
    }

    /// Gives a thin device all the room that it says it has.
    pub(crate) fn make_room(&self, len_bytes: u64) {
        let option = format!("remount,size={}", 2 * len_bytes);
        assert!(succeeds(Command::new("mount").args(["-o", &option]).arg(self.storage())), "{option}");
    }

    fn new() -> Self {
        let disk = Self { directory: tempfile::tempdir().unwrap(), kind: "ext4", is_thin: false };
        std::fs::create_dir(disk.place()).unwrap();
        std::fs::create_dir(disk.storage()).unwrap();
        disk
    }

    fn formatted(len_bytes: u64) -> Self {
        let disk = Self::new();
        disk.format(len_bytes);
        disk
    }

    fn format(&self, len_bytes: u64) {
        std::fs::File::create(self.image()).unwrap().set_len(len_bytes).unwrap();
        let is_formatted = succeeds(Command::new("mkfs.ext4").args(["-q", "-J", "size=4"]).arg(self.image()));
        assert!(is_formatted, "this needs mkfs.ext4 (package e2fsprogs)");
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

    fn storage(&self) -> PathBuf {
        self.directory.path().join("storage")
    }

    fn image(&self) -> PathBuf {
        self.storage().join("image")
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
        if self.is_thin {
            succeeds(Command::new("umount").arg("-l").arg(self.storage()));
        }
    }
}

fn succeeds(command: &mut Command) -> bool {
    command.status().is_ok_and(|status| status.success())
}
