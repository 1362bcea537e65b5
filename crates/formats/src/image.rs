//! Whether the pixels of one image can be used at all.

/// Why an image's pixels are of no use.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
pub enum ImageProblem {
    /// At least one pixel is NaN or infinite.
    #[error("{count} of its pixels are NaN or infinite (the first: pixel {first})")]
    NonFinite {
        /// How many pixels.
        count: usize,
        /// The first one's position, counted from 0 along x, then y.
        first: usize,
    },
    /// Every pixel has one value, so there is no signal.
    #[error("every pixel is {value}: the image is constant")]
    Constant {
        /// That value.
        value: f32,
    },
}

/// Looks for pixels that would poison every sum they enter, and for images without signal.
/// An empty slice has no problem.
pub fn check_image(pixels: &[f32]) -> Option<ImageProblem> {
    if let Some(first) = pixels.iter().position(|pixel| !pixel.is_finite()) {
        let count = pixels.iter().filter(|pixel| !pixel.is_finite()).count();
        return Some(ImageProblem::NonFinite { count, first });
    }
    let value = *pixels.first()?;
    pixels
        .iter()
        .all(|pixel| *pixel == value)
        .then_some(ImageProblem::Constant { value })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_cannot_be_used() {
        let cases: [(&[f32], Option<ImageProblem>); 5] = [
            (&[0.0, 1.0, 2.0], None),
            (&[], None),
            (&[0.5; 4], Some(ImageProblem::Constant { value: 0.5 })),
            (
                &[0.0, f32::NAN, f32::INFINITY],
                Some(ImageProblem::NonFinite { count: 2, first: 1 }),
            ),
            (
                &[f32::NEG_INFINITY; 2],
                Some(ImageProblem::NonFinite { count: 2, first: 0 }),
            ),
        ];
        for (pixels, expected) in cases {
            assert_eq!(check_image(pixels), expected, "{pixels:?}");
        }
    }
}
