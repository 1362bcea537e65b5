//! Grey values as pictures.

use std::io;

/// This part of the values at either end does not decide the contrast: a hot pixel must not make the rest one grey.
const TAIL: f64 = 0.002;

/// Grey values, row after row from the top.
#[derive(Debug, Clone, PartialEq)]
pub struct Grey {
    width: usize,
    values: Vec<f32>,
}

/// Why there is no picture of grey values.
#[derive(Debug, thiserror::Error)]
pub enum GreyError {
    /// They are no rectangle.
    #[error("{count} values are no rows of {width}")]
    Shape {
        /// The width asked for.
        width: usize,
        /// The values given.
        count: usize,
    },
    /// The encoder refused.
    #[error(transparent)]
    Png(#[from] png::EncodingError),
}

impl Grey {
    /// A picture of rows of `width` values.
    ///
    /// # Errors
    /// If the values do not fill them.
    pub fn new(width: usize, values: Vec<f32>) -> Result<Self, GreyError> {
        let count = values.len();
        if count == 0 || !count.is_multiple_of(width.max(1)) {
            return Err(GreyError::Shape { width, count });
        }
        Ok(Self { width, values })
    }

    /// How wide.
    pub fn width(&self) -> usize {
        self.width
    }

    /// How high.
    pub fn height(&self) -> usize {
        self.values.len() / self.width
    }

    /// The values from black to white, but for a few at either end.
    fn contrast(&self) -> (f32, f32) {
        let mut sorted: Vec<f32> = self
            .values
            .iter()
            .copied()
            .filter(|v| v.is_finite())
            .collect();
        sorted.sort_by(f32::total_cmp);
        let Some(last) = sorted.len().checked_sub(1) else {
            return (0.0, 1.0);
        };
        let tail = (sorted.len() as f64 * TAIL) as usize;
        (sorted[tail], sorted[last - tail])
    }

    /// From 0 for black to 255 for white.
    pub(crate) fn levels(&self) -> Vec<u8> {
        let (black, white) = self.contrast();
        let span = if white > black { white - black } else { 1.0 };
        let level = |value: &f32| ((value - black) / span * 255.0).round().clamp(0.0, 255.0) as u8;
        self.values.iter().map(level).collect()
    }
}

/// The levels of pictures in a PNG file.
pub(crate) fn png(width: usize, levels: &[u8]) -> Result<Vec<u8>, GreyError> {
    let mut bytes = Vec::new();
    let height = levels.len() / width;
    let mut encoder = png::Encoder::new(io::Cursor::new(&mut bytes), width as u32, height as u32);
    encoder.set_color(png::ColorType::Grayscale);
    encoder.set_depth(png::BitDepth::Eight);
    let mut writer = encoder.write_header()?;
    writer.write_image_data(levels)?;
    writer.finish()?;
    Ok(bytes)
}

/// Pictures of one size side by side, in rows, with a white line between them.
pub(crate) fn tiled(rows: &[Vec<&Grey>]) -> Option<(usize, Vec<u8>)> {
    const GAP: usize = 2;
    let first = *rows.first()?.first()?;
    let (width, height) = (first.width(), first.height());
    let columns = rows.iter().map(Vec::len).max()?;
    let total = columns * (width + GAP) - GAP;
    let mut levels = vec![255; total * (rows.len() * (height + GAP) - GAP)];
    for (row, tiles) in rows.iter().enumerate() {
        for (column, tile) in tiles.iter().enumerate() {
            let corner = row * (height + GAP) * total + column * (width + GAP);
            for (y, line) in tile
                .levels()
                .chunks_exact(tile.width())
                .take(height)
                .enumerate()
            {
                let length = width.min(line.len());
                levels[corner + y * total..][..length].copy_from_slice(&line[..length]);
            }
        }
    }
    Some((total, levels))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_holds_the_values_it_was_made_of() {
        let grey = Grey::new(16, (0..256).map(|value| value as f32 - 40.0).collect()).unwrap();
        // So few values that none is cut off at the ends.
        let file = png(16, &grey.levels()).unwrap();
        let mut reader = png::Decoder::new(io::Cursor::new(file))
            .read_info()
            .unwrap();
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        let info = reader.next_frame(&mut pixels).unwrap();
        assert_eq!((info.width, info.height), (16, 16));
        assert_eq!(pixels, (0..=255).collect::<Vec<u8>>());
    }

    #[test]
    fn one_hot_pixel_leaves_the_others_their_contrast() {
        let mut values: Vec<f32> = (0..1000).map(|value| value as f32).collect();
        values[500] = 1e9;
        let levels = Grey::new(100, values).unwrap().levels();
        assert_eq!(levels[500], 255);
        assert!((120..136).contains(&levels[501]), "{}", levels[501]);
    }

    #[test]
    fn a_flat_or_broken_picture_is_still_one() {
        assert_eq!(Grey::new(2, vec![3.0; 4]).unwrap().levels(), [0; 4]);
        let levels = Grey::new(2, vec![f32::NAN, 0.0, 1.0, f32::NAN]).unwrap();
        assert_eq!(levels.levels()[1..3], [0, 255]);
        assert!(Grey::new(3, vec![0.0; 4]).is_err());
        assert!(Grey::new(0, vec![]).is_err());
    }

    #[test]
    fn tiles_lie_side_by_side() {
        let tile = |value: f32| Grey::new(2, vec![0.0, value, 0.0, 1.0]).unwrap();
        let (a, b) = (tile(1.0), tile(0.0));
        let (width, levels) = tiled(&[vec![&a, &b]]).unwrap();
        assert_eq!(width, 6);
        assert_eq!(levels[..6], [0, 255, 255, 255, 0, 0]);
        assert_eq!(levels[6..], [0, 255, 255, 255, 0, 255]);
    }
}
