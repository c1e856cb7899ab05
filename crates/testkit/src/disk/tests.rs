use std::collections::BTreeSet;
use std::io::{ErrorKind, IoSlice};
use std::path::Path;
use std::sync::Arc;

use types::disk::{Disk, DiskFile};

use super::inode::{PAGE_BYTES, SECTOR_BYTES};
use super::{CrashStyle, DiskOperation, FaultDisk};

fn file(disk: &FaultDisk, path: &str) -> Arc<dyn DiskFile> {
    disk.open(Path::new(path), true).unwrap()
}

fn write(file: &Arc<dyn DiskFile>, offset: u64, bytes: &[u8]) {
    file.write_at(&[IoSlice::new(bytes)], offset).unwrap();
}

/// A disk with a durable file `a` of these contents.
fn disk_with(contents: &[u8]) -> FaultDisk {
    let disk = FaultDisk::new();
    disk.put("a", contents).unwrap();
    disk
}

#[test]
fn reads_give_what_was_written_across_pages_holes_and_ends() {
    let disk = FaultDisk::new();
    let a = file(&disk, "a");
    let bytes: Vec<u8> = (0..10_000u32).map(|at| at as u8).collect();
    a.write_at(&[IoSlice::new(&bytes[..3000]), IoSlice::new(&bytes[3000..])], 5000).unwrap();
    assert_eq!(a.len_bytes().unwrap(), 15_000);
    let mut buffer = vec![9; 20_000];
    assert_eq!(a.read_at(&mut buffer, 0).unwrap(), 15_000);
    assert!(buffer[..5000].iter().all(|byte| *byte == 0), "a hole reads as zeros");
    assert_eq!(buffer[5000..15_000], bytes);
    assert_eq!(a.read_at(&mut buffer, 15_000).unwrap(), 0);

    a.set_len(6000).unwrap();
    a.set_len(7000).unwrap();
    assert_eq!(a.read_at(&mut buffer, 5999).unwrap(), 1001);
    assert_eq!(buffer[0], bytes[999]);
    assert!(buffer[1..1001].iter().all(|byte| *byte == 0), "what was cut does not come back");
}

#[test]
fn a_power_cut_loses_what_was_not_synced() {
    let disk = disk_with(b"old");
    let a = file(&disk, "a");
    write(&a, 0, b"new and longer");
    assert_eq!(disk.crash_image(CrashStyle::Lost, 1).contents("a").unwrap(), b"old");
    assert_eq!(disk.crash_image(CrashStyle::Kept, 1).contents("a").unwrap(), b"new and longer");
    a.sync_data().unwrap();
    assert_eq!(disk.crash_image(CrashStyle::Lost, 1).contents("a").unwrap(), b"new and longer");
}

#[test]
fn after_a_kill_the_unsynced_can_still_be_lost() {
    let disk = disk_with(b"old");
    write(&file(&disk, "a"), 0, b"new");
    let restarted = disk.crash_image(CrashStyle::Kept, 1);
    assert_eq!(restarted.contents("a").unwrap(), b"new");
    assert_eq!(restarted.crash_image(CrashStyle::Lost, 1).contents("a").unwrap(), b"old");
}

#[test]
fn a_torn_image_holds_whole_sectors_of_some_version_and_never_touches_the_synced() {
    let pages = 4;
    let disk = disk_with(&vec![b'0'; (pages + 1) * PAGE_BYTES]);
    let a = file(&disk, "a");
    write(&a, 0, &vec![b'1'; pages * PAGE_BYTES]);
    write(&a, 0, &vec![b'2'; pages * PAGE_BYTES]);
    let mut seen = BTreeSet::new();
    let (mut mixed_pages, mut behind_a_gap) = (false, false);
    for seed in 0..300 {
        let contents = disk.crash_image(CrashStyle::Torn, seed).contents("a").unwrap();
        assert_eq!(contents, disk.crash_image(CrashStyle::Torn, seed).contents("a").unwrap(), "seed {seed}");
        assert!(contents[pages * PAGE_BYTES..].iter().all(|byte| *byte == b'0'), "seed {seed}");
        for sector in contents.chunks(SECTOR_BYTES) {
            assert!(sector.iter().all(|byte| *byte == sector[0]), "seed {seed}");
            seen.insert(sector[0]);
        }
        mixed_pages |= contents.chunks(PAGE_BYTES).any(|page| page[0] != page[PAGE_BYTES - 1]);
        behind_a_gap |= contents[0] == b'0' && contents[PAGE_BYTES] == b'2';
    }
    assert_eq!(seen, BTreeSet::from([b'0', b'1', b'2']), "old, overwritten and new sectors all happen");
    assert!(mixed_pages && behind_a_gap);
}

