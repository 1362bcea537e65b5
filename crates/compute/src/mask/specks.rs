//! What of a thresholded map is too small to be part of the particle.

/// Pieces below this part of the largest are dropped. A domain on a thin linker is often a piece of its own, and larger;
/// noise that passes a threshold is smaller by far.
const FRACTION_MIN: f64 = 0.05;

/// Clears the pieces (voxels joined by their faces) that are small beside the largest.
pub(super) fn remove(n: usize, inside: &mut [bool]) {
    let pieces = pieces(n, inside);
    let largest = pieces.iter().map(Vec::len).max().unwrap_or(0);
    for piece in pieces {
        if (piece.len() as f64) < FRACTION_MIN * largest as f64 {
            piece.iter().for_each(|&voxel| inside[voxel] = false);
        }
    }
}

fn pieces(n: usize, inside: &[bool]) -> Vec<Vec<usize>> {
    let mut unseen = inside.to_vec();
    let mut pieces = Vec::new();
    for start in 0..unseen.len() {
        if !std::mem::take(&mut unseen[start]) {
            continue;
        }
        let mut piece = vec![start];
        let mut next = 0;
        while next < piece.len() {
            for neighbour in neighbours(n, piece[next]) {
                if std::mem::take(&mut unseen[neighbour]) {
                    piece.push(neighbour);
                }
            }
            next += 1;
        }
        pieces.push(piece);
    }
    pieces
}

/// The voxels that share a face with `voxel`.
fn neighbours(n: usize, voxel: usize) -> impl Iterator<Item = usize> {
    [1, n, n * n].into_iter().flat_map(move |stride| {
        let along = voxel / stride % n;
        let before = (along > 0).then(|| voxel - stride);
        let after = (along + 1 < n).then(|| voxel + stride);
        [before, after].into_iter().flatten()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_pieces_go_and_large_ones_stay() {
        let n = 12;
        let at = |x: usize, y: usize, z: usize| (z * n + y) * n + x;
        let mut inside = vec![false; n * n * n];
        for (z, y, x) in
            (0..4).flat_map(|z| (0..4).flat_map(move |y| (0..4).map(move |x| (z, y, x))))
        {
            inside[at(x, y, z)] = true;
        }
        // Four voxels of sixty-four are a piece, three are a speck, also where they touch an edge or come after a row's end.
        let piece = [at(8, 8, 8), at(9, 8, 8), at(9, 9, 8), at(9, 9, 9)];
        let speck = [at(11, 0, 6), at(11, 1, 6), at(11, 1, 7)];
        let wrapped = at(0, 1, 8);
        for voxel in piece.iter().chain(&speck).chain([&wrapped]) {
            inside[*voxel] = true;
        }
        remove(n, &mut inside);
        assert!(piece.iter().all(|voxel| inside[*voxel]));
        assert!(speck.iter().chain([&wrapped]).all(|voxel| !inside[*voxel]));
        assert_eq!(inside.iter().filter(|inside| **inside).count(), 64 + 4);
    }
}
