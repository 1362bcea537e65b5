//! Compressed maps: read whoever wrote them, and refused within bounds where they are damaged or lie.

use std::io::Write;
use std::path::{Path, PathBuf};

use dewar_formats::inspect::inspect;
use dewar_formats::mrc::{Compression, MrcError, MrcFile, MrcKind, write_map};
use tempfile::TempDir;

const KINDS: [Compression; 3] = [Compression::Gzip, Compression::Bzip2, Compression::Zstd];

fn pack(bytes: &[u8], compression: Compression) -> Vec<u8> {
    match compression {
        Compression::Gzip => {
            let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(6));
            packer.write_all(bytes).unwrap();
            packer.finish().unwrap()
        }
        Compression::Bzip2 => {
            let mut packer = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::new(6));
            packer.write_all(bytes).unwrap();
            packer.finish().unwrap()
        }
        Compression::Zstd => zstd::encode_all(bytes, 3).unwrap(),
    }
}

/// The values of a map, and its bytes.
fn map(folder: &TempDir) -> (Vec<f32>, Vec<u8>) {
    let path = folder.path().join("plain.mrc");
    let values: Vec<f32> = (0..1000).map(|i| (i * 37 % 101) as f32 / 7.0).collect();
    write_map(&path, [10; 3], 1.5, &values, "test").unwrap();
    let bytes = std::fs::read(&path).unwrap();
    (values, bytes)
}

fn written(folder: &TempDir, bytes: &[u8]) -> PathBuf {
    // The name says nothing.
    let path = folder.path().join("packed.map");
    std::fs::write(&path, bytes).unwrap();
    path
}

#[test]
fn every_kind_is_told_by_content_and_unpacked() {
    let folder = tempfile::tempdir().unwrap();
    let (values, bytes) = map(&folder);
    for kind in KINDS {
        let path = written(&folder, &pack(&bytes, kind));
        let file = MrcFile::open(&path).unwrap();
        assert_eq!(file.compression(), Some(kind));
        assert_eq!(file.read_all().unwrap(), values, "{kind}");
        let report = inspect(&path, None, &mut |_| {}).unwrap();
        assert_eq!(report.contents.kind(), "map", "{kind}");
    }
}

/// Written by `bzip2` 1.0.8, as two streams, and by `zstd` 1.5.4, as two frames.
#[test]
fn files_of_the_original_programs_are_read() {
    for name in ["ramp.mrc.bz2", "ramp.mrc.zst"] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/data")
            .join(name);
        let file = MrcFile::open(&path).unwrap();
        let header = file.header();
        assert_eq!((header.size, header.kind), ([8; 3], MrcKind::Map), "{name}");
        assert_eq!(header.pixel_size_angstrom, Some(1.25), "{name}");
        let expected: Vec<f32> = (0..512).map(|i| (i % 23) as f32 - 5.0).collect();
        assert_eq!(file.read_all().unwrap(), expected, "{name}");
    }
}

#[test]
fn damaged_files_are_named_with_their_compression() {
    let folder = tempfile::tempdir().unwrap();
    let (_, bytes) = map(&folder);
    for kind in KINDS {
        let packed = pack(&bytes, kind);
        for cut in [packed.len() / 2, packed.len() - 1] {
            let path = written(&folder, &packed[..cut]);
            let error = MrcFile::open(&path).map(|_| ()).unwrap_err();
            assert!(matches!(error, MrcError::Unpack { .. }), "{error:?}");
            let expected = format!("packed.map: cannot be unpacked as {kind}");
            assert!(error.to_string().ends_with(&expected), "{error}");
        }
    }
    // zstd's check value is optional, and seldom there.
    for kind in [Compression::Gzip, Compression::Bzip2] {
        let mut packed = pack(&bytes, kind);
        let in_check_value = packed.len() - 3;
        packed[in_check_value] ^= 0x55;
        let error = MrcFile::open(&written(&folder, &packed)).map(|_| ());
        assert!(
            matches!(error, Err(MrcError::Unpack { .. })),
            "{kind}: {error:?}"
        );
    }
}

#[test]
fn a_map_that_is_shorter_than_its_header_says_is_truncated_and_no_more() {
    let folder = tempfile::tempdir().unwrap();
    let (_, bytes) = map(&folder);
    for kind in KINDS {
        let path = written(&folder, &pack(&bytes[..bytes.len() - 4], kind));
        let error = MrcFile::open(&path).map(|_| ()).unwrap_err();
        assert!(
            matches!(error, MrcError::Truncated { .. }),
            "{kind}: {error:?}"
        );
    }
}

#[test]
fn a_small_file_cannot_fill_the_memory() {
    let folder = tempfile::tempdir().unwrap();
    let (values, mut bytes) = map(&folder);
    for kind in KINDS {
        // Beyond what the header promises nothing is unpacked.
        let long = [&bytes[..], &vec![0; 64 << 20]].concat();
        let file = MrcFile::open(&written(&folder, &pack(&long, kind))).unwrap();
        assert_eq!(file.read_all().unwrap(), values, "{kind}");
        assert_eq!(file.warnings().len(), 1, "{kind}");
    }
    // 100,000 sections of 1024 x 1024: 400 GB.
    for (offset, side) in [(0, 1024), (4, 1024), (8, 100_000_i32)] {
        bytes[offset..offset + 4].copy_from_slice(&side.to_le_bytes());
    }
    for kind in KINDS {
        let error = MrcFile::open(&written(&folder, &pack(&bytes, kind))).unwrap_err();
        let MrcError::Unpack { source, .. } = error else {
            panic!("{kind}: {error:?}")
        };
        let expected = "its header promises 419430401024 bytes; at most 8589934592 are unpacked in memory (unpack the file first)";
        assert_eq!(source.to_string(), expected, "{kind}");
    }
}
