//! A chunk as the network gave it: a few pieces, which are hashed and written one after the other and never put together.
//!
//! To put them together takes as long as half of their hash, and memory besides.

use bytes::{Bytes, BytesMut};

/// Smaller ones are put together all the same: who sends single bytes must not cost a write for each.
const PIECE_BYTES_MIN: usize = 16 << 10;

/// Bytes in pieces, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pieces {
    pieces: Vec<Bytes>,
    /// What follows them, until it is large enough.
    rest: BytesMut,
}

impl Pieces {
    /// The next bytes.
    pub fn push(&mut self, piece: Bytes) {
        if self.rest.is_empty() && piece.len() >= PIECE_BYTES_MIN {
            self.pieces.push(piece);
            return;
        }
        self.rest.extend_from_slice(&piece);
        if self.rest.len() >= PIECE_BYTES_MIN {
            self.pieces.push(self.rest.split().freeze());
        }
    }

    /// All of them, in order.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let pieces = self.pieces.iter().map(AsRef::as_ref);
        pieces.chain((!self.rest.is_empty()).then_some(&*self.rest))
    }

    /// How many bytes they have together.
    pub fn size_bytes(&self) -> u64 {
        self.iter().map(|piece| piece.len() as u64).sum()
    }

    /// In one piece, which costs a copy if there are more.
    pub fn into_bytes(mut self) -> Bytes {
        if let ([_], true) = (&self.pieces[..], self.rest.is_empty()) {
            return self.pieces.swap_remove(0);
        }
        let mut bytes = BytesMut::with_capacity(self.size_bytes() as usize);
        for piece in self.iter() {
            bytes.extend_from_slice(piece);
        }
        bytes.freeze()
    }
}

impl From<Bytes> for Pieces {
    fn from(bytes: Bytes) -> Self {
        Self {
            pieces: vec![bytes],
            rest: BytesMut::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_the_bytes_they_are_of() {
        let mut pieces = Pieces::default();
        assert_eq!(pieces.clone().into_bytes(), Bytes::new());
        let large = Bytes::from(vec![7; PIECE_BYTES_MIN]);
        pieces.push(large.clone());
        let alone = pieces.clone().into_bytes();
        assert_eq!(alone.as_ptr(), large.as_ptr(), "not copied");
        let mut expected = large.to_vec();
        for n in 0..3 * PIECE_BYTES_MIN {
            pieces.push(Bytes::from(vec![n as u8]));
            expected.push(n as u8);
        }
        pieces.push(Bytes::from_static(b"end"));
        expected.extend_from_slice(b"end");
        assert_eq!(pieces.iter().count(), 5);
        assert_eq!(pieces.size_bytes(), expected.len() as u64);
        assert_eq!(pieces.into_bytes(), expected);
    }
}