#[test]
fn names_are_durable_only_once_their_directory_is_synced() {
    let disk = FaultDisk::new();
    disk.create_dir(Path::new("d/e")).unwrap();
    let a = file(&disk, "d/e/a");
    write(&a, 0, b"a");
    a.sync_data().unwrap();
    disk.sync_dir(Path::new("d/e")).unwrap();
    let lost = |disk: &FaultDisk| disk.crash_image(CrashStyle::Lost, 1).list(Path::new("d/e")).unwrap();
    assert!(lost(&disk).is_empty(), "the directories themselves have no durable name yet");
    disk.sync_dir(Path::new("d")).unwrap();
    disk.sync_dir(Path::new("")).unwrap();
    assert_eq!(lost(&disk), [Path::new("d/e/a")]);

    disk.rename(Path::new("d/e/a"), Path::new("d/e/b")).unwrap();
    file(&disk, "d/e/c");
    disk.remove(Path::new("d/e/c")).unwrap();
    assert_eq!(disk.list(Path::new("d/e")).unwrap(), [Path::new("d/e/b")]);
    assert_eq!(lost(&disk), [Path::new("d/e/a")]);
    // The first few of rename, create, remove are kept, in that order.
    let names = |seed| -> Vec<_> {
        let image = disk.crash_image(CrashStyle::Torn, seed);
        image.list(Path::new("d/e")).unwrap().iter().map(|path| path.display().to_string()).collect()
    };
    let seen: BTreeSet<Vec<String>> = (0..100).map(names).collect();
    let expected = [vec!["d/e/a"], vec!["d/e/b"], vec!["d/e/b", "d/e/c"]];
    assert_eq!(seen, expected.map(|names| names.into_iter().map(str::to_owned).collect()).into());
    disk.sync_dir(Path::new("d/e")).unwrap();
    assert_eq!(lost(&disk), [Path::new("d/e/b")]);
    assert_eq!(disk.crash_image(CrashStyle::Lost, 1).contents("d/e/b").unwrap(), b"a");
}

