//! A picture of all class averages, each over two lines: its number and its particles, then their part of
//! all and its resolution.

use crate::error::RefineError;
use dewar_compute::volume::Image;
use dewar_formats::atomic;
use std::{io, path::Path};

/// About as wide as a screen.
const WIDTH: usize = 1640;

/// Fewest pixels of a tile's side: the lines below need room.
const SIDE_MIN: usize = 160;

/// Between tiles.
const GAP: usize = 8;

/// Each dot of a letter is so many pixels wide and high.
const DOT: usize = 2;

/// From one letter to the next, and from one line to the next.
const ADVANCE: usize = 6 * DOT;
const LINE: usize = 10 * DOT;

/// Of lines below a tile.
const LINES: usize = 2;

/// Grey values beyond so many standard deviations of an average are black or white.
const CONTRAST: f32 = 3.0;

const BACKGROUND: u8 = 16;
const INK: u8 = 235;
const QUIET: u8 = 160;

/// One average.
pub struct Tile<'a> {
    /// Its picture; none of a class that nothing is in.
    pub image: Option<&'a Image>,
    /// What stands below, in digits, blanks and `#.%Å`: first what it is, then how it is.
    pub lines: [String; LINES],
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
    let n = tiles.iter().find_map(|tile| tile.image).map_or(1, Image::n);
    let zoom = SIDE_MIN.div_ceil(n).max(1);
    let side = n * zoom;
    let columns = (WIDTH / (side + GAP)).clamp(1, tiles.len().max(1));
    let row = side + LINES * LINE + GAP;
    let width = columns * (side + GAP) + GAP;
    let height = tiles.len().div_ceil(columns) * row + GAP;
    let mut canvas = Canvas {
        width,
        pixels: vec![BACKGROUND; width * height],
    };
    for (at, tile) in tiles.iter().enumerate() {
        let corner = [GAP + at % columns * (side + GAP), GAP + at / columns * row];
        if let Some(image) = tile.image {
            show(&mut canvas, corner, image, zoom);
        }
        for (line, ink) in [INK, QUIET].into_iter().enumerate() {
            let place = [corner[0] + 2, corner[1] + side + 6 + line * LINE];
            print(&mut canvas, place, ink, &tile.lines[line], side / ADVANCE);
        }
    }
    canvas
}

/// Draws an image so many times as large: what lies between its pixels is interpolated, as it holds nothing finer.
fn show(canvas: &mut Canvas, [left, top]: [usize; 2], image: &Image, zoom: usize) {
    let (n, greys) = (image.n(), greys(image.data()));
    // The middle of a pixel is in the middle of what shows it.
    let between = |at: usize| {
        let place = ((at as f32 + 0.5) / zoom as f32 - 0.5).clamp(0.0, (n - 1) as f32);
        (
            place as usize,
            (place as usize + 1).min(n - 1),
            place.fract(),
        )
    };
    for y in 0..n * zoom {
        let (y0, y1, dy) = between(y);
        for x in 0..n * zoom {
            let (x0, x1, dx) = between(x);
            let along = |row: usize| greys[row * n + x0] * (1.0 - dx) + greys[row * n + x1] * dx;
            let grey = along(y0) * (1.0 - dy) + along(y1) * dy;
            canvas.set(left + x, top + y, grey as u8);
        }
    }
}

/// From 0 to 255.
fn greys(values: &[f32]) -> Vec<f32> {
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
    let grey = |value: &f32| 255.0 * (0.5 + (value - mean) * scale).clamp(0.0, 1.0);
    values.iter().map(grey).collect()
}

fn print(canvas: &mut Canvas, [left, top]: [usize; 2], ink: u8, text: &str, letters_max: usize) {
    for (at, letter) in text.chars().take(letters_max).enumerate() {
        for (y, row) in dots(letter).into_iter().enumerate() {
            for x in (0..5).filter(|x| row >> (4 - x) & 1 == 1) {
                for dot in 0..DOT * DOT {
                    let place = [
                        left + at * ADVANCE + x * DOT + dot % DOT,
                        top + y * DOT + dot / DOT,
                    ];
                    canvas.set(place[0], place[1], ink);
                }
            }
        }
    }
}

