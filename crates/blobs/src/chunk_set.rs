//! Which chunks of a blob: a set of indices, and the bitmap by which it travels.

use roaring::RoaringBitmap;

/// Indices of chunks. Blobs of up to 4 PiB; runs cost next to nothing.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ChunkSet {
    indices: RoaringBitmap,
}

impl ChunkSet {
    /// The chunks of a bitmap, bit i of which is bit `i % 8` of byte `i / 8`.
    pub fn from_bitmap(bitmap: &[u8]) -> Self {
        Self {
            indices: RoaringBitmap::from_lsb0_bytes(0, bitmap),
        }
    }

    /// The bitmap, as short as can be.
    pub fn to_bitmap(&self) -> Vec<u8> {
        let mut bitmap = vec![0; self.indices.max().map_or(0, |last| last as usize / 8 + 1)];
        for index in &self.indices {
            bitmap[index as usize / 8] |= 1 << (index % 8);
        }
        bitmap
    }

    /// Adds a chunk; says whether it was not there. Those beyond 4 PiB are not noted.
    pub fn insert(&mut self, index: u64) -> bool {
        u32::try_from(index).is_ok_and(|index| self.indices.insert(index))
    }

    /// Adds all of another set.
    pub fn insert_all(&mut self, other: &Self) {
        self.indices |= &other.indices;
    }

    /// Takes out all of another set.
    pub fn remove_all(&mut self, other: &Self) {
        self.indices -= &other.indices;
    }

    /// Whether a chunk is among them.
    pub fn contains(&self, index: u64) -> bool {
        u32::try_from(index).is_ok_and(|index| self.indices.contains(index))
    }

    /// How many there are.
    pub fn len(&self) -> u64 {
        self.indices.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.indices.is_empty()
    }

    /// The indices, ascending.
    pub fn iter(&self) -> impl Iterator<Item = u64> + '_ {
        self.indices.iter().map(u64::from)
    }

    /// The last index.
    pub fn max(&self) -> Option<u64> {
        self.indices.max().map(u64::from)
    }
}

impl FromIterator<u64> for ChunkSet {
    fn from_iter<I: IntoIterator<Item = u64>>(indices: I) -> Self {
        let mut set = Self::default();
        for index in indices {
            set.insert(index);
        }
        set
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_survives_its_bitmap() {
        for indices in [vec![], vec![0], vec![7, 8], vec![3, 64, 100_000]] {
            let set: ChunkSet = indices.iter().copied().collect();
            let bitmap = set.to_bitmap();
            assert_eq!(ChunkSet::from_bitmap(&bitmap), set);
            assert_eq!(set.iter().collect::<Vec<_>>(), indices);
            assert_ne!(bitmap.last(), Some(&0), "as short as can be");
        }
        assert_eq!(ChunkSet::from_bitmap(&[0b101]).to_bitmap(), [0b101]);
    }

    #[test]
    fn what_no_blob_has_is_not_among_them() {
        let set: ChunkSet = [1, 2, 5].into_iter().collect();
        assert!(!set.contains(1 << 40));
    }
}
