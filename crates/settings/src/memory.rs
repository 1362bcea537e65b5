//! What becomes of memory that a daemon gives back: it is kept for a while, for what comes next.
//!
//! A chunk passes through buffers of a quarter to a whole megabyte on its way, many times a second. glibc returns such blocks to
//! the kernel as soon as they are free and lie at the end of its heap, and gets them again page by page, each filled with
//! zeros first: that took a tenth of the time of a transfer, and more on a virtual machine whose host takes free pages away.

/// Bytes at the end of a heap that are kept. Each thread's heap may keep so many, but none more than it once needed.
#[cfg(target_env = "gnu")]
const KEPT_BYTES: i32 = 32 << 20;

/// Blocks of this size and more come from the kernel, and go back at once: none of those through which chunks pass.
#[cfg(target_env = "gnu")]
const LARGE_BYTES: i32 = 8 << 20;

/// Has the allocator keep what chunks in transfer need, also when it is free for a moment. To be called when a program
/// starts; without glibc it does nothing.
pub fn keep_transfer_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it sets two numbers, under the allocator's own lock.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE_BYTES);
        libc::mallopt(libc::M_TRIM_THRESHOLD, KEPT_BYTES);
    }
}
