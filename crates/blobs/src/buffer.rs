//! Memory for one chunk, used again and again.
//!
//! Fresh memory comes from the kernel page by page, each filled with zeros first: for a chunk that takes longer than to
//! hash it. So a few buffers are kept when they are done with, for whoever needs one next.

use bytes::Bytes;
use dewar_proto::limits::CHUNK_BYTES;
use std::{
    ops::{Deref, DerefMut},
    sync::{Mutex, PoisonError},
};

/// Buffers kept: as many as chunks are on their way at once.
const SPARE_MAX: usize = 32;

static SPARE: Mutex<Vec<Box<[u8]>>> = Mutex::new(Vec::new());

/// So many bytes, no more than a chunk has. What is in them at first means nothing.
#[derive(Debug)]
pub(crate) struct Buffer {
    /// A chunk's worth, until it is dropped.
    memory: Box<[u8]>,
    len: usize,
}

impl Buffer {
    /// One of so many bytes.
    pub(crate) fn new(len: usize) -> Self {
        assert!(
            len as u64 <= CHUNK_BYTES,
            "{len} bytes are more than a chunk"
        );
        let spare = spare().pop();
        let memory = spare.unwrap_or_else(|| vec![0; CHUNK_BYTES as usize].into());
        Self { memory, len }
    }

    /// The same memory, to be read by many. It is used again when the last of them has done.
    pub(crate) fn freeze(self) -> Bytes {
        Bytes::from_owner(self)
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.memory[..self.len]
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.memory[..self.len]
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let mut spare = spare();
        if spare.len() < SPARE_MAX {
            spare.push(std::mem::take(&mut self.memory));
        }
    }
}

fn spare() -> std::sync::MutexGuard<'static, Vec<Box<[u8]>>> {
    // Each change is one call.
    SPARE.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_is_used_again_when_the_last_reader_has_done() {
        let mut first = Buffer::new(5);
        first.copy_from_slice(b"first");
        let place = first.as_ptr();
        let one = first.freeze();
        let other = one.slice(1..3);
        drop(one);
        let second = Buffer::new(CHUNK_BYTES as usize);
        assert_ne!(second.as_ptr(), place, "somebody reads it");
        assert_eq!(other, b"ir"[..]);
        assert_eq!(second.len() as u64, CHUNK_BYTES);
        drop((other, second));
        let again = [Buffer::new(1), Buffer::new(1)];
        assert!(again.iter().any(|one| one.as_ptr() == place));
    }
}
