//! Against BLAKE3 itself, at every size where the tree changes shape.

use super::*;
use crate::{BlobRef, ChunkListError};
use bytes::Bytes;
use proptest::prelude::*;
use std::io::Write as _;

const MIB: usize = CHUNK_BYTES as usize;

/// The input of BLAKE3's official test vectors: 0, 1, … 250, 0, 1, …
fn sample(length: usize) -> Vec<u8> {
    (0..length).map(|index| (index % 251) as u8).collect()
}

/// Sizes about 0, the hash's own 1 KiB blocks, and one to nine chunks.
fn awkward_sizes() -> Vec<usize> {
    let edges = [
        64,
        1024,
        2048,
        MIB,
        2 * MIB,
        3 * MIB,
        4 * MIB,
        5 * MIB,
        8 * MIB,
        9 * MIB,
    ];
    let around = edges
        .iter()
        .flat_map(|&edge| [edge - 1, edge, edge + 1, edge + 1025]);
    [0, 1, 2].into_iter().chain(around).collect()
}

#[test]
fn gives_what_blake3_gives() {
    for size in awkward_sizes() {
        let bytes = sample(size);
        let list = hash_bytes(&bytes);
        assert_eq!(list.blob().digest, blake3::hash(&bytes).into(), "{size}");
        assert_eq!(list.blob().size_bytes, size as u64);
        assert_eq!(list.digests().len() as u64, list.chunk_count() * 32);
    }
}

#[test]
fn official_vectors() {
    let vectors = [
        (
            0,
            "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262",
        ),
        (
            1,
            "2d3adedff11b61f14c886e35afa036736dcd87a74d27b5c1510225d0f592e213",
        ),
        (
            1024,
            "42214739f095a406f3fc83deb889744ac00df831c10daa55189b5d121c855af7",
        ),
        (
            102_400,
            "bc3e3d41a1146b069abffad3c0d44860cf664390afce4d9661f7902e7943e085",
        ),
    ];
    for (length, hex) in vectors {
        assert_eq!(
            hash_bytes(&sample(length)).blob().digest.to_string(),
            hex,
            "{length}"
        );
    }
}

#[test]
fn every_chunk_verifies_and_no_changed_one_does() {
    for size in [0, 1, MIB - 1, MIB, MIB + 1, 2 * MIB, 3 * MIB + 17, 5 * MIB] {
        let bytes = sample(size);
        let list = hash_bytes(&bytes);
        for index in 0..list.chunk_count() {
            let one = list.chunk(index).unwrap();
            let range = one.range();
            let chunk = &bytes[range.start as usize..range.end as usize];
            one.verify(chunk).unwrap();
            assert!(
                list.chunk(index + 1)
                    .is_none_or(|next| next.verify(chunk).is_err())
            );
            let mut changed = chunk.to_vec();
            changed.push(0);
            assert!(one.verify(&changed).is_err());
            changed.pop();
            if let Some(byte) = changed.last_mut() {
                *byte ^= 1;
                assert!(one.verify(&changed).is_err());
                assert!(one.verify(&changed[1..]).is_err());
            }
        }
        assert!(list.chunk(u64::MAX).is_none());
    }
}

#[test]
fn a_list_must_fold_up_to_its_blob() {
    let list = hash_bytes(&sample(3 * MIB + 1));
    let (blob, digests) = (list.blob(), list.digests().clone());
    assert_eq!(ChunkList::new(blob, digests.clone()), Ok(list));

    let mut swapped = digests.to_vec();
    swapped.rotate_left(32);
    assert!(matches!(
        ChunkList::new(blob, swapped.into()),
        Err(ChunkListError::Root { .. })
    ));
    for length in [0, 31, 96, 127] {
        assert!(matches!(
            ChunkList::new(blob, digests.slice(..length)),
            Err(ChunkListError::Length { .. })
        ));
    }
    let absurd = BlobRef {
        size_bytes: u64::MAX,
        ..blob
    };
    assert!(ChunkList::new(absurd, digests).is_err());
    assert!(ChunkList::new(absurd, Bytes::new()).is_err());
}

#[test]
fn a_wrong_size_is_caught_at_the_last_chunk() {
    let bytes = sample(MIB + 100);
    let list = hash_bytes(&bytes);
    let longer = BlobRef {
        size_bytes: list.blob().size_bytes + 1,
        ..list.blob()
    };
    let list = ChunkList::new(longer, list.digests().clone()).unwrap();
    assert!(list.chunk(1).unwrap().verify(&bytes[MIB..]).is_err());
}

#[test]
fn a_file_hashes_like_its_bytes() {
    let bytes = sample(2 * MIB + 5);
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&bytes).unwrap();
    io::Seek::rewind(&mut file).unwrap();
    let mut told = Vec::new();
    let list = hash_file(&file, |done| told.push(done)).unwrap();
    assert_eq!(list, hash_bytes(&bytes));
    assert_eq!(told, [bytes.len() as u64]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn how_bytes_are_cut_does_not_matter(
        size in 0..4 * MIB,
        cuts in prop::collection::vec(1..2 * MIB, 0..20),
    ) {
        let bytes = sample(size);
        let mut hasher = Hasher::new();
        let mut rest = &bytes[..];
        for cut in cuts {
            let (now, later) = rest.split_at(cut.min(rest.len()));
            hasher.update(now);
            rest = later;
        }
        hasher.update(rest);
        prop_assert_eq!(hasher.finish(), hash_bytes(&bytes));
        prop_assert_eq!(hash_bytes(&bytes).blob().digest, blake3::hash(&bytes).into());
    }
}
