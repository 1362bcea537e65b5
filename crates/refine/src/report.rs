//! `report.html` and the pictures in it: gathered from what a refinement knows, drawn by `dewar-report`, written whole.

mod facts;
mod gather;
mod live;
mod particles;
mod publish;

pub use live::Live;

use crate::{
    checkpoint::State, input::Prepared, options::Options, outputs::Ending, postprocess::Found,
    record::InputDigests,
};
use dewar_compute::volume::Volume;
use dewar_formats::atomic::WriteError;
use dewar_report::{Figures, Page, Picture, Stage};
use std::{fs, path::Path};

/// The page.
pub const FILE: &str = "report.html";

/// The folder of its pictures.
pub const PICTURES: &str = "pictures";

/// What a report is made of.
pub struct Source<'a> {
    /// What the user stated.
    pub options: &'a Options,
    /// What was read.
    pub prepared: &'a Prepared,
    /// Of what files.
    pub digests: &'a InputDigests,
    /// After the last round; of iteration 0 before the first.
    pub state: &'a State,
    /// Of all particles, once there is one.
    pub map: Option<&'a Volume>,
    /// Of the half-maps, unmasked.
    pub fsc: Option<&'a [f64]>,
    /// How it ended, once it has.
    pub ending: Option<&'a Ending<'a>>,
}

impl Source<'_> {
    fn stage(&self) -> Stage {
        match self.ending {
            Some(_) => Stage::Finished,
            None => Stage::Running(None),
        }
    }

    fn box_angstrom(&self) -> f64 {
        self.prepared.set.box_size_px as f64 * self.prepared.set.pixel_size_angstrom
    }
}

/// The page, whose pictures are written as files. Gives too what could not be drawn or written.
pub fn page(source: &Source<'_>) -> (Page, Vec<String>) {
    let mut problems = Vec::new();
    let figures = gather::figures(source, &mut problems);
    let pictures = drawn(&figures, &mut problems);
    let written = write_pictures(&source.options.out.join(PICTURES), &pictures);
    problems.extend(written.err().map(|error| error.to_string()));
    let page = Page {
        title: facts::title(source),
        stage: source.stage(),
        round: source.state.iteration,
        rounds_max: source.options.settings.iterations_max,
        written_at: String::new(),
        results: facts::results(source),
        warnings: facts::warnings(source),
        pictures,
        sections: facts::sections(source),
    };
    (page, problems)
}

/// Draws what post-processing found into a folder's own folder of pictures. Gives what could not be drawn.
///
/// # Errors
/// If the disk refuses.
pub fn write_postprocessed(
    out: &Path,
    found: &Found,
    pixel_size_angstrom: f64,
) -> Result<Vec<String>, WriteError> {
    let mut problems = Vec::new();
    let figures = gather::of_postprocessed(found, pixel_size_angstrom);
    write_pictures(&out.join(PICTURES), &drawn(&figures, &mut problems))?;
    Ok(problems)
}

fn drawn(figures: &Figures, problems: &mut Vec<String>) -> Vec<Picture> {
    let mut whole = Vec::new();
    for drawn in dewar_report::pictures(figures) {
        match drawn {
            Ok(picture) => whole.push(picture),
            Err(broken) => problems.push(broken.to_string()),
        }
    }
    whole
}

/// Writes each picture as a file of its own.
///
/// # Errors
/// If the disk refuses.
pub fn write_pictures(folder: &Path, pictures: &[Picture]) -> Result<(), WriteError> {
    if pictures.is_empty() {
        return Ok(());
    }
    fs::create_dir_all(folder).map_err(|source| WriteError {
        path: folder.to_owned(),
        source,
    })?;
    for picture in pictures {
        replace(&folder.join(picture.file_name()), &picture.file_bytes())?;
    }
    Ok(())
}

/// Puts a whole file in the place of what is there. Not forced to disk, as maps are: what a crash takes is drawn again.
fn replace(path: &Path, bytes: &[u8]) -> Result<(), WriteError> {
    let whole = path.with_extension("tmp");
    fs::write(&whole, bytes)
        .and_then(|()| fs::rename(&whole, path))
        .map_err(|source| WriteError {
            path: path.to_owned(),
            source,
        })
}