/// A letter, five dots wide and seven high.
fn dots(letter: char) -> [u8; 7] {
    match letter {
        '0' => [
            0b01110, 0b10001, 0b10011, 0b10101, 0b11001, 0b10001, 0b01110,
        ],
        '1' => [
            0b00100, 0b01100, 0b00100, 0b00100, 0b00100, 0b00100, 0b01110,
        ],
        '2' => [
            0b01110, 0b10001, 0b00001, 0b00010, 0b00100, 0b01000, 0b11111,
        ],
        '3' => [
            0b11111, 0b00010, 0b00100, 0b00010, 0b00001, 0b10001, 0b01110,
        ],
        '4' => [
            0b00010, 0b00110, 0b01010, 0b10010, 0b11111, 0b00010, 0b00010,
        ],
        '5' => [
            0b11111, 0b10000, 0b11110, 0b00001, 0b00001, 0b10001, 0b01110,
        ],
        '6' => [
            0b00110, 0b01000, 0b10000, 0b11110, 0b10001, 0b10001, 0b01110,
        ],
        '7' => [
            0b11111, 0b00001, 0b00010, 0b00100, 0b01000, 0b01000, 0b01000,
        ],
        '8' => [
            0b01110, 0b10001, 0b10001, 0b01110, 0b10001, 0b10001, 0b01110,
        ],
        '9' => [
            0b01110, 0b10001, 0b10001, 0b01111, 0b00001, 0b00010, 0b01100,
        ],
        'Å' => [
            0b00100, 0b00000, 0b00100, 0b01010, 0b10001, 0b11111, 0b10001,
        ],
        '.' => [
            0b00000, 0b00000, 0b00000, 0b00000, 0b00000, 0b01100, 0b01100,
        ],
        '%' => [
            0b11000, 0b11001, 0b00010, 0b00100, 0b01000, 0b10011, 0b00011,
        ],
        '#' => [
            0b01010, 0b01010, 0b11111, 0b01010, 0b11111, 0b01010, 0b01010,
        ],
        'e' => [
            0b00000, 0b00000, 0b01110, 0b10001, 0b11111, 0b10000, 0b01110,
        ],
        'm' => [
            0b00000, 0b00000, 0b11010, 0b10101, 0b10101, 0b10001, 0b10001,
        ],
        'p' => [
            0b00000, 0b00000, 0b11110, 0b10001, 0b11110, 0b10000, 0b10000,
        ],
        't' => [
            0b01000, 0b01000, 0b11100, 0b01000, 0b01000, 0b01001, 0b00110,
        ],
        'y' => [
            0b00000, 0b00000, 0b10001, 0b10001, 0b01111, 0b00001, 0b01110,
        ],
        _ => [0; 7],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn averages_stand_in_rows_with_their_lines_below() {
        let image = Image::new(60, (0..3600).map(|i| (i % 60) as f32).collect()).unwrap();
        let tile = |image| Tile {
            image,
            lines: ["#1".to_owned(), "8".to_owned()],
        };
        let mut tiles: Vec<Tile<'_>> = (0..12).map(|_| tile(Some(&image))).collect();
        tiles.push(tile(None));
        let canvas = draw(&tiles);
        // Three times as large, eight in a row, and two lines below each.
        assert_eq!(canvas.width, 8 * 188 + 8);
        assert_eq!(canvas.height(), 2 * 228 + 8);
        // Bright to the right, ever brighter in between, and nothing where a class is empty.
        let at = |x: usize, y: usize| canvas.pixels[y * canvas.width + x];
        let row: Vec<u8> = (GAP..GAP + 180).map(|x| at(x, GAP + 90)).collect();
        assert!(row.is_sorted() && row[179] > row[0] + 100, "{row:?}");
        assert_eq!(at(GAP + 4 * 188 + 90, GAP + 228 + 90), BACKGROUND);
        // The second dot of the number sign's first row, and the blank before it.
        let top = GAP + 180 + 6;
        assert_eq!(at(GAP + 2 + DOT, top), INK);
        assert_eq!(at(GAP + 2, top), BACKGROUND);

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
