//! Blobs: immutable bytes named by their BLAKE3 digest, moved and checked in chunks of 1 MiB.
//!
//! [`Hasher`] names bytes and cuts them; [`BlobClient`] asks a holder for them over the wire;
//! [`ChunkCache`] keeps what a worker fetched, [`BlobStore`] what a broker owns. A chunk's digest is a
//! subtree value of the blob's own hash, so a list of chunk digests proves itself, and `b3sum` prints what we store.

mod buffer;
mod cache;
mod chunk;
mod chunk_list;
mod chunk_set;
mod client;
mod digest;
mod hasher;
mod local_file;
mod pace;
mod pieces;
mod source;
mod stamp;
mod store;
mod transient;

pub use cache::{CACHE_BYTES_DEFAULT, ChunkCache, Examined, FetchError, Limit, examine_cache};
pub use chunk::{Chunk, ChunkCheck, chunk_digest, chunk_range, pieces_of};
pub use chunk_list::{ChunkList, ChunkListError, CorruptChunk, chunk_count};
pub use chunk_set::ChunkSet;
pub use client::{
    BlobClient, FileProgress, ListError, NamedChunks, NamedFile, ReadError, WriteError,
};
pub use digest::{BlobRef, Digest, MalformedBlobRef, MalformedDigest};
pub use hasher::{Hasher, hash_bytes, hash_file};
pub use local_file::LocalFile;
pub use pace::Pace;
pub use pieces::Pieces;
pub use source::Source;
pub use store::{
    BlobStore, BlobWriter, ChunkError, ImportError, LoadError, LoadedBlob, Pin, SaveError, Swept,
};
pub use transient::is_transient;