#[test]
fn a_removed_file_that_a_power_cut_brings_back_has_its_contents() {
    let disk = disk_with(b"kept");
    disk.remove(Path::new("a")).unwrap();
    assert_eq!(disk.contents("a").unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(disk.crash_image(CrashStyle::Lost, 1).contents("a").unwrap(), b"kept");
    // Syncing another directory changes nothing for this one.
    let disk = disk_with(b"kept");
    disk.create_dir(Path::new("d")).unwrap();
    disk.remove(Path::new("a")).unwrap();
    disk.sync_dir(Path::new("d")).unwrap();
    assert_eq!(disk.crash_image(CrashStyle::Lost, 1).contents("a").unwrap(), b"kept");
    disk.sync_dir(Path::new("")).unwrap();
    assert_eq!(disk.crash_image(CrashStyle::Lost, 1).contents("a").unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn an_open_file_outlives_its_name() {
    let disk = disk_with(b"kept");
    let a = file(&disk, "a");
    disk.remove(Path::new("a")).unwrap();
    disk.sync_dir(Path::new("")).unwrap();
    let mut buffer = [0; 4];
    assert_eq!(a.read_at(&mut buffer, 0).unwrap(), 4);
    assert_eq!(&buffer, b"kept");
    assert_eq!(disk.lock().inodes.len(), 1);
    drop(a);
    disk.sync_dir(Path::new("")).unwrap();
    assert!(disk.lock().inodes.is_empty());
}

#[test]
fn the_nth_operation_is_the_last_that_happens() {
    for n in 1..=4 {
        let disk = disk_with(b"old");
        let a = file(&disk, "a");
        disk.crash_after(n);
        let steps: [&dyn Fn() -> std::io::Result<()>; 4] = [
            &|| a.write_at(&[IoSlice::new(b"new")], 0),
            &|| a.sync_data(),
            &|| disk.rename(Path::new("a"), Path::new("b")),
            &|| disk.sync_dir(Path::new("")),
        ];
        let done = steps.iter().take_while(|step| step().is_ok()).count() as u64;
        assert_eq!(done, n - 1);
        assert!(disk.crashed());
        assert!(a.sync_data().is_err() && a.len_bytes().is_err() && disk.open(Path::new("a"), false).is_err());
        let image = disk.crash_image(CrashStyle::Lost, 1);
        assert_eq!(image.contents("a").unwrap(), if n > 2 { b"new" } else { b"old" }, "crash at {n}");
        let kept = disk.crash_image(CrashStyle::Kept, 1);
        let name = if n > 3 { "b" } else { "a" };
        assert_eq!(kept.contents(name).unwrap(), b"new", "crash at {n}: the write that died reached the cache");
        assert!(file(&image, "a").sync_data().is_ok(), "an image is a healthy disk");
    }
}

#[test]
fn a_failed_sync_drops_pages_and_a_later_one_does_not_bring_them_back() {
    let disk = disk_with(&[b'0'; 2 * PAGE_BYTES]);
    let a = file(&disk, "a");
    write(&a, 0, b"first");
    write(&a, PAGE_BYTES as u64, b"second");
    disk.fail_syncs(true);
    assert!(a.sync_data().is_err());
    disk.fail_syncs(false);
    a.sync_data().unwrap();
    assert_eq!(&disk.contents("a").unwrap()[..5], b"first", "the cache still shows it");
    for style in [CrashStyle::Lost, CrashStyle::Torn] {
        assert_eq!(disk.crash_image(style, 7).contents("a").unwrap(), [b'0'; 2 * PAGE_BYTES]);
    }
    // A page that is written again goes to the disk whole.
    write(&a, 100, b"third");
    a.sync_data().unwrap();
    let after = disk.crash_image(CrashStyle::Lost, 7).contents("a").unwrap();
    assert_eq!((&after[..5], &after[100..105]), (&b"first"[..], &b"third"[..]));
    assert_eq!(&after[PAGE_BYTES..PAGE_BYTES + 6], b"000000");
}

#[test]
fn a_full_disk_refuses_what_does_not_fit_and_recovers_by_removals() {
    let disk = FaultDisk::new();
    disk.set_free_bytes(Some(3 * PAGE_BYTES as u64));
    let a = file(&disk, "a");
    a.allocate(2 * PAGE_BYTES as u64).unwrap();
    assert_eq!(disk.free_bytes(), Some(PAGE_BYTES as u64));
    assert_eq!(a.len_bytes().unwrap(), 2 * PAGE_BYTES as u64);
    write(&a, 0, &[1; 2 * PAGE_BYTES]);
    assert_eq!(disk.free_bytes(), Some(PAGE_BYTES as u64), "reserved space is not taken twice");
    let b = file(&disk, "b");
    let error = b.write_at(&[IoSlice::new(&[2; 2 * PAGE_BYTES])], 0).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::StorageFull);
    assert_eq!(b.len_bytes().unwrap(), PAGE_BYTES as u64, "what fits was written");
    assert_eq!(b.allocate(2 * PAGE_BYTES as u64).unwrap_err().kind(), ErrorKind::StorageFull);
    write(&b, 10, b"in place");
    disk.remove(Path::new("a")).unwrap();
    assert_eq!(disk.free_bytes(), Some(2 * PAGE_BYTES as u64));
    b.set_len(0).unwrap();
    assert_eq!(disk.free_bytes(), Some(3 * PAGE_BYTES as u64));
}

#[test]
fn single_faults_hit_their_place_only() {
    let disk = disk_with(b"0123456789");
    let a = file(&disk, "a");
    disk.fail_reads("a", 4..5);
    let mut buffer = [0; 4];
    assert!(a.read_at(&mut buffer, 0).is_ok());
    assert!(a.read_at(&mut buffer, 1).is_err());
    assert!(a.read_at(&mut buffer, 5).is_ok());
    disk.heal_reads();
    assert!(a.read_at(&mut buffer, 1).is_ok());

    disk.corrupt("a", 2).unwrap();
    assert_eq!(disk.contents("a").unwrap(), b"0133456789");
    assert_eq!(disk.crash_image(CrashStyle::Lost, 1).contents("a").unwrap(), b"0133456789");
    write(&a, 9, b"x");
    disk.corrupt("a", 0).unwrap();
    assert_eq!(disk.contents("a").unwrap(), b"113345678x");
    assert_eq!(disk.crash_image(CrashStyle::Lost, 1).contents("a").unwrap(), b"1133456789", "below the page cache too");
    disk.corrupt("a", 0).unwrap();
    assert_eq!(disk.corrupt("a", 10).unwrap_err().kind(), ErrorKind::UnexpectedEof);
    disk.truncate("a", 3).unwrap();
    assert_eq!(disk.crash_image(CrashStyle::Lost, 1).contents("a").unwrap(), b"013");

    disk.fail_writes(true);
    assert!(a.write_at(&[IoSlice::new(b"x")], 0).is_err());
    disk.fail_writes(false);
    assert_eq!(disk.contents("a").unwrap(), b"013");
}

#[test]
fn paths_stay_within_the_disk() {
    let disk = FaultDisk::new();
    for path in ["/etc/passwd", "../a", "d/../../a"] {
        let error = disk.open(Path::new(path), true).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{path}");
    }
    assert_eq!(disk.open(Path::new("no/such/a"), true).err().unwrap().kind(), ErrorKind::NotFound);
    assert_eq!(disk.open(Path::new("a"), false).err().unwrap().kind(), ErrorKind::NotFound);
    assert!(disk.list(Path::new("missing")).unwrap().is_empty());
}

#[test]
fn a_recording_plays_back_to_the_same_disk_at_every_step() {
    let disk = FaultDisk::new();
    disk.record();
    disk.create_dir(Path::new("d")).unwrap();
    let a = file(&disk, "d/a");
    write(&a, 100, b"one");
    a.sync_data().unwrap();
    disk.mark(7);
    disk.rename(Path::new("d/a"), Path::new("d/b")).unwrap();
    write(&a, 0, b"two");
    a.set_len(50).unwrap();
    let recording = disk.take_recording();
    assert_eq!(recording.len(), 8);
    assert_eq!(recording[4], DiskOperation::Mark(7));

    let twin = FaultDisk::new();
    for operation in &recording {
        twin.play(operation).unwrap();
    }
    assert_eq!(twin.contents("d/b").unwrap(), disk.contents("d/b").unwrap());
    for seed in 0..50 {
        let (one, two) = (disk.crash_image(CrashStyle::Torn, seed), twin.crash_image(CrashStyle::Torn, seed));
        assert_eq!(one.contents("d/b").ok(), two.contents("d/b").ok(), "seed {seed}");
    }
}

#[test]
fn held_syncs_wait_until_they_are_released() {
    let disk = disk_with(b"old");
    disk.hold_syncs();
    let a = file(&disk, "a");
    write(&a, 0, b"new");
    let (sender, receiver) = std::sync::mpsc::sync_channel(1);
    let waiting = std::thread::spawn(move || {
        a.sync_data().unwrap();
        sender.send(()).unwrap();
    });
    assert_eq!(disk.crash_image(CrashStyle::Lost, 1).contents("a").unwrap(), b"old");
    assert!(receiver.try_recv().is_err());
    disk.release_syncs();
    receiver.recv().unwrap();
    waiting.join().unwrap();
    assert_eq!(disk.crash_image(CrashStyle::Lost, 1).contents("a").unwrap(), b"new");
}

#[test]
fn images_of_large_files_share_what_they_did_not_change() {
    let disk = disk_with(&vec![1; 8 << 20]);
    let a = file(&disk, "a");
    write(&a, 1 << 20, &[2; 64 << 10]);
    // A thousand images of 8 MiB would be 8 GiB, were they copies.
    let images: Vec<FaultDisk> = (0..1000).map(|seed| disk.crash_image(CrashStyle::Torn, seed)).collect();
    assert!(images.iter().all(|image| image.lock().inodes.values().all(|inode| inode.len_bytes() == 8 << 20)));
}

#[test]
fn an_exported_disk_is_a_directory_of_the_same_files() {
    let disk = FaultDisk::new();
    disk.put("a/b/file", b"what it holds").unwrap();
    disk.put("empty", b"").unwrap();
    file(&disk, "a/longer").set_len(5_000).unwrap();
    let root = std::env::temp_dir().join(format!("posthouse-testkit-{}", std::process::id()));
    disk.export(&root).unwrap();
    let read = |path: &str| std::fs::read(root.join(path)).unwrap();
    let (whole, empty, longer) = (read("a/b/file"), read("empty"), read("a/longer"));
    std::fs::remove_dir_all(&root).unwrap();
    assert_eq!((whole.as_slice(), empty.len(), longer), (&b"what it holds"[..], 0, vec![0; 5_000]));
}
