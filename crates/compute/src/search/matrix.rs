//! Matrix products whose bits do not depend on the machine's caches.

/// Above this inner dimension the library blocks by the size of the caches, and sums would differ between machines.
const INNER_MAX: usize = 512;

/// A matrix in a slice: entry (i, j) at `i * row_stride + j * column_stride`.
#[derive(Clone, Copy)]
pub(super) struct Strided<'a> {
    pub data: &'a [f32],
    pub row_stride: usize,
    pub column_stride: usize,
}

impl Strided<'_> {
    fn covers(&self, rows: usize, columns: usize) -> bool {
        (rows - 1) * self.row_stride + (columns - 1) * self.column_stride < self.data.len()
    }
}

/// `out` = `a` `b`, where `a` is rows × inner, `b` is inner × columns, and `out` has its columns one after another,
/// each of `rows` values.
pub(super) fn multiply(
    out: &mut [f32],
    [rows, inner, columns]: [usize; 3],
    a: Strided<'_>,
    b: Strided<'_>,
) {
    // A single row or column takes another path in the library, with other bits.
    assert!(
        rows > 1 && columns > 1 && inner > 0,
        "{rows} × {inner} × {columns}"
    );
    assert!(out.len() >= rows * columns && a.covers(rows, inner) && b.covers(inner, columns));
    for start in (0..inner).step_by(INNER_MAX) {
        let length = INNER_MAX.min(inner - start);
        // SAFETY: the assertions above hold every entry addressed inside its slice, and `out` is borrowed alone.
        unsafe {
            gemm::gemm(
                rows,
                columns,
                length,
                out.as_mut_ptr(),
                rows as isize,
                1,
                start > 0,
                a.data.as_ptr().add(start * a.column_stride),
                a.column_stride as isize,
                a.row_stride as isize,
                b.data.as_ptr().add(start * b.row_stride),
                b.column_stride as isize,
                b.row_stride as isize,
                1.0_f32,
                1.0_f32,
                false,
                false,
                false,
                gemm::Parallelism::None,
            );
        }
    }
}
