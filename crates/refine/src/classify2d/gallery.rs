//! A picture of all class averages, each over a line that says its number, its particles and its resolution.

use crate::error::RefineError;
use dewar_compute::volume::Image;
use dewar_formats::atomic;
use std::{io, path::Path};

/// Averages in a row.
const COLUMNS: usize = 10;

/// Fewest pixels of a tile's side: the line below needs room.
const SIDE_MIN: usize = 120;

/// Between tiles.
const GAP: usize = 4;

/// Height of the line below a tile.
const LINE: usize = 16;

/// Each dot of a letter is so many pixels wide and high.
const DOT: usize = 2;

/// Grey values beyond so many standard deviations of an average are black or white.
const CONTRAST: f32 = 3.0;

const BACKGROUND: u8 = 20;
const INK: u8 = 230;

/// One average.
pub struct Tile<'a> {
    /// Its picture.
    pub image: &'a Image,
    /// What stands below: digits, blanks and `.:A`.
    pub label: String,
}

/// Writes the picture as PNG.
///
/// # Errors
/// If the disk refuses.
pub fn write(path: &Path, tiles: &[Tile<'_>]) -> Result<(), RefineError> {
    let canvas = draw(tiles);
    atomic::write(path, |file| {
        let mut encoder = png::Encoder::new(file, canvas.width as u32, canvas.height() as u32);
        encoder.set_color(png::ColorType::Grayscale);
        encoder.set_depth(png::BitDepth::Eight);
        let mut writer = encoder.write_header().map_err(io::Error::other)?;
        writer
            .write_image_data(&canvas.pixels)
            .map_err(io::Error::other)?;
        writer.finish().map_err(io::Error::other)
    })?;
    Ok(())
}

struct Canvas {
    width: usize,
    pixels: Vec<u8>,
}

impl Canvas {
    fn height(&self) -> usize {
        self.pixels.len() / self.width.max(1)
    }

    fn set(&mut self, x: usize, y: usize, value: u8) {
        if x < self.width
            && let Some(pixel) = self.pixels.get_mut(y * self.width + x)
        {
            *pixel = value;
        }
    }
}

fn draw(tiles: &[Tile<'_>]) -> Canvas {
    let n = tiles.first().map_or(1, |tile| tile.image.n());
    // Pixels become squares, so that nothing is shown that the average does not hold.
    let zoom = SIDE_MIN.div_ceil(n).max(1);
    let side = n * zoom;
    let columns = COLUMNS.min(tiles.len()).max(1);
    let width = columns * (side + GAP) + GAP;
    let height = tiles.len().div_ceil(columns) * (side + LINE + GAP) + GAP;
    let mut canvas = Canvas {
        width,
        pixels: vec![BACKGROUND; width * height],
    };
    for (at, tile) in tiles.iter().enumerate() {
        let left = GAP + at % columns * (side + GAP);
        let top = GAP + at / columns * (side + LINE + GAP);
        for (index, grey) in greys(tile.image.data()).into_iter().enumerate() {
            for dot in 0..zoom * zoom {
                let (x, y) = (index % n * zoom + dot % zoom, index / n * zoom + dot / zoom);
                canvas.set(left + x, top + y, grey);
            }
        }
        print(&mut canvas, [left + 2, top + side + 3], side, &tile.label);
    }
    canvas
}

fn greys(values: &[f32]) -> Vec<u8> {
    let count = values.len().max(1) as f32;
    let mean = values.iter().sum::<f32>() / count;
    let variance = values
        .iter()
        .map(|value| (value - mean).powi(2))
        .sum::<f32>()
        / count;
    let scale = if variance > 0.0 {
        0.5 / (CONTRAST * variance.sqrt())
    } else {
        0.0
    };
    let grey = |value: &f32| (255.0 * (0.5 + (value - mean) * scale).clamp(0.0, 1.0)) as u8;
    values.iter().map(grey).collect()
}

fn print(canvas: &mut Canvas, [left, top]: [usize; 2], width: usize, text: &str) {
    const ADVANCE: usize = 4 * DOT;
    for (at, letter) in text.chars().take(width / ADVANCE).enumerate() {
        for (y, row) in dots(letter).into_iter().enumerate() {
            for x in (0..3).filter(|x| row >> (2 - x) & 1 == 1) {
                for dot in 0..DOT * DOT {
                    let at = [
                        left + at * ADVANCE + x * DOT + dot % DOT,
                        top + y * DOT + dot / DOT,
                    ];
                    canvas.set(at[0], at[1], INK);
                }
            }
        }
    }
}

/// A letter, three dots wide and five high.
fn dots(letter: char) -> [u8; 5] {
    match letter {
        '0' => [0b111, 0b101, 0b101, 0b101, 0b111],
        '1' => [0b010, 0b110, 0b010, 0b010, 0b111],
        '2' => [0b111, 0b001, 0b111, 0b100, 0b111],
        '3' => [0b111, 0b001, 0b111, 0b001, 0b111],
        '4' => [0b101, 0b101, 0b111, 0b001, 0b001],
        '5' => [0b111, 0b100, 0b111, 0b001, 0b111],
        '6' => [0b111, 0b100, 0b111, 0b101, 0b111],
        '7' => [0b111, 0b001, 0b010, 0b010, 0b010],
        '8' => [0b111, 0b101, 0b111, 0b101, 0b111],
        '9' => [0b111, 0b101, 0b111, 0b001, 0b111],
        'A' => [0b010, 0b101, 0b111, 0b101, 0b101],
        '.' => [0, 0, 0, 0, 0b010],
        ':' => [0, 0b010, 0, 0b010, 0],
        _ => [0; 5],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn averages_stand_in_rows_with_their_lines_below() {
        let image = Image::new(60, (0..3600).map(|i| (i % 60) as f32).collect()).unwrap();
        let tile = |label: &str| Tile {
            image: &image,
            label: label.to_owned(),
        };
        let tiles: Vec<Tile<'_>> = (0..12).map(|_| tile("1: 8")).collect();
        let canvas = draw(&tiles);
        assert_eq!(canvas.width, 10 * 124 + 4);
        assert_eq!(canvas.height(), 2 * 140 + 4);
        // Bright to the right, each pixel two by two, and ink below.
        let at = |x: usize, y: usize| canvas.pixels[y * canvas.width + x];
        assert!(at(GAP + 118, GAP) > at(GAP, GAP));
        assert_eq!(at(GAP + 10, GAP), at(GAP + 11, GAP + 1));
        assert_eq!(at(GAP + 2 + DOT, GAP + 123), INK);
        assert_eq!(at(GAP + 2, GAP + 123), BACKGROUND);

        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("gallery.png");
        write(&path, &tiles).unwrap();
        let file = io::BufReader::new(std::fs::File::open(path).unwrap());
        let info = png::Decoder::new(file).read_info().unwrap();
        assert_eq!(
            info.info().size(),
            (canvas.width as u32, canvas.height() as u32)
        );
    }
}
