//! Maps and images as plain arrays.
//!
//! A [`Volume`] is a cube and an [`Image`] a square of grey values, x fastest, whose origin is the voxel n/2 (rounded
//! down) on every axis. Sizes are checked where they are made, so the code that computes on them need not ask again.

use thiserror::Error;

/// The largest edge a map may have, padding and all, in voxels: slices are read from its transform by 32-bit indices.
pub const BOX_SIZE_PX_MAX: usize = 1280;

/// The largest edge an image may have: twice that of a map, since it is padded too.
pub const IMAGE_SIZE_PX_MAX: usize = 2 * BOX_SIZE_PX_MAX;

/// How much a map of edge `n` can be padded at most: less than 2 beyond 640 voxels.
pub fn padding_max(n: usize) -> f64 {
    // A little less, so that the padded edge is not rounded up beyond the limit.
    BOX_SIZE_PX_MAX as f64 / n as f64 * (1.0 - 1e-9)
}

/// Why an array is no map or image.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SizeError {
    /// The box is empty or larger than [`BOX_SIZE_PX_MAX`].
    #[error("box of {n} px is not between 1 and {BOX_SIZE_PX_MAX} px")]
    Box {
        /// The edge asked for.
        n: usize,
    },
    /// The image is empty or larger than [`IMAGE_SIZE_PX_MAX`].
    #[error("image of {n} px is not between 1 and {IMAGE_SIZE_PX_MAX} px")]
    Image {
        /// The edge asked for.
        n: usize,
    },
    /// The number of grey values is not that of the box.
    #[error("{found} grey values where a box of {n} px has {expected}")]
    Length {
        /// The edge asked for.
        n: usize,
        /// What a box of that edge holds.
        expected: usize,
        /// What was given.
        found: usize,
    },
}

/// A cubic map. Grey values in z, y, x order (x fastest); the origin is voxel n/2 on each axis.
#[derive(Debug, Clone, PartialEq)]
pub struct Volume {
    n: usize,
    data: Vec<f32>,
}

impl Volume {
    /// A map of edge `n` from its n³ grey values.
    pub fn new(n: usize, data: Vec<f32>) -> Result<Self, SizeError> {
        check_box(n)?;
        check_length(n, 3, data.len())?;
        Ok(Self { n, data })
    }

    /// A map of zeros.
    pub fn zeros(n: usize) -> Result<Self, SizeError> {
        Self::from_fn(n, |_, _, _| 0.0)
    }

    /// A map from a function of the position (x, y, z) in voxels from the origin.
    pub fn from_fn(
        n: usize,
        mut value: impl FnMut(f64, f64, f64) -> f64,
    ) -> Result<Self, SizeError> {
        check_box(n)?;
        let at = |index: usize| index as f64 - (n / 2) as f64;
        let mut data = Vec::with_capacity(n * n * n);
        for z in 0..n {
            for y in 0..n {
                data.extend((0..n).map(|x| value(at(x), at(y), at(z)) as f32));
            }
        }
        Ok(Self { n, data })
    }

    /// The edge in voxels.
    pub fn n(&self) -> usize {
        self.n
    }

    /// The grey values.
    pub fn data(&self) -> &[f32] {
        &self.data
    }

    /// The grey values, to change.
    pub fn data_mut(&mut self) -> &mut [f32] {
        &mut self.data
    }

    /// The grey values, to keep.
    pub fn into_data(self) -> Vec<f32> {
        self.data
    }

    /// A map of `combine(own, other)` at each voxel.
    ///
    /// # Panics
    /// If the boxes differ.
    #[must_use]
    pub fn combined(&self, other: &Self, combine: impl Fn(f32, f32) -> f32) -> Self {
        assert_eq!(self.n, other.n, "boxes");
        let pairs = self.data.iter().zip(&other.data);
        Self {
            n: self.n,
            data: pairs.map(|(own, other)| combine(*own, *other)).collect(),
        }
    }

    /// Cropped, or padded with zeros, to edge `n`, the origin staying the origin.
    pub fn resized(&self, n: usize) -> Result<Self, SizeError> {
        let mut out = Self::zeros(n)?;
        let (from, to, length) = overlap(self.n, n);
        for z in 0..length {
            for y in 0..length {
                let source = ((from + z) * self.n + from + y) * self.n + from;
                let target = ((to + z) * n + to + y) * n + to;
                out.data[target..target + length]
                    .copy_from_slice(&self.data[source..source + length]);
            }
        }
        Ok(out)
    }
}

/// A square image. Grey values in y, x order (x fastest); the origin is pixel n/2 on each axis.
#[derive(Debug, Clone, PartialEq)]
pub struct Image {
    n: usize,
    data: Vec<f32>,
}

