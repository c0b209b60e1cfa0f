use std::io::Write as _;

use super::*;

const BOUNDS: Bounds = Bounds { bytes: 1000, members: 10 };

enum Entry {
    File(&'static str, u32, &'static [u8]),
    Kind(&'static str, EntryType),
}
use Entry::{File, Kind as Odd};

fn tar(entries: &[Entry]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for entry in entries {
        let mut header = tar::Header::new_gnu();
        let (name, mode, bytes) = match entry {
            File(name, mode, bytes) => (name, *mode, *bytes),
            Odd(name, kind) => {
                header.set_entry_type(*kind);
                header.set_link_name("/etc/passwd").unwrap();
                (name, 0o777, &b""[..])
            }
        };
        header.set_mode(mode);
        header.set_size(bytes.len() as u64);
        // As strangers write it: the builder itself would refuse some names.
        header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_cksum();
        builder.append(&header, bytes).unwrap();
    }
    builder.into_inner().unwrap()
}

fn zipped(files: &[(&str, &[u8])]) -> Vec<u8> {
    let files: Vec<(String, &[u8])> =
        files.iter().map(|(name, bytes)| ((*name).to_owned(), *bytes)).collect();
    crate::emulator::zip(&files)
}

fn unpacked(archive: &[u8]) -> Vec<(String, u32, String)> {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let files = unpack(archive, BOUNDS).unwrap();
    files.into_iter().map(|file| (file.path, file.mode, text(&file.contents))).collect()
}

fn file(path: &str, mode: u32, contents: &str) -> (String, u32, String) {
    (path.to_owned(), mode, contents.to_owned())
}

#[test]
fn zip_and_tar_come_out_the_same_however_they_are_compressed() {
    let expected = [file("SKILL.md", 0o644, "# hi"), file("bin/run", 0o755, "echo")];
    let plain = tar(&[File("greet/SKILL.md", 0o600, b"# hi"), File("greet/bin/run", 0o4750, b"echo")]);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gzip.write_all(&plain).unwrap();
    let mut bzip2 = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::default());
    bzip2.write_all(&plain).unwrap();
    for archive in [plain, gzip.finish().unwrap(), bzip2.finish().unwrap()] {
        assert_eq!(unpacked(&archive), expected);
    }
    let zip = zipped(&[("greet/SKILL.md", b"# hi"), ("greet/bin/run", b"echo")]);
    let names: Vec<String> = unpacked(&zip).into_iter().map(|(path, ..)| path).collect();
    assert_eq!(names, ["SKILL.md", "bin/run"]);
}

#[test]
fn xz_is_read_as_the_usual_tool_writes_it() {
    let plain = tar(&[File("a", 0o644, b"x")]);
    let script = "import lzma, sys; sys.stdout.buffer.write(lzma.compress(sys.stdin.buffer.read()))";
    let mut python = std::process::Command::new("python3")
        .args(["-c", script])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    python.stdin.take().unwrap().write_all(&plain).unwrap();
    let xz = python.wait_with_output().unwrap().stdout;
    assert_eq!(unpacked(&xz), [file("a", 0o644, "x")]);
}

#[test]
fn a_top_folder_goes_only_if_it_holds_everything() {
    let both = zipped(&[("a/x", b"1"), ("b", b"2")]);
    let paths: Vec<String> = unpacked(&both).into_iter().map(|(path, ..)| path).collect();
    assert_eq!(paths, ["a/x", "b"]);
    assert_eq!(unpacked(&tar(&[File("lone", 0o644, b"1")])), [file("lone", 0o644, "1")]);
    let beside = tar(&[File("a/x", 0o644, b"1"), Odd("b/", EntryType::Directory)]);
    assert_eq!(unpacked(&beside), [file("a/x", 0o644, "1")]);
}

#[test]
fn a_member_that_leads_out_refuses_the_archive_whatever_it_is() {
    for name in ["../x", "/x", "a/../../x", "a\\..\\x", "\\x", "C:\\x", "c:/x"] {
        let archives = [
            zipped(&[("ok", b"1"), (name, b"2")]),
            tar(&[File("ok", 0o644, b"1"), File(name, 0o644, b"2")]),
            tar(&[File("ok", 0o644, b"1"), Odd(name, EntryType::Symlink)]),
        ];
        for archive in archives {
            let error = unpack(&archive, BOUNDS).unwrap_err();
            assert!(
                matches!(&error, ArchiveError::Escape { name: found } if found == name),
                "{name}: {error}"
            );
        }
    }
}

#[test]
fn links_and_devices_are_left_out() {
    let odd = [EntryType::Symlink, EntryType::Link, EntryType::Char, EntryType::Block, EntryType::Fifo];
    for kind in odd {
        assert_eq!(unpacked(&tar(&[File("a", 0o644, b"1"), Odd("evil", kind)])), [file("a", 0o644, "1")]);
    }
}

#[test]
fn what_is_too_large_is_refused_whatever_it_claims() {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    gzip.write_all(&tar(&[File("zeros", 0o644, &[0; 4000])])).unwrap();
    let many: Vec<Entry> = (0..11).map(|_| File("a", 0o644, b"")).collect();
    let within = tar(&[File("a", 0o644, &[1; 600]), File("b", 0o644, &[1; 401])]);
    for archive in [gzip.finish().unwrap(), tar(&many), within, zipped(&[("a", &[0; 1001])])] {
        assert!(matches!(unpack(&archive, BOUNDS), Err(ArchiveError::TooLarge(_))));
    }
}

#[test]
fn what_is_no_archive_or_nothing_at_all_is_refused() {
    assert!(matches!(unpack(b"", BOUNDS), Err(ArchiveError::Empty)));
    assert!(matches!(
        unpack(b"<html>not found</html>", BOUNDS),
        Err(ArchiveError::Unreadable(_) | ArchiveError::Empty)
    ));
    let whole = zipped(&[("a", b"12345")]);
    for cut in [4, whole.len() / 2, whole.len() - 1] {
        assert!(unpack(&whole[..cut], BOUNDS).is_err(), "{cut}");
    }
    let clash = zipped(&[("x/a", b"1"), ("x/a/b", b"2"), ("y", b"")]);
    assert!(matches!(unpack(&clash, BOUNDS), Err(ArchiveError::Both { path }) if path == "x/a"));
}
