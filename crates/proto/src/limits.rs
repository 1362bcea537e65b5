//! Bounds of the wire, the same on both ends.

/// Bytes of one chunk of a blob: the unit that is fetched, checked and cached.
///
/// A power of two of BLAKE3's own 1 KiB blocks, so that a chunk's digest is a subtree value of the blob's.
pub const CHUNK_BYTES: u64 = 1 << 20;

/// Parameters or an output message beyond this travel as blobs, so that control messages stay small.
pub const PAYLOAD_INLINE_BYTES_MAX: usize = 64 << 10;

/// Blobs one task reads or gives: more than the shards and blocks of any refinement.
pub const TASK_BLOBS_MAX: usize = 4096;

/// Bytes of data in one message of a blob stream: larger ones are slower and hold up what shares the connection.
pub const STREAM_DATA_BYTES: usize = 256 << 10;

/// Largest message either end decodes. A chunk list of a 4 TiB blob is 128 MiB, but nothing else comes near.
pub const MESSAGE_BYTES_MAX: usize = 8 << 20;

/// Tasks in one message of a submit stream.
pub const SUBMIT_TASKS_MAX: usize = 1000;

/// Inputs of the tasks in it together: more than half a message of the largest has of the shortest that mean anything.
pub const SUBMIT_INPUTS_MAX: usize = 1 << 19;

/// Values in any other message, those inside them not counted: more than fit one if each has 32 bytes, as an id and what is
/// said of it.
pub const MESSAGE_RECORDS_MAX: usize = MESSAGE_BYTES_MAX / 32;

/// HTTP/2 frames of the size of a chunk: 20 to 80 % more throughput than the default 16 KiB.
pub const FRAME_BYTES: u32 = 1 << 20;

/// Flow-control window of one stream: fills a fast link with a delay of 20 ms.
pub const STREAM_WINDOW_BYTES: u32 = 8 << 20;

/// Flow-control window of one connection.
pub const CONNECTION_WINDOW_BYTES: u32 = 16 << 20;