impl Image {
    /// An image of edge `n` from its n² grey values.
    pub fn new(n: usize, data: Vec<f32>) -> Result<Self, SizeError> {
        check_image(n)?;
        check_length(n, 2, data.len())?;
        Ok(Self { n, data })
    }

    /// An image of zeros.
    pub fn zeros(n: usize) -> Result<Self, SizeError> {
        Self::from_fn(n, |_, _| 0.0)
    }

    /// An image from a function of the position (x, y) in pixels from the origin.
    pub fn from_fn(n: usize, mut value: impl FnMut(f64, f64) -> f64) -> Result<Self, SizeError> {
        check_image(n)?;
        let at = |index: usize| index as f64 - (n / 2) as f64;
        let mut data = Vec::with_capacity(n * n);
        for y in 0..n {
            data.extend((0..n).map(|x| value(at(x), at(y)) as f32));
        }
        Ok(Self { n, data })
    }

    /// The edge in pixels.
    pub fn n(&self) -> usize {
        self.n
    }

    /// The grey values.
    pub fn data(&self) -> &[f32] {
        &self.data
    }

    /// The grey values, to change.
    pub fn data_mut(&mut self) -> &mut [f32] {
        &mut self.data
    }

    /// The grey values, to keep.
    pub fn into_data(self) -> Vec<f32> {
        self.data
    }

    /// Cropped, or padded with zeros, to edge `n`, the origin staying the origin.
    pub fn resized(&self, n: usize) -> Result<Self, SizeError> {
        let mut out = Self::zeros(n)?;
        let (from, to, length) = overlap(self.n, n);
        for y in 0..length {
            let source = (from + y) * self.n + from;
            let target = (to + y) * n + to;
            out.data[target..target + length].copy_from_slice(&self.data[source..source + length]);
        }
        Ok(out)
    }
}

/// Refuses maps that are empty or too large.
pub(crate) fn check_box(n: usize) -> Result<(), SizeError> {
    if n == 0 || n > BOX_SIZE_PX_MAX {
        Err(SizeError::Box { n })
    } else {
        Ok(())
    }
}

/// Refuses images that are empty or too large.
pub(crate) fn check_image(n: usize) -> Result<(), SizeError> {
    if n == 0 || n > IMAGE_SIZE_PX_MAX {
        Err(SizeError::Image { n })
    } else {
        Ok(())
    }
}

fn check_length(n: usize, dimensions: u32, found: usize) -> Result<(), SizeError> {
    let expected = n.pow(dimensions);
    if found == expected {
        Ok(())
    } else {
        Err(SizeError::Length { n, expected, found })
    }
}

/// Where the common part of two boxes with the same origin starts in each, and how long it is.
fn overlap(source: usize, target: usize) -> (usize, usize, usize) {
    let shift = source / 2;
    let other = target / 2;
    let before = shift.min(other);
    let after = (source - shift).min(target - other);
    (shift - before, other - before, before + after)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resizing_keeps_the_origin() {
        for (from, to) in [(65, 64), (64, 65), (7, 12), (12, 7), (5, 5)] {
            let mut volume = Volume::zeros(from).unwrap();
            let c = from / 2;
            volume.data_mut()[(c * from + c) * from + c] = 2.0;
            volume.data_mut()[((c + 1) * from + c - 1) * from + c] = 3.0;
            let resized = volume.resized(to).unwrap();
            let d = to / 2;
            assert_eq!(resized.data()[(d * to + d) * to + d], 2.0);
            assert_eq!(resized.data()[((d + 1) * to + d - 1) * to + d], 3.0);
            assert_eq!(resized.data().iter().sum::<f32>(), 5.0);

            let mut image = Image::zeros(from).unwrap();
            image.data_mut()[(c + 1) * from + c] = 4.0;
            assert_eq!(image.resized(to).unwrap().data()[(d + 1) * to + d], 4.0);
        }
    }

    #[test]
    fn wrong_sizes_are_refused() {
        assert_eq!(Volume::new(0, vec![]), Err(SizeError::Box { n: 0 }));
        assert_eq!(
            Volume::new(2, vec![0.0; 7]),
            Err(SizeError::Length {
                n: 2,
                expected: 8,
                found: 7
            })
        );
        assert_eq!(
            Image::new(usize::MAX, vec![]),
            Err(SizeError::Image { n: usize::MAX })
        );
    }

    #[test]
    fn large_maps_are_padded_as_far_as_they_can_be() {
        for (n, expected) in [
            (64, 1280),
            (640, 1280),
            (858, 1280),
            (1024, 1280),
            (1280, 1280),
        ] {
            let padded = crate::gridding::padded_size(n, padding_max(n));
            assert_eq!(padded, expected, "{n}");
            assert!(check_box(padded).is_ok());
        }
        assert!(padding_max(512) > 2.0);
    }
}
